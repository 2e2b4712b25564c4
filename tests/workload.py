"""Files that change, and requests to query-data whose responses are checked."""

import random
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from statistics import quantiles
from traceback import format_exc
from typing import Any

from tests import load
from tests.load import TimedResponse
from tests.stack import Stack

TIMEOUT = 60  # seconds after which OpenFaaS's gateway aborts a request
MAX_OUTSTANDING = 400  # requests; further ones are counted as unsent

USER_IDS = [str(user_id) for user_id in range(1000, 3000)]
WITH_PHOTO = USER_IDS[::10]
LARGE = set(WITH_PHOTO[::10])  # users whose photos are streamed
DAY = 86_400_000  # milliseconds
FIRST_PAGE = "?limit=100"

Check = Callable[[TimedResponse], None]
"""Raises AssertionError if a response of status 200 is wrong."""


class Files:
    """Files in the source bucket. The name in a CSV depends on the user and the version, the birthts on the version."""

    def __init__(self, stack: Stack) -> None:
        self._bucket, self._random = stack.bucket, random.Random(1)
        self.latest_version = 0

    def fill(self) -> None:
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(self._put, USER_IDS, [0] * len(USER_IDS)))
            list(executor.map(lambda user_id: self._bucket.put(f"{user_id}.png", photo(user_id)), WITH_PHOTO))

    def change(self) -> None:
        """Upload the next version of a random user's CSV, and every tenth time also an invalid file."""
        self.latest_version += 1
        self._put(self._random.choice(USER_IDS), self.latest_version)
        if self.latest_version % 10 == 0:
            self._bucket.put(f"{self.latest_version % 50}.csv", b"first_name,last_name,birthts\n")

    def _put(self, user_id: str, version: int) -> None:
        self._bucket.put_person(user_id, f"First{user_id}", f"Last{version}", version * DAY)


def photo(user_id: str) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + user_id.encode() * (400_000 if user_id in LARGE else 2_000)


