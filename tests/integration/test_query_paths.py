"""The paths beside the people, who may ask, and how query-data starts and ends."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import urllib3
from query_data.application import MAX_STREAMS
from query_data.shared.storage.records import Connection
from query_data.shared.storage.settings import RecordsSettings, load

from tests.integration.test_query_pages import add, changed, get
from tests.packages import PACKAGES
from tests.replica import Replica, first_answer, query_replica, replica
from tests.stack import Answer, Stack

PNG, JPEG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2000, b"\xff\xd8\xff" + b"jpeg" * 100_000


def test_stats_of_an_empty_roll(roll: Stack) -> None:
    nobody = {"people": 0, "with_photo": 0, "without_photo": 0}
    assert get(roll, "/stats").json() == nobody | {"ages": [], "rejected": 0, "last_run": None}


def test_stats_count_photos_ages_and_rejections_and_tell_of_the_last_run(roll: Stack) -> None:
    now = time.time() * 1000
    for number, years in enumerate((0, 9.5, 10.5, 34, 35, 36, 101)):
        roll.bucket.put_person(str(number), birthts=int(now - years * 365.2425 * 86_400_000))
    roll.bucket.put("1.png", PNG)
    roll.bucket.put("bad.csv", b"")
    run = roll.process()
    stats = get(roll, "/stats").json()
    assert (stats["people"], stats["with_photo"], stats["without_photo"], stats["rejected"]) == (7, 1, 6, 1)
    counted = {0: 2, 10: 1, 30: 3, 100: 1}
    assert {bar["from"]: bar["people"] for bar in stats["ages"]} == {
        **dict.fromkeys(range(0, 101, 10), 0),
        **counted,
    }
    assert all(bar["under"] == bar["from"] + 10 for bar in stats["ages"])
    assert (stats["last_run"]["id"], stats["last_run"]["status"]) == (run["run_id"], "done")
    assert stats["last_run"]["summary"]["added"] == 7
    assert get(roll, "/stats?min_age=30&max_age=35.5").json()["people"] == 2
    assert get(roll, "/stats?is_image_exists=1").json()["ages"] == [{"from": 0, "under": 10, "people": 1}]


@pytest.mark.parametrize("path", ["/stats", "/rejected", "/runs"])
def test_what_runs_change_has_an_etag(roll: Stack, path: str) -> None:
    roll.bucket.put("bad.csv", b"")
    roll.process()
    etag = get(roll, path).headers["ETag"]
    assert get(roll, path, If_None_Match=etag).status == 304
    roll.bucket.put("worse.csv", b"")
    roll.process()
    assert get(roll, path, If_None_Match=etag).status == 200


def everything(roll: Stack, path: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    url: str | None = f"?limit={limit}"
    while url is not None:
        answer = get(roll, path + url).json()
        assert len(answer["result"]) <= limit
        found += answer["result"]
        url = answer["next"]
    return found


def test_rejected_lists_what_was_refused_page_by_page(roll: Stack) -> None:
    keys = ["a b.csv", "ü'\".csv", "x.csv", "%.csv"]
    for key in keys:
        roll.bucket.put(key, b"")
    roll.process()
    found = everything(roll, "/rejected", 2)
    assert [one["object"] for one in found] == sorted(keys, key=str.encode)
    assert set(found[0]) == {"object", "line", "code", "message", "first_seen", "last_seen"}
    assert {one["code"] for one in found} == {"bad_name"}
    assert get(roll, "/rejected").json() == {"result": found, "next": None}


def test_runs_lists_what_ran_the_latest_first(roll: Stack) -> None:
    ran = [roll.process("?user_id=4" if n % 2 else "")["run_id"] for n in range(7)]
    found = everything(roll, "/runs", 3)
    assert [one["id"] for one in found] == ran[::-1]
    assert [one["scope"] for one in found] == ["bucket", "users", "bucket", "users", "bucket", "users", "bucket"]
    assert all(one["finished_at"] >= one["started_at"] for one in found)


def photo(roll: Stack, user_id: str, method: str = "GET", **headers: str) -> Answer:
    return roll.request(method, f"/function/query-data/photo/{user_id}", b"", **headers)


def test_a_photo_is_its_bytes_with_type_and_etag(roll: Stack) -> None:
    for user_id, ending, body in (("1", "png", PNG), ("2", "jpg", JPEG), ("3", "jpeg", JPEG), ("4", "png", b"")):
        roll.bucket.put_person(user_id)
        roll.bucket.put(f"{user_id}.{ending}", body)
    roll.process()
    types = ("image/png", "image/jpeg", "image/jpeg", "image/png")
    for user_id, body, kind in zip("1234", (PNG, JPEG, JPEG, b""), types, strict=True):
        answer = photo(roll, user_id)
        assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, kind, body)
        assert answer.headers["Content-Length"] == str(len(body))
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        head = photo(roll, user_id, "HEAD")
        assert (head.status, head.body) == (200, b"")
        for name in ("ETag", "Content-Type", "Content-Length"):
            assert head.headers[name] == answer.headers[name]
        assert photo(roll, user_id, If_None_Match=answer.headers["ETag"]).status == 304
    etag = photo(roll, "1").headers["ETag"]
    roll.bucket.put("1.png", b"another")
    assert photo(roll, "1", If_None_Match=etag).body == b"another"


@pytest.mark.parametrize(
    "img_path",
    [
        "res/output.csv",
        "res/1.png",
        "src/../res/output.csv",
        "src/2.png",
        "src/1.csv",
        "src/a/1.png",
        "1.png",
        "src/1.pngx",
    ],
)
def test_no_photo_comes_from_elsewhere(roll: Stack, img_path: str) -> None:
    add(roll, "1")
    roll.bucket.put("2.png", PNG)
    roll.sql("update users set img_path = :img_path", img_path=img_path)
    answer = photo(roll, "1")
    assert (answer.status, answer.json()["error"]["code"]) == (404, "no_photo")


def test_a_photo_that_is_not_there_is_a_404_in_json(roll: Stack) -> None:
    add(roll, "1")
    add(roll, "2", photo=True)  # by the roll, but the object is gone
    for user_id in ("1", "2", "3"):
        for method in ("GET", "HEAD"):
            answer = photo(roll, user_id, method)
            assert (answer.status, answer.headers["Content-Type"]) == (404, "application/json")
        assert photo(roll, user_id).json()["error"]["message"] == f"there is no photo of {user_id}"


@pytest.mark.parametrize("path", ["x", "1/2", "1.png", "", "..%2f..%2fsrc", "1" * 19, "١"])
def test_a_photo_is_asked_for_by_user_id_alone(roll: Stack, path: str) -> None:
    assert (photo(roll, path).status, photo(roll, path).json()["error"]["code"]) == (404, "not_found")


def test_the_photos_key_reads_the_source_bucket_and_nothing_else(roll: Stack) -> None:
    roll.process()
    with query_replica(roll, source_bucket="res") as replica:
        roll.sql("insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified) "
                 "values ('1', 'A', 'B', 0, 'res/1.png', 'e', now())")  # fmt: skip
        answer = replica.request("GET", "/photo/1")
        assert (answer.status, answer.json()["error"]["code"]) == (503, "s3_refused")


def test_s3_being_away_is_a_503_for_photos_and_nothing_to_the_rest(roll: Stack) -> None:
    add(roll, "1", photo=True)
    with query_replica(roll, s3_endpoint="127.0.0.1:1", s3_timeout="1") as replica:
        answer = replica.request("GET", "/photo/1")
        assert (answer.status, answer.json()["error"]["code"]) == (503, "s3_unavailable")
        assert replica.request("GET", "/").status == 200


TOKEN = "correct horse: battery"


def basic(password: str) -> str:
    return "Basic " + b64encode(f"anyone:{password}".encode()).decode()


WRONG = [
    *("Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", f"Digest {TOKEN}", TOKEN, "Basic !"),
    *(basic(""), basic("wrong"), "Basic " + b64encode(TOKEN.encode()).decode(), "Bearer \xe9"),
]


@pytest.mark.parametrize(
    "path", ["/", "/?format=csv", "/stats", "/rejected", "/runs", "/photo/1", "/openapi.json", "/x"]
)
def test_with_an_api_token_everything_but_healthz_needs_it(roll: Stack, token_replica: Any, path: str) -> None:
    for wrong in WRONG:
        answer = token_replica.request("GET", path, Authorization=wrong)
        assert (answer.status, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="Rollcall", Bearer'
    assert token_replica.request("GET", path).status == 401
    for good in (f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)):
        assert token_replica.request("GET", path, Authorization=good).status in (200, 404)
    assert token_replica.request("GET", "/healthz").status == 200


@pytest.mark.parametrize("auth", ["token", "none"])
def test_the_description_says_whether_a_token_is_required(roll: Stack, token_replica: Any, auth: str) -> None:
    if auth == "token":
        described = token_replica.request("GET", "/openapi.json", Authorization=f"Bearer {TOKEN}").json()
    else:
        described = get(roll, "/openapi.json").json()
    assert described["security"] == {"token": [{"bearer": []}, {"basic": []}], "none": [{}]}[auth]
    assert described["paths"]["/healthz"]["get"]["security"] == [{}]


@pytest.fixture(scope="module")
def token_replica(fresh: Any, stack: Stack) -> Any:
    fresh()
    with query_replica(stack, auth="token", api_token=TOKEN) as replica:
        yield replica
        assert TOKEN not in "\n".join(replica.lines())


def test_the_log_has_each_requests_call_id_and_no_names(roll: Stack) -> None:
    with query_replica(roll) as replica:
        replica.request("GET", "/?name=secret", X_Call_Id="call-1")
        replica.request("GET", "/?limit=0", X_Call_Id="call-2")
        replica.request("GET", "/healthz", X_Call_Id="call-3")
        lines = [json.loads(line) for line in replica.lines()]
    assert [(one["call_id"], one["path"], one["status"]) for one in lines] == [
        ("call-1", "/", 200),
        ("call-2", "/", 400),
    ]
    assert "secret" not in json.dumps(lines)


MANY = """
insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified)
select n::text, 'First', 'Last', n, 'etag', now() from generate_series(1, 200000) n
"""


def test_sigterm_lets_a_stream_end_and_serves_what_the_watchdog_still_sends(roll: Stack) -> None:
    roll.sql(MANY)
    with query_replica(roll) as replica:
        kept = urllib3.HTTPConnectionPool("127.0.0.1", int(replica.url.rpartition(":")[2]))
        stream = kept.request("GET", "/", preload_content=False, retries=False)
        body = stream.read(1000)
        for _ in range(3):  # faasd signals all processes, and the watchdog passes its own on
            replica.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert replica.request("GET", "/healthz").status == 200
        body += stream.read()
        assert len(json.loads(body)["result"]) == 200_000
        assert replica.wait() == 0


def copies(roll: Stack, act: str = "count(*)") -> Any:
    """Sessions of query-data's role, which alone may look into them, that run a COPY."""
    activity = "pg_stat_activity where usename = current_user and state = 'active' and query like 'copy%'"
    with Connection(load(RecordsSettings, roll.query_settings)) as records:
        return records.run(f"select {act} from {activity}")[0][0]


