"""A short fault trial, and tests that a trial detects errors."""

import json
import random
from math import inf
from pathlib import Path
from queue import Queue
from threading import Thread
from time import monotonic
from typing import cast

import pytest

from tests.faults import readers, uploads
from tests.faults.__main__ import main
from tests.faults.calls import NO_RESPONSE, Call, Calls, Reply
from tests.faults.clock import Clock
from tests.faults.figures import Figures, Injection, current_commit
from tests.faults.model import Model
from tests.faults.subject import Slot
from tests.faults.trial import SHORT, Trial
from tests.stack import Bucket


def test_under_random_faults_the_tables_converge_and_every_response_is_correct(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    seed = pytestconfig.getoption("--seed")
    print(f"seed {seed}")  # shown if the test fails
    trial = Trial(tmp_path / "state", seed, SHORT)
    figures = trial.run(60)
    print(figures.table(trial.calls.ended))
    assert not figures.problems, "\n".join(figures.problems[:10])
    assert len(figures.injections) == 60
    assert len(figures.settle_times) == 1  # one round; the check after the initial upload does not count
    assert figures.totals["done_runs"] > 0


def test_libfaketime_must_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--injections", "1", "--libfaketime", str(tmp_path / "absent")])
    assert "absent is not a file" in capsys.readouterr().err


def test_the_model_detects_wrong_rows_and_tombstones() -> None:
    model = Model(["1", "2", "3"], "src")
    ada, alan = model.new_person("1"), model.new_person("2")
    model.will_put("1", ada, b"ada")
    model.will_put("2", alan, b"alan")
    listed = {"1.csv": "8c8d357b5e872bbacd45197626bd5759", "2.csv": "02558a70324e7c4f269c69825450cec8"}
    assert model.differences(listed, {"1": (ada, None), "2": (alan, None)}) == []
    assert len(model.differences(listed, {"1": (ada, None)})) == 1  # lost
    assert len(model.differences(listed, {"1": (ada, None), "2": (ada, None)})) == 1  # mixed up
    # a photo that does not exist
    assert len(model.differences(listed, {"1": (ada, "src/1.png"), "2": (alan, None)})) == 1
    # a user who was never uploaded
    assert len(model.differences(listed, {"1": (ada, None), "2": (alan, None), "4": (ada, None)})) == 1
    model.set_baseline({"1": (ada, None), "2": (alan, None)})
    model.will_erase("2")
    model.record_erasure("2")
    assert len(model.differences(listed, {"1": (ada, None), "2": (alan, None)})) == 1  # restored
    assert model.wrong_tombstones(set(), {"1": (ada, None)}) == {"2"}
    assert model.wrong_tombstones({"2"}, {"1": (ada, None)}) == set()
    assert model.wrong_tombstones({"2"}, {"2": (alan, None)}) == {"2"}
    assert model.wrong_tombstones({"2", "3"}, {}) == {"3"}
    model.will_put("2", "no_row", b"")  # the user's new file is rejected
    assert model.wrong_tombstones({"2"}, {}) == model.wrong_tombstones(set(), {}) == set()


def test_an_uploader_reports_changes_that_never_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    class UnavailableBucket:
        def put(self, key: str, body: bytes) -> None:
            raise ConnectionError

    model, calls = Model(["1"], "src"), Calls()
    monkeypatch.setattr(uploads, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(calls, "run", lambda *_: None)
    slot, bucket = Slot("process-data", 0, {}, Path()), cast("Bucket", UnavailableBucket())
    uploader = uploads.Uploader(model, bucket, calls, [slot], ["1"], random.Random(1), Queue())

    def change() -> None:
        uploader.put("1")
        uploader._erase("1")

    thread = Thread(target=change, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert [problem.partition(" could not be ")[0] for problem in calls.problems] == ["1.csv", "1"]
    assert not model.users["1"].was_erased
    assert uploader.completed == 0
    calls.close()


def test_the_table_and_the_json_count_calls_during_a_fault_by_outcome(tmp_path: Path) -> None:
    figures = Figures(
        1,
        {},
        {},
        [Injection("s3: cut", "s3: network", 10.0, 20.0, 1.5), Injection("s3: reset", "s3: network", 30.0, 40.0, 2.5)],
    )
    calls = [
        Call("process-data", 9.0, 11.0, 2.0, "done"),
        Call("query-data", 19.0, 31.0, 12.0, "cut"),
        Call("query-data", 21.0, 22.0, 1.0, "complete"),
        Call("query-data", 39.0, 49.0, 10.0, "postgresql_unavailable"),
        Call("query-data", 39.0, 40.0, 1.0, "wrong"),
        Call("query-data", 39.0, 40.0, 1.0, "internal_error"),
    ]
    header, _, row = figures.table(calls).splitlines()
    assert header.startswith(
        "| fault | injected | calls during it | succeeded | cut | 503 | other | longest response |"
    )
    assert row == "| s3: network | 2 | 5 | 1 | 1 | 1 | 2 | 12.0 s | 2.0 s, 2.5 s |"
    figures.write(tmp_path / "result.json", calls, current_commit())
    document = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert document["groups"][0]["outcomes"] == {"succeeded": 1, "cut": 1, "503": 1, "other": 2}
    assert len(document["commit"]) == 40


@pytest.mark.parametrize(
    ("user_id", "person", "problem"),
    [
        ("1", ("Ada", "New", 1), ""),
        ("1", ("Ada", "Never", 1), "1 was never"),
        ("2", ("Ada", "New", 1), "2 was never uploaded"),
    ],
)
def test_the_model_reports_rows_that_were_never_uploaded(
    user_id: str, person: tuple[str, str, int], problem: str
) -> None:
    model = Model(["1"], "src")
    model.will_put("1", ("Ada", "New", 1), b"x")
    error = model.row_error(user_id, person, None, sent_at=0.0)
    assert error.startswith(problem) and bool(error) == bool(problem)


PERSON = '{"user_id": "1", "first_name": "Ada", "last_name": "New", "birthts": 1, "img_path": null}'


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (readers.json_rows, f'{{"result": [{PERSON}], "next": null}}'),
        (readers.ndjson_rows, f'{PERSON}\n{{"next": null}}\n'),
        (readers.csv_rows, "\ufeffuser_id,first_name,last_name,birthts,img_path\n1,Ada,New,1,\n#end\n"),
        (readers.csv_rows, "\ufeffuser_id,first_name,last_name,birthts,img_path\n1,Ada,New,1,\n#next ?after=x\n"),
    ],
)
def test_a_reader_detects_truncated_responses(parse: readers.Parse, body: str) -> None:
    (row,), next_url = parse(body.encode())
    assert (row[0], next_url) == ("1", "?after=x" if "#next" in body else None)
    for length in range(len(body) - 1):
        with pytest.raises(readers.TRUNCATED):
            parse(body[:length].encode())


@pytest.mark.parametrize(
    ("path", "body", "has_full_length", "outcome"),
    [
        ("stats", b"", True, "wrong"),
        ("stats", b'{"people"', False, "cut"),
        ("photo", b"pho", True, "wrong"),
        ("photo", b"pho", False, "cut"),
        ("csv", b"user_id,first_name,last_name,birthts,img_path\n1,Ada,New,,\n#end\n", False, "wrong"),
        ("csv", b"user_id,first_name,last_name,birthts,img_path\n1,Ada,New,1,\n", False, "cut"),
        ("csv", b"user_id,first_name,last_name,birthts,img_path\n1,Ada,New,1,\n#endx\n", False, "wrong"),
    ],
)
def test_a_reader_distinguishes_wrong_from_truncated_responses(
    monkeypatch: pytest.MonkeyPatch, path: str, body: bytes, outcome: str, *, has_full_length: bool
) -> None:
    model, calls, slot = Model(["1"], "src"), Calls(), Slot("query-data", 0, {}, Path())
    model.will_put("1", ("Ada", "New", 1), b"x")
    model.will_put_photo("1", "png", b"photo")
    reply = Reply(200, body, monotonic(), has_full_length)
    monkeypatch.setattr(calls, "send", lambda *_: (reply, reply.sent_at))
    getattr(readers.Reader(model, calls, [slot], random.Random(1)), f"_{path}")(slot)
    assert [call.outcome for call in calls.ended] == [outcome]
    assert len(calls.problems) == (outcome == "wrong")
    calls.close()


def test_a_truncated_error_response_is_a_problem_unless_the_replica_was_killed() -> None:
    slot, calls = Slot("query-data", 0, {}, Path()), Calls()
    reply = Reply(503, b"", monotonic())
    assert calls.error_outcome(slot, reply) == "503"
    assert calls.problems == ["query-data returned 503 without a JSON error: b''"]
    slot.downtimes.append((monotonic(), inf))
    assert calls.error_outcome(slot, reply) == NO_RESPONSE
    assert len(calls.problems) == 1
    calls.close()


def test_a_call_may_get_no_response_as_soon_as_the_clock_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = Slot("process-data", 0, {}, Path(), Clock(Path("libfaketime.so"), tmp_path / "offset"))
    began = monotonic()
    assert not slot.may_drop_connections(began, monotonic())
    rename, results = Path.replace, []

    def rename_and_check(path: Path, target: Path) -> Path:
        renamed = rename(path, target)
        results.append(slot.may_drop_connections(began, monotonic()))
        return renamed

    monkeypatch.setattr(Path, "replace", rename_and_check)
    assert slot.clock is not None
    with slot.clock.jumped(3600):
        assert slot.may_drop_connections(began, monotonic())
    assert results == [True, True]
    assert not slot.may_drop_connections(monotonic(), inf)


def test_a_reader_detects_missing_people_in_a_complete_response() -> None:
    model, calls = Model(["1", "2"], "src"), Calls()
    for user_id in ("1", "2"):
        model.will_put(user_id, ("Ada", "New", 1), b"x")
    model.set_baseline(dict.fromkeys(("1", "2"), (("Ada", "New", 1), None)))
    reader = readers.Reader(model, calls, [], random.Random(1))
    reply = Reply(200, f'{{"result": [{PERSON}], "next": null}}'.encode(), monotonic())
    with pytest.raises(AssertionError, match=r"'2'.* are missing"):
        reader.check_people(reply, readers.json_rows)
    calls.close()
