"""Readers of query-data that check every response against the model."""

import csv
import io
import json
from collections.abc import Callable
from random import Random
from typing import Any

from tests.faults.calls import Calls, Reply
from tests.faults.model import Model
from tests.faults.subject import Slot

COMPLETE, CUT, CONTINUED = "complete", "cut", "continued"

Row = tuple[str, str, str, int, str | None]
"""user_id, first_name, last_name, birthts, img_path."""
Parse = Callable[[bytes], tuple[list[Row], str | None]]
"""Parses a response into its people and its `next`. Raises one of TRUNCATED if it is truncated."""


class Truncated(Exception):
    """A response lacks its end."""


TRUNCATED = (Truncated, json.JSONDecodeError)


class Reader:
    """Sends requests to query-data. Detects truncated responses by their end, as the README says."""

    def __init__(self, model: Model, calls: Calls, slots: list[Slot], random: Random) -> None:
        self._model, self._calls, self._slots, self._random = model, calls, slots, random
        self._user_ids = list(model.users)

    def step(self) -> None:
        request = self._random.choice(
            (self._json, self._json, self._ndjson, self._csv, self._page, self._lookup, self._stats, self._photo,
             self._rejected, self._runs)
        )  # fmt: skip
        request(self._random.choice(self._slots))

    def page(self, slot: Slot) -> bool:
        """Request the first page. Return whether it is complete and followed by another."""
        return self._get(slot, "/?limit=100", lambda reply: self.check_people(reply, json_rows)) == CONTINUED

    def _json(self, slot: Slot) -> None:
        self._get(slot, "/", lambda reply: self.check_people(reply, json_rows))

    def _ndjson(self, slot: Slot) -> None:
        self._get(slot, "/?format=ndjson", lambda reply: self.check_people(reply, ndjson_rows))

    def _csv(self, slot: Slot) -> None:
        self._get(slot, "/?format=csv", lambda reply: self.check_people(reply, csv_rows))

    def _page(self, slot: Slot) -> None:
        self.page(slot)

    def _lookup(self, slot: Slot) -> None:
        user_id = self._random.choice(self._user_ids)

        def check(reply: Reply) -> str:
            rows, next_url = json_rows(reply.body)
            assert next_url is None
            user_ids = [row[0] for row in rows]
            required = self._model.required_at(reply.sent_at)
            assert user_ids == [user_id] or (not user_ids and user_id not in required)
            self._check_rows(rows, reply.sent_at)
            return COMPLETE

        self._get(slot, f"/?user_id={user_id}", check)

    def _stats(self, slot: Slot) -> None:
        def check(reply: Reply) -> str:
            content = reply.json()
            assert sum(bar["people"] for bar in content["ages"]) == content["people"]
            assert len(self._model.required_at(reply.sent_at)) <= content["people"] <= len(self._user_ids)
            return COMPLETE

        self._get(slot, "/stats", check)

    def _photo(self, slot: Slot) -> None:
        user_id = self._random.choice(self._user_ids)

        def check(reply: Reply) -> str:
            photos = set(self._model.photos[user_id])
            if reply.body in photos:
                return COMPLETE
            assert any(photo.startswith(reply.body) for photo in photos)
            raise Truncated

        self._get(slot, f"/photo/{user_id}", check)

    def _rejected(self, slot: Slot) -> None:
        def check(reply: Reply) -> str:
            for file in reply.json()["result"]:
                assert self._model.may_be_rejected(file["object"], file["code"]), file
            return COMPLETE

        self._get(slot, "/rejected?limit=1000", check)

    def _runs(self, slot: Slot) -> None:
        def check(reply: Reply) -> str:
            ids = [run["id"] for run in reply.json()["result"]]
            assert ids == sorted(set(ids), reverse=True)
            return COMPLETE

        self._get(slot, "/runs", check)

    def _get(self, slot: Slot, path: str, check: Callable[[Reply], str]) -> str:
        reply, started_at = self._calls.send(slot, "GET", path)
        if reply is not None and reply.status == 200:
            try:
                try:
                    outcome = check(reply)
                except TRUNCATED:
                    assert not reply.has_full_length, "the end is missing, but Content-Length is right"
                    outcome = CUT
            except (AssertionError, LookupError, TypeError, ValueError) as error:
                outcome = "wrong"
                self._calls.add_problem(f"query-data{path} is wrong: {error!r} in {reply.body[:300]!r}")
        else:
            outcome = self._calls.error_outcome(slot, reply)
        self._calls.report(slot, path, started_at, outcome)
        return outcome

    def check_people(self, reply: Reply, parse: Parse) -> str:
        """Check the people in a stream or a page. Return the outcome."""
        rows, next_url = parse(reply.body)
        user_ids = [row[0] for row in rows]
        assert user_ids == sorted(set(user_ids)), "people are repeated or not in order"
        self._check_rows(rows, reply.sent_at)
        required = self._model.required_at(reply.sent_at)
        if next_url:
            required = {user_id for user_id in required if user_id <= user_ids[-1]}
        assert required <= set(user_ids), (
            f"{sorted(required - set(user_ids))[:5]} are missing although the response is complete"
        )
        return CONTINUED if next_url else COMPLETE

    def _check_rows(self, rows: list[Row], sent_at: float) -> None:
        for user_id, first, last, birth, image in rows:
            problem = self._model.row_error(user_id, (first, last, birth), image, sent_at)
            assert not problem, problem


def json_rows(body: bytes) -> tuple[list[Row], str | None]:
    content = json.loads(body)
    return [_row(person) for person in content["result"]], content["next"]


def ndjson_rows(body: bytes) -> tuple[list[Row], str | None]:
    lines = [json.loads(line) for line in body.decode().splitlines()]
    if not lines or "next" not in lines[-1]:
        raise Truncated("the last line has no next")
    return [_row(person) for person in lines[:-1]], lines[-1]["next"]


def csv_rows(body: bytes) -> tuple[list[Row], str | None]:
    if not body.endswith(b"\n"):
        raise Truncated("the last line is incomplete")
    *lines, last = body.decode("utf-8-sig").splitlines()
    if not last.startswith(("#end", "#next ")):
        raise Truncated("the last line is neither #end nor #next")
    assert last == "#end" or last.startswith("#next "), last
    rows = [_row(person) for person in csv.DictReader(io.StringIO("\n".join(lines)))]
    return rows, None if last == "#end" else last.removeprefix("#next ")


def _row(person: dict[str, Any]) -> Row:
    birthts = int(person["birthts"])  # a string in CSV
    return person["user_id"], person["first_name"], person["last_name"], birthts, person["img_path"] or None