def test_a_client_that_goes_away_frees_the_connection(roll: Stack) -> None:
    roll.sql(MANY)
    with query_replica(roll) as replica:
        for _ in range(10):  # it goes away at one moment or another of the server's
            stream = urllib3.request("GET", replica.url, preload_content=False)
            stream.read(1000)
            assert copies(roll) == 1
            stream.close()
            roll.wait_until(lambda: copies(roll) == 0, seconds=20)
        assert replica.request("GET", "/?limit=1").status == 200


def is_complete(form: str, body: bytes) -> bool:
    """As the README says it for each format."""
    last = body.decode().splitlines()[-1] if body.endswith(b"\n") else ""
    if form == "csv":
        return last.startswith(("#end", "#next "))
    try:
        return "next" in json.loads(body if form == "json" else last)
    except ValueError:
        return False


@pytest.mark.parametrize("form", ["json", "ndjson", "csv"])
def test_a_stream_that_breaks_off_is_told_from_a_whole_one_behind_the_gateway(roll: Stack, form: str) -> None:
    """Watchdog and gateway end a response well-formed whatever happened, so the content has to tell."""
    roll.sql(MANY)
    path = f"/function/query-data?format={form}"
    whole = roll.request("GET", path).body
    assert is_complete(form, whole)
    cut_off = function_log(roll).count('"cut_off"')
    with subprocess.Popen(["curl", "--silent", "--output", "-", roll.url + path], stdout=subprocess.PIPE) as curl:
        assert curl.stdout
        body = curl.stdout.read(1000)
        assert copies(roll, "pg_terminate_backend(pid)")
        body += curl.stdout.read()
    assert curl.returncode == 0  # for curl it is whole
    assert not is_complete(form, body)
    for cut in range(len(whole) - 40, len(whole) - 1):
        assert not is_complete(form, whole[:cut])
    roll.wait_until(lambda: function_log(roll).count('"cut_off"') == cut_off + 1)