class Workload:
    """Random requests, with the weights in `_kinds`, and the errors found in their responses."""

    def __init__(self, stack: Stack, files: Files) -> None:
        self._port, self._files = int(stack.url.rpartition(":")[2]), files
        self._random, self._etags = random.Random(2), dict[str, str]()
        self._offset, self._next = 0, FIRST_PAGE
        self.outstanding, self.unsent = 0, 0
        self.durations: dict[int, list[float]] = defaultdict(list)
        self.errors: list[str] = []
        self._kinds: list[tuple[int, Callable[[], tuple[str, Check]]]] = [
            (30, self._page),
            (10, lambda: ("/?limit=100&sort=-birthdate", self._check_youngest)),
            (30, self._lookup),
            (10, lambda: ("/stats", self._check_stats)),
            (10, lambda: ("/healthz", self._check_health)),
            (10, self._photo),
            (4, lambda: ("/rejected", self._check_rejected)),
            (4, lambda: ("/runs", self._check_runs)),
            (4, lambda: ("/", self._check_everyone)),
        ]

    def clear_figures(self) -> None:
        self.durations.clear()
        self.unsent = 0

    def figures(self) -> str:
        """Return the numbers and durations of responses by status, as text that continues a line."""
        lines = [f", {self.unsent} not sent"]
        for status, durations in sorted(self.durations.items()):
            percentiles = quantiles(durations * 2, n=100)  # twice, because it needs at least two values
            late = sum(duration > 1 for duration in durations)
            lines.append(
                f"  {status}: {len(durations)}, median {percentiles[49]:.3f} s, 99 % {percentiles[98]:.3f} s, "
                f"at most {max(durations):.3f} s, {late} after more than a second"
            )
        return "\n".join(lines)

    async def request(self) -> None:
        """Send a random request and check its response."""
        if self.outstanding >= MAX_OUTSTANDING:
            self.unsent += 1
            return
        [(_, prepare)] = self._random.choices(self._kinds, [weight for weight, _ in self._kinds])
        path, check = prepare()
        etag = self._etags.get(path) if self._random.random() < 0.2 else None
        self.outstanding += 1
        try:
            headers = {"If_None_Match": etag} if etag else {}
            response = await load.get(self._port, f"/function/query-data{path}", TIMEOUT, **headers)
            self.durations[response.status].append(response.seconds)
            self._check(response, etag, check)
            if response.status == 200 and "etag" in response.headers:
                self._etags[path] = response.headers["etag"]
        except Exception:  # noqa: BLE001 - the test reports any error
            self.errors.append(f"{path}: {format_exc(limit=-1)}")
        finally:
            self.outstanding -= 1

    def _check(self, response: TimedResponse, etag: str | None, check: Check) -> None:
        match response.status:
            case 200:
                check(response)
            case 304:
                assert etag == response.headers["etag"]
                assert response.body == b""
            case _:
                assert (response.status, response.json()["error"]["code"]) == (503, "busy"), response.body
                assert response.headers["retry-after"] == "1"

    def _page(self) -> tuple[str, Check]:
        """Return the path of the page after the last one received, and the check of its response."""
        offset, url = self._offset, self._next

        def check(response: TimedResponse) -> None:
            content = response.json()
            assert [person["user_id"] for person in content["result"]] == USER_IDS[offset : offset + 100]
            self._check_people(content["result"])
            assert (content["next"] is None) == (offset + 100 == len(USER_IDS))
            self._offset, self._next = (offset + 100, content["next"]) if content["next"] else (0, FIRST_PAGE)

        return f"/{url}", check

    def _check_youngest(self, response: TimedResponse) -> None:
        people = response.json()["result"]
        assert len({person["user_id"] for person in people}) == 100
        self._check_people(people)
        births = [person["birthts"] for person in people]
        assert births == sorted(births, reverse=True)

    def _lookup(self) -> tuple[str, Check]:
        user_id = self._random.choice(USER_IDS)

        def check(response: TimedResponse) -> None:
            content = response.json()
            assert [person["user_id"] for person in content["result"]] == [user_id]
            self._check_people(content["result"])
            assert content["next"] is None

        return f"/?user_id={user_id}", check

    def _check_everyone(self, response: TimedResponse) -> None:
        content = response.json()
        assert [person["user_id"] for person in content["result"]] == USER_IDS
        self._check_people(content["result"])
        assert content["next"] is None

    def _check_people(self, people: list[dict[str, Any]]) -> None:
        """Check that each person's values fit the user and an existing version number."""
        for person in people:
            version, user_id = person["birthts"] // DAY, person["user_id"]
            assert 0 <= version <= self._files.latest_version
            assert person["birthts"] == version * DAY
            assert person["birthdate"] == str(date(1970, 1, 1) + timedelta(version))
            assert (person["first_name"], person["last_name"]) == (f"First{user_id}", f"Last{version}")
            assert person["img_path"] == (f"src/{user_id}.png" if user_id in WITH_PHOTO else None)

    def _photo(self) -> tuple[str, Check]:
        user_id = self._random.choice(WITH_PHOTO)

        def check(response: TimedResponse) -> None:
            assert response.headers["content-type"] == "image/png"
            assert response.body == photo(user_id)

        return f"/photo/{user_id}", check

    def _check_stats(self, response: TimedResponse) -> None:
        content = response.json()
        assert (content["people"], content["with_photo"]) == (len(USER_IDS), len(WITH_PHOTO))
        assert sum(bar["people"] for bar in content["ages"]) == len(USER_IDS)

    def _check_health(self, response: TimedResponse) -> None:
        assert response.json()["status"] == "ok"

    def _check_rejected(self, response: TimedResponse) -> None:
        content = response.json()
        assert {rejection["code"] for rejection in content["result"]} <= {"no_row"}
        assert content["next"] is None

    def _check_runs(self, response: TimedResponse) -> None:
        ids = [run["id"] for run in response.json()["result"]]
        assert ids == sorted(set(ids), reverse=True)
