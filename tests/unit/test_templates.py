"""The texts and links of the web pages, rendered from given data."""

import json
import re
from html import unescape
from typing import Any

import pytest
from query_data.paging import Page
from query_data.shared.api import ApiError
from query_data.web.errors import render_error
from query_data.web.form import controls
from query_data.web.histogram import HEIGHT, bars
from query_data.web.page import render
from query_data.web.people import _links
from query_data.web.table import table_page
from werkzeug.datastructures import MultiDict

from tests.event import Event

PERSON = {
    "user_id": "007",
    "first_name": "Ada",
    "last_name": "Byron",
    "birthdate": "1990-03-05",
    "img_path": None,
    "age": 29.99,
}
RUN = {
    "id": 3,
    "trigger": "cron",
    "call_id": None,
    "scope": "bucket",
    "started_at": "2026-01-02T03:04:05+00:00",
    "finished_at": "2026-01-02T03:06:07+00:00",
    "status": "done",
    "summary": {"added": 1000, "updated": 2, "unchanged": 3, "rejected": 4, "remaining": 0, "unreadable": 5},
    "error": None,
}
REJECTED = {
    "object": "1.csv",
    "line": 1234,
    "code": "not_utf8",
    "message": "byte 7",
    "first_seen": "2026-01-02T03:04:05+00:00",
    "last_seen": "2026-03-04T05:06:07+00:00",
}
QUERY = MultiDict([("user_id", "1"), ("user_id", "2"), ("name", ""), ("sort", "-user_id"), ("limit", "5"),
                   ("after", "here"), ("format", "html")])  # fmt: skip


def text(html: str) -> str:
    """Return the text of HTML, with single spaces."""
    body = html.partition("<body>")[2] or html
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def links(html: str) -> dict[str, str]:
    """Return the targets of the links by their texts."""
    anchors = re.findall(r'<a [^>]*?href="([^"]*)"[^>]*>(.*?)</a>', html, re.DOTALL)
    return {text(label): unescape(target) for target, label in anchors}


def people_page(*, shown: Any = (PERSON,), files: Any = (), **content: Any) -> str:
    """Render the page of the people `shown` and the rejected `files`.

    `content` replaces figures (`people` is the number of people) and other variables of the template.
    """
    figures = {"people": 1, "with_photo": 0, "without_photo": 1, "rejected": 0, "last_run": None}
    figures |= {name: content.pop(name) for name in figures if name in content}
    ages = [{"from": 0, "under": 10, "people": 0}, {"from": 10, "under": 20, "people": 1}]
    defaults = {
        "people": shown,
        "rejected": files,
        "figures": figures,
        "bars": bars(ages),
        "bar_height": HEIGHT,
        "controls": [],
        "is_filtered": False,
        "is_continued": False,
        "reasons": [],
        "sort": "user_id",
        "links": _links(MultiDict(), None),
    }
    return render("people.html", "/", **(defaults | content)).decode()


def table_html(table: str, *items: dict[str, Any], cursor: str | None = None, query: Any = None) -> str:
    """Render the page of rejected files or of runs."""
    page = Page("".join(f"{json.dumps(item)}\n" for item in items).encode(), [], cursor)
    return table_page(f"{table}.html", f"/{table}", MultiDict(query or []), page).decode()


def cells(html: str) -> list[str]:
    """Return the texts of the cells in the body of the first table."""
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    return [text(cell) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", body, re.DOTALL)]


def test_links_of_the_people_page_keep_the_parameters_that_belong_to_them() -> None:
    filters = "?user_id=1&user_id=2"
    assert _links(QUERY, "there") == {
        "first": f"{filters}&sort=-user_id&limit=5&format=html",
        "next": f"{filters}&sort=-user_id&limit=5&format=html&after=there",
        "sort": {
            order: f"{filters}&limit=5&format=html&sort={order}"
            for order in ("user_id", "-user_id", "last_name", "-last_name", "birthdate", "-birthdate")
        },
        "csv": f"{filters}&sort=-user_id&format=csv",
        "json": f"{filters}&sort=-user_id&format=json",
    }
    assert _links(QUERY, None)["next"] is None


@pytest.mark.parametrize(
    ("people", "is_filtered", "expected"),
    [(1, False, "1 person"), (2, False, "2 people"), (1, True, "1 person matches"), (1234, True, "1,234 people match")],
)
def test_the_heading_has_the_number_of_people(people: int, is_filtered: bool, expected: str) -> None:
    page = people_page(people=people, is_filtered=is_filtered)
    assert text(page.partition("<h1")[2].partition(">")[2].partition("</h1>")[0]) == expected
    assert f"<title>{expected.partition(' match')[0]} · Rollcall</title>" in page


def test_the_figures_have_their_labels() -> None:
    page = people_page(people=30, with_photo=1000, without_photo=20, rejected=7)
    assert re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page) == [
        ("With a photo", "1,000"),
        ("Without", "20"),
        ("Files rejected", '<a href="#rejected">7</a>'),
    ]
    assert "<dt>Files rejected</dt><dd>0</dd>" in people_page()
    assert 'id="rejected"' not in people_page()