def function_log(roll: Stack) -> str:
    return (roll.state / "logs/query-data.log").read_text()


@pytest.mark.parametrize("sort", ["user_id", "-user_id", "birthdate", "-birthdate", "last_name", "-last_name"])
@pytest.mark.parametrize("form", ["json", "ndjson", "csv"])
def test_a_stream_whose_time_is_over_ends_with_a_link_to_the_rest(
    fresh: Any, stack: Stack, short_replica: Replica, sort: str, form: str
) -> None:
    """Whole rows, then the link: together they are everyone, once, in order."""
    found: list[str] = []
    url: str | None = f"?sort={sort}&format={form}&max_age=150"
    parts = 0
    while url is not None:
        body = slowly(f"{short_replica.url}/{url}")
        assert is_complete(form, body)
        user_ids, url = people_and_next(form, body)
        found += user_ids
        parts += 1
    assert parts > 1
    direction = "desc" if sort.startswith("-") else "asc"
    key = {"last_name": 'lower(last_name) collate "C"'}.get(sort.removeprefix("-"), sort.removeprefix("-"))
    expected = stack.sql(f"select user_id from users order by {key} {direction}, user_id {direction}")
    assert found == [user_id for (user_id,) in expected]


@pytest.fixture(scope="module")
def short_replica(fresh: Any, stack: Stack) -> Any:
    """query-data whose streams end after a second, and a table that takes longer to read slowly."""
    fresh()
    stack.sql(MANY.replace("'Last'", "case when n % 7 = 0 then '=Łast ' else 'last ' end || n % 5000"))
    with query_replica(stack, stream_deadline="1") as replica:
        yield replica


