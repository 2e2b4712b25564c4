"""What every deployment must do, tested from outside through its gateway and its buckets.

The tests run against the local stack, or with `--deployment FILE` against any other deployment. Nothing else may start
runs there during the tests: another run might add the test users first. FILE has lines as `infra/local env` prints
them, with the key of an operator who may list, write and delete in the source bucket, and read the result bucket. The
test users have user_ids of 18 digits with a random prefix. Their files are removed at the end; their rows stay in the
table.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from secrets import randbelow
from typing import Any

import pytest

from tests.samples import samples
from tests.stack import Deployment, Response, read_env

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 1000
BOM = "\ufeff"


@dataclass(frozen=True)
class ExternalDeployment(Deployment):
    """A deployment whose settings are in a file."""

    file: Path

    @cached_property
    def settings(self) -> Mapping[str, str]:
        return read_env(self.file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def deployment(request: pytest.FixtureRequest) -> Deployment:
    if (file := request.config.getoption("--deployment")) is not None:
        return ExternalDeployment(file)
    local: Deployment = request.getfixturevalue("stack")
    return local


class People:
    """The users of a test. Their user_ids share a random prefix of twelve digits."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment, self.bucket = deployment, deployment.bucket
        self.prefix = f"{randbelow(10**12):012}"
        self._keys: set[str] = set()

    def id(self, number: int) -> str:
        return f"{self.prefix}{number:06}"

    def put(self, key: str, body: bytes) -> None:
        self._keys.add(key)
        self.bucket.put(key, body)

    def put_person(self, number: int, last: str = "Lovelace", birthts: int = 0) -> None:
        self.put(f"{self.id(number)}.csv", f"first_name,last_name,birthts\nAda,{last},{birthts}\n".encode())

    def run(self) -> dict[str, Any]:
        """Run process-data for these users. The run waits for other runs that hold segments of these users."""
        user_ids = sorted({key.partition(".")[0] for key in self._keys})
        summary = self.deployment.process("?" + "&".join(f"user_id={user_id}" for user_id in user_ids))
        assert summary["remaining"] == 0
        return summary

    def get(self, query: str = "", *numbers: int, **headers: str) -> Response:
        ids = "&".join(f"user_id={self.id(number)}" for number in numbers)
        return self.deployment.request("GET", f"/function/query-data?{ids}{query}", b"", **headers)

    def rows(self, query: str = "", *numbers: int) -> list[dict[str, Any]]:
        response = self.get(query, *numbers)
        assert response.status == 200, response.body
        people: list[dict[str, Any]] = response.json()["result"]
        return people

    def output(self) -> list[dict[str, str]]:
        return [row for row in self._exported_rows("output.csv") if row["user_id"].startswith(self.prefix)]

    def rejections(self) -> list[dict[str, str]]:
        return [row for row in self._exported_rows("rejected.csv") if row["object"].startswith(self.prefix)]

    def _exported_rows(self, key: str) -> list[dict[str, str]]:
        """Repeat the run until output.csv is up to date, and return the rows of an output file.

        rejected.csv may still be behind.
        """
        self.deployment.wait_until(lambda: not self.run()["output"]["pending"])
        return self.bucket.read_rows(key)

    def remove(self) -> None:
        for key in self._keys:
            self.bucket.remove(key)


@pytest.fixture
def people(deployment: Deployment) -> Iterator[People]:
    people = People(deployment)
    try:
        yield people
    finally:
        people.remove()
        if deployment.bucket.is_empty():
            deployment.process("?accept_empty=1")  # otherwise the next run would fail with source_empty
        else:
            people.run()


def test_people_are_added_and_updated_and_lose_their_photo(people: People) -> None:
    source = people.deployment.settings["source_bucket"]
    people.put_person(1, birthts=445_854_600_000)
    people.put_person(2)
    people.put(f"{people.id(1)}.png", PNG)
    first = people.run()
    assert (first["status"], first["listed"], first["added"], first["rejected"]) == ("done", 3, 2, 0)
    [first_person, second_person] = people.rows("", 1, 2)
    assert (first_person["user_id"], first_person["birthdate"], first_person["img_path"]) == (
        people.id(1),
        "1984-02-17",
        f"{source}/{people.id(1)}.png",
    )
    assert second_person["img_path"] is None
    assert [row["birthts"] for row in people.output()] == ["445854600000", "0"]
    people.put_person(2, "Byron")
    people.bucket.remove(f"{people.id(1)}.png")
    second = people.run()
    assert (second["updated"], second["unchanged"], second["images_changed"]) == (1, 1, 1)
    assert [(row["last_name"], row["img_path"]) for row in people.output()] == [("Lovelace", ""), ("Byron", "")]
    third = people.run()
    assert (third["updated"], third["unchanged"], third["images_changed"]) == (0, 2, 0)