def test_the_age_groups_are_named_by_their_first_and_last_age() -> None:
    page = people_page()
    assert "0 to 9 years: 0; 10 to 19 years: 1</desc>" in page
    assert re.findall(r"<title>([^<]*years[^<]*)</title>", page) == ["0 to 9 years: 0", "10 to 19 years: 1"]
    assert re.findall(r'<th scope="row">(.*?)</th><td class="number">(.*?)</td>', page) == [
        ("0 to 9", "0"),
        ("10 to 19", "1"),
    ]
    assert re.findall(r'<text class="tick" [^>]*>(.*?)</text>', page) == ["0", "10"]


def test_a_person_has_a_name_an_id_a_birthdate_and_an_age_rounded_down() -> None:
    table = people_page().partition('<table class="people">')[2]
    assert cells(table) == ["AB no photo", "Ada Byron 007", "007", "5 Mar 1990", "29.9"]
    assert '<time datetime="1990-03-05">' in table
    with_photo = people_page(shown=[PERSON | {"img_path": "src/007.png"}])
    assert 'href="query-data/photo/007"><img src="query-data/photo/007" alt="Photo of Ada Byron"' in with_photo
    assert "no photo" not in with_photo


@pytest.mark.parametrize(("name", "column"), [("Name", "last_name"), ("User ID", "user_id"), ("Born", "birthdate")])
def test_the_headers_of_a_table_sort_by_their_columns(name: str, column: str) -> None:
    for sort, arrow, state, other in (
        (column, "↑", "ascending", f"-{column}"),
        (f"-{column}", "↓", "descending", column),
    ):
        page = people_page(sort=sort)
        assert links(page)[f"{name} {arrow}"] == f"?sort={other}"
        assert re.findall(r'aria-sort="(\w+)"', page) == [state]
    assert links(people_page(sort="other"))[name] == f"?sort={column}"


def test_a_page_of_people_says_which_part_of_the_result_it_is() -> None:
    first = people_page(people=1234, links=_links(MultiDict(), "there"))
    assert "<span>1 of 1,234</span>" in first
    assert "People: 1 of 1,234</caption>" in first
    assert ("← First page" in links(first), links(first)["Next page →"]) == (False, "?after=there")
    last = people_page(people=1234, is_continued=True)
    assert "People, continued: 1 of 1,234</caption>" in last
    assert (links(last)["← First page"], "Next page →" in links(last)) == ("?", False)
    assert 'class="pages"' not in people_page()
    assert links(first)["CSV"] == "?format=csv"
    assert links(first)["JSON"] == "?format=json"
    end = people_page(shown=[], is_continued=True, links=_links(MultiDict([("limit", "2")]), None))
    assert "No more results" in text(end)
    assert links(end)["Back to the first page"] == "?limit=2"


def test_a_page_without_a_match_links_to_everyone() -> None:
    page = people_page(people=0, is_filtered=True)
    assert "No one matches" in text(page)
    assert links(page)["show everyone"] == "?"


def test_the_people_page_has_the_first_rejected_files_and_the_reasons() -> None:
    files = [REJECTED, REJECTED | {"object": "2.csv", "line": None}]
    page = people_page(rejected=1205, files=files, reasons=[("nul_byte", 1200), ("not_utf8", 5)])
    section = page.partition('id="rejected"')[2]
    assert "1,205 files rejected" in text(section)
    assert [text(item) for item in re.findall("<li>.*?</li>", section)] == ["1,200 NUL byte", "5 not UTF-8"]
    assert cells(section) == ["1.csv", "1,234", "byte 7", "2.csv", "", "byte 7"]
    assert "The first 2 of 1,205." in text(section)
    assert links(section)["All rejected files"] == "query-data/rejected"
    full_list = people_page(rejected=2, files=files)
    assert "The first" not in text(full_list)
    assert "1 file rejected" in text(people_page(rejected=1, files=files[:1]))
    for number, is_open in ((5, True), (6, False)):
        assert ("<details open>" in people_page(rejected=number, files=files)) is is_open