def slowly(url: str) -> bytes:
    """Read a response, with a pause that is longer than a stream may take."""
    response = urllib3.request("GET", url, preload_content=False, retries=False)
    body = response.read(1000)
    time.sleep(1.2)
    return body + response.read()


def people_and_next(form: str, body: bytes) -> tuple[list[str], str | None]:
    """The user_ids of a response and the link behind them."""
    if form == "json":
        content = json.loads(body)
        return [person["user_id"] for person in content["result"]], content["next"]
    *lines, last = body.decode("utf-8-sig").splitlines()
    if form == "ndjson":
        return [json.loads(line)["user_id"] for line in lines], json.loads(last)["next"]
    user_ids = [row["user_id"] for row in csv.DictReader(lines)]
    return user_ids, last.removeprefix("#next ") if last.startswith("#next ") else None


def test_streams_that_nobody_reads_hold_up_nothing_else(roll: Stack) -> None:
    roll.sql(MANY)
    with query_replica(roll) as replica, ExitStack() as stack:
        stalled = []
        for _ in range(64):
            response = urllib3.request("GET", replica.url, preload_content=False, retries=False)
            stack.callback(response.close)
            stalled.append(response)
        statuses = Counter(response.status for response in stalled)
        assert statuses == {200: MAX_STREAMS, 503: 64 - MAX_STREAMS}
        [busy] = {response.json()["error"]["code"] for response in stalled if response.status == 503}
        assert busy == "busy"
        assert {response.headers["Retry-After"] for response in stalled if response.status == 503} == {"1"}
        for path in ("/healthz", "/?limit=100", "/?user_id=7", "/stats", "/rejected"):
            assert replica.request("GET", path).status == 200
        stack.close()
        roll.wait_until(lambda: replica.request("GET", "/").status == 200, seconds=20)


@pytest.mark.parametrize("function", ["query-data", "process-data"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("way", ["replica", "gateway"])
def test_a_huge_body_costs_nothing(roll: Stack, function: str, chunked: bool, way: str) -> None:
    """It is neither kept nor read whole, with or without a token."""
    with ExitStack() as stack:
        if way == "gateway":
            pid, url = roll.pid(function), f"{roll.url}/function/{function}"
        else:
            settings = roll.query_settings if function == "query-data" else roll.process_settings
            package = roll.state / "build" / function
            running = stack.enter_context(replica(package, settings | {"auth": "token", "api_token": TOKEN}))
            first_answer(running, "/healthz")
            pid, url = running.process.pid, running.url
        usual = memory(pid)
        assert post(url, bytes(1024 * 1024), 500, chunked) in (413, 500, None)
        assert memory(pid) < usual + 16 * 1024 * 1024
        assert urllib3.request("GET", url + "/healthz", retries=False).status in (200, 401, 404, 405)


def post(url: str, chunk: bytes, number: int, chunked: bool) -> int | None:
    """Send a body; the response's status, or None when the server hung up while the client was sending."""
    headers = {} if chunked else {"Content-Length": str(number * len(chunk))}
    body = (chunk for _ in range(number))
    try:
        return urllib3.request("POST", url, body=body, headers=headers, retries=False, timeout=60).status
    except urllib3.exceptions.HTTPError:
        return None


def memory(pid: int) -> int:
    """The most memory that a process ever had, in bytes."""
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(peak) * 1024


LOADED = "import sys; from query_data import handler; print(*sys.modules)"


def test_no_heavy_package_is_loaded() -> None:
    modules = subprocess.run(
        [sys.executable, "-c", LOADED], env={"PYTHONPATH": str(PACKAGES)}, capture_output=True, text=True, check=True
    ).stdout.split()
    loaded = {name.partition(".")[0] for name in modules}
    assert {"flask", "pg8000"} <= loaded
    assert not [name for name in modules if name.startswith("query_data.web")], "before a page is asked for"
    assert not {"pandas", "numpy", "minio", "urllib3", "requests", "yaml"} & loaded


def test_a_change_is_seen_at_once(roll: Stack) -> None:
    etag = get(roll).headers["ETag"]
    add(roll, "1")
    changed(roll)
    assert len(get(roll, "", If_None_Match=etag).json()["result"]) == 1