def test_bad_files_are_reported_and_do_not_block_others(people: People) -> None:
    bad = [sample for sample in samples("bad") if sample.key is None]
    for number, sample in enumerate(bad):
        people.put(f"{people.id(number)}.csv", sample.body)
    people.put_person(len(bad))
    summary = people.run()
    assert (summary["added"], summary["rejected"]) == (1, len(bad))
    reported = {item["object"]: (item["code"], item["line"]) for item in summary["rejections"]}
    assert reported == {
        f"{people.id(number)}.csv": (sample.expected["code"], sample.expected["line"])
        for number, sample in enumerate(bad)
    }
    codes = {key: code for key, (code, _) in reported.items()}
    people.deployment.wait_until(lambda: {row["object"]: row["code"] for row in people.rejections()} == codes)


def test_a_run_for_named_users_processes_no_others(people: People) -> None:
    people.put_person(1)
    people.put_person(2)
    summary = people.deployment.process(f"?user_id={people.id(1)}&user_id={people.id(3)}")
    assert (summary["status"], summary["listed"], summary["added"], summary["rejected"]) == ("done", 1, 1, 0)
    assert [person["user_id"] for person in people.rows("", 1, 2, 3)] == [people.id(1)]


def test_an_older_version_can_be_uploaded_again(people: People) -> None:
    for last in ("First", "Second", "First"):
        people.put_person(1, last)
        assert people.run()["rejected"] == 0
        assert [person["last_name"] for person in people.rows("", 1)] == [last]


def test_an_event_processes_the_user_it_names(people: People) -> None:
    people.put_person(1)
    people.put_person(2)
    response = people.deployment.event(f"{people.id(1)}.csv")
    assert (response.status, response.json()["trigger"]) == (200, "event")
    people.deployment.wait_until(lambda: bool(people.rows("", 1, 2)))  # a run from before the test may hold the segment
    assert [person["user_id"] for person in people.rows("", 1, 2)] == [people.id(1)]


def test_filters_pages_and_formats_work_together(people: People) -> None:
    for number in range(5):
        people.put_person(number, birthts=number * 86_400_000)
    people.put(f"{people.id(3)}.png", PNG)
    people.run()
    everyone = range(5)
    ages = [person["age"] for person in people.rows("", *everyone)]
    assert ages == sorted(ages, reverse=True)
    assert len(people.rows(f"&min_age={ages[1]}", *everyone)) == 2
    assert [person["user_id"] for person in people.rows("&is_image_exists=true", *everyone)] == [people.id(3)]
    page = people.get("&limit=2&sort=-birthdate&count=1", *everyone).json()
    assert ([person["user_id"] for person in page["result"]], page["count"]) == ([people.id(4), people.id(3)], 5)
    rest = people.deployment.request("GET", "/function/query-data" + page["next"]).json()
    assert [person["user_id"] for person in rest["result"]] == [people.id(2), people.id(1)]
    *lines, last = people.get("&format=ndjson", *everyone).body.decode().splitlines()
    assert json.loads(last) == {"next": None}
    assert [json.loads(line)["user_id"] for line in lines] == [people.id(number) for number in everyone]
    text = people.get("", *everyone, Accept="text/csv").body.decode()
    assert text.startswith(BOM + "id,user_id,")
    assert len(text.splitlines()) == 7
    assert text.endswith("\n#end\n")
    html = people.get("", *everyone, Accept="text/html,*/*;q=0.5")
    assert html.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in html.headers["Content-Security-Policy"]
    assert people.id(4) in html.body.decode()


def test_a_matching_etag_gets_304_and_head_has_the_etag_of_get(people: People) -> None:
    people.put_person(1)
    people.run()
    first = people.get("", 1)
    again = people.get("", 1, If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    head = people.deployment.request("HEAD", f"/function/query-data?user_id={people.id(1)}")
    assert (head.status, head.body, head.headers["ETag"]) == (200, b"", first.headers["ETag"])


def test_a_photo_is_returned_unchanged(people: People) -> None:
    people.put_person(1)
    people.put(f"{people.id(1)}.png", PNG)
    people.run()
    path = f"/function/query-data/photo/{people.id(1)}"
    photo = people.deployment.request("GET", path)
    assert (photo.status, photo.headers["Content-Type"], photo.body) == (200, "image/png", PNG)
    assert people.deployment.request("GET", path, b"", If_None_Match=photo.headers["ETag"]).status == 304


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "process-data", 405, "method_not_allowed"),
        ("POST", "process-data?user_id=x", 400, "bad_parameter"),
        ("POST", "process-data?user_id=1&fan_out=2", 400, "bad_parameter"),
        ("POST", "process-data/elsewhere", 404, "not_found"),
        ("POST", "query-data", 405, "method_not_allowed"),
        ("GET", "query-data?min_age=thirty", 400, "bad_parameter"),
        ("GET", "query-data/nowhere", 404, "not_found"),
        ("GET", "query-data/photo/{nobody}", 404, "no_photo"),
    ],
)
def test_errors_of_functions_are_json(deployment: Deployment, method: str, path: str, status: int, code: str) -> None:
    response = deployment.request(method, f"/function/{path.format(nobody=randbelow(10**18))}")
    assert (response.status, response.json()["error"]["code"]) == (status, code)
    assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("path", ["stats", "rejected", "runs", "openapi.json", "healthz"])
def test_other_endpoints_return_json(deployment: Deployment, path: str) -> None:
    response = deployment.request("GET", f"/function/query-data/{path}")
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    assert response.json()