@pytest.mark.parametrize(
    ("status", "state", "outcome"),
    [
        ("running", "Run in progress since 2 Jan 2026, 03:04 UTC", "In progress."),
        ("done", "Last run complete , 2 Jan 2026, 03:06 UTC", "Complete."),
        ("partial", "Last run incomplete , 2 Jan 2026, 03:06 UTC", "Incomplete: some work is left for a later run."),
        ("failed", "Last run failed , 2 Jan 2026, 03:06 UTC", "Failed."),
    ],
)
def test_the_people_page_has_the_state_of_the_last_run(status: str, state: str, outcome: str) -> None:
    run = RUN | {"status": status, "finished_at": None if status == "running" else RUN["finished_at"]}
    page = people_page(last_run=run)
    header, _, section = page.partition('id="run"')
    assert state in text(header)
    assert f'<span class="dot {status}"' in header
    moment = "started_at" if status == "running" else "finished_at"
    assert f'<time datetime="{RUN[moment]}">' in header
    assert f"Started by the schedule on 2 Jan 2026, 03:04 UTC . {outcome} " in text(section)
    assert links(section)["All runs"] == "query-data/runs"
    assert re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", section) == [
        ("Added", "1,000"),
        ("Updated", "2"),
        ("Unchanged", "3"),
        ("Remaining", "0"),
        ("Unreadable", "5"),
    ]
    assert 'class="error"' not in section


def test_the_people_page_names_the_trigger_and_the_error_of_the_last_run() -> None:
    for trigger, name in (
        ("cron", "the schedule"),
        ("http", "a request"),
        ("event", "a bucket event"),
        ("continuation", "a continuation request"),
    ):
        page = people_page(last_run=RUN | {"trigger": trigger, "status": "failed", "summary": None, "error": "S3 <b>"})
        assert f"Started by {name} on" in text(page)
        assert '<p class="error" dir="auto">S3 &lt;b&gt;</p>' in page
    assert "No run yet" in text(people_page())


def test_the_page_of_runs_names_triggers_scopes_and_statuses() -> None:
    html = table_html(
        "runs",
        RUN | {"trigger": "http", "status": "running", "finished_at": None, "summary": None},
        RUN | {"trigger": "event", "scope": "users", "status": "partial"},
        RUN | {"trigger": "continuation", "status": "failed", "summary": None, "error": "no S3"},
        RUN,
    )
    counts = [f"{name} {count}" for name, count in (("Added", "1,000"), ("Updated", "2"), ("Rejected", "4"),
                                                    ("Remaining", "0"), ("Unreadable", "5"))]  # fmt: skip
    assert cells(html) == [
        *("2 Jan 2026, 03:04", "In progress", "Request", "Bucket", "", *[""] * 5),
        *("2 Jan 2026, 03:04", "Incomplete", "Bucket event", "Users", "2 min 2 s", *counts),
        *("2 Jan 2026, 03:04", "Failed", "Continuation", "Bucket", "2 min 2 s", *[""] * 5, "no S3"),
        *("2 Jan 2026, 03:04", "Complete", "Schedule", "Bucket", "2 min 2 s", *counts),
    ]
    headers = html.partition("<thead>")[2].partition("</thead>")[0]
    assert [text(header) for header in re.findall("<th.*?</th>", headers)] == [
        *("Started", "Status", "Trigger", "Scope", "Duration"),
        *("Added", "Updated", "Rejected", "Remaining", "Unreadable"),
    ]
    # narrow windows hide zeros, but no other counts
    assert 'class="number count zero"><span class="label">Remaining' in html
    assert 'class="number count zero"><span class="label">Added' not in html


def test_the_page_of_rejected_files_distinguishes_when_a_file_was_first_rejected_and_last_changed() -> None:
    html = table_html("rejected", REJECTED, REJECTED | {"line": None})
    times = ["First seen 2 Jan 2026, 03:04", "Last changed 4 Mar 2026, 05:06"]
    assert cells(html) == [
        *("1.csv", "Line 1,234", "not UTF-8 byte 7", *times),
        *("1.csv", "", "not UTF-8 byte 7", *times),
    ]
    headers = html.partition("<thead>")[2].partition("</thead>")[0]
    assert [text(header) for header in re.findall("<th.*?</th>", headers)] == [
        "File", "Line", "Reason", "First seen", "Last changed",
    ]  # fmt: skip
    assert re.findall(r'datetime="(.*?)"', html) == [REJECTED["first_seen"], REJECTED["last_seen"]] * 2


def test_a_table_links_only_to_pages_that_exist_and_keeps_the_parameters() -> None:
    query = [("limit", "1"), ("format", "html"), ("after", "here")]
    page = table_html("runs", RUN, query=query, cursor="there")
    assert {
        label: links(page)[label] for label in ("← First page", "Next page →", "JSON", "Rejected files", "Runs")
    } == {
        "← First page": "?limit=1&format=html",
        "Next page →": "?limit=1&format=html&after=there",
        "JSON": "?format=json&limit=1000",
        "Rejected files": "./rejected",
        "Runs": "?",
    }
    assert not {"← First page", "Next page →"} & links(table_html("runs", RUN)).keys()
    assert links(table_html("runs", query=query))["Back to the first page"] == "?limit=1&format=html"


@pytest.mark.parametrize(
    ("status", "path", "heading", "link"),
    [
        (400, "/", "Invalid request", ("Show everyone", "?")),
        (400, "/runs", "Invalid request", ("Back to the first page", "?")),
        (401, "/", "Authentication required", None),
        (404, "/x/y", "Not found", ("Show everyone", "../")),
        (405, "/", "Something went wrong", None),
        (500, "/", "Something went wrong", None),
        (503, "/", "Temporarily unavailable", ("Try again", "")),
    ],
)
def test_an_error_page_has_a_heading_the_message_and_a_link_if_one_helps(
    status: int, path: str, heading: str, link: tuple[str, str] | None
) -> None:
    response = render_error(Event(path, "GET"), ApiError(status, "code", "message <b>", headers={"Allow": "GET"}))
    page = response.get_data(as_text=True)
    assert (response.status_code, response.headers["Allow"]) == (status, "GET")
    assert f"<h1>{heading}</h1>" in page
    assert f"<title>{heading} · Rollcall</title>" in page
    assert '<p class="error" dir="auto">message &lt;b&gt;</p>' in page
    main = page.partition("<main")[2].partition("</main>")[0]
    assert links(main) == dict([link] if link else [])
    assert ("<form" in page) is (status == 400 and path == "/")


def test_the_message_about_an_invalid_field_is_only_beside_it() -> None:
    error = ApiError(400, "bad_parameter", "expected a number", parameter="max_age")
    page = render_error(Event("/?min_age=1&max_age=x", "GET"), error).get_data(as_text=True)
    assert page.count("expected a number") == 1
    assert '<p class="error" id="max_age-error">expected a number</p>' in page
    assert re.findall(r'id="(\w+)"[^>]* aria-invalid="true" aria-describedby="([\w-]+)"', page) == [
        ("max_age", "max_age-error")
    ]
    main = page.partition("<main")[2].partition("</main>")[0]
    assert "Correct the highlighted field" in main
    assert links(main) == {"show everyone": "?"}
    assert links(page)["Clear filters"] == "?"


def test_the_choices_of_the_form_have_labels() -> None:
    assert {control.name: control.choices for control in controls(MultiDict()) if control.choices} == {
        "is_image_exists": {"": "With or without", "true": "With a photo", "false": "Without a photo"},
        "sort": {
            "user_id": "User ID",
            "-user_id": "User ID, descending",
            "birthdate": "Oldest first",
            "-birthdate": "Youngest first",
            "last_name": "Last name, A–Z",
            "-last_name": "Last name, Z–A",
        },
    }


def test_the_fields_of_the_form_allow_what_the_api_allows() -> None:
    age_input = {"type": "number", "step": "any", "inputmode": "decimal", "min": "0", "max": "200"}
    text_input = {"type": "text", "autocomplete": "off", "placeholder": "any"}
    assert {control.name: control.attributes for control in controls(MultiDict()) if not control.choices} == {
        "name": text_input | {"maxlength": "200"},
        "min_age": age_input | {"placeholder": "0"},
        "max_age": age_input | {"placeholder": "any"},
        "user_id": text_input | {"pattern": "^[0-9]{1,18}$", "title": "1 to 18 digits"},
        "limit": {
            "type": "number",
            "step": "1",
            "inputmode": "numeric",
            "min": "1",
            "max": "1000",
            "placeholder": "50",
        },
    }
