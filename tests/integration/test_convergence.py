"""Whatever came before, after one more run the tables and the result bucket are what the source bucket makes them.

A small model in plain Python says what that is. Two replicas work with segments of five keys, so that segments are
split and merged all the time; they are killed and frozen while they work. Where runs overlap with changes to the
bucket, a version that was there for a moment may or may not have been seen: the model then keeps every possibility
until a run that overlaps with nothing settles it.
"""

import csv
import io
import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from urllib.parse import quote_plus

import pytest
import urllib3
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from minio.versioningconfig import VersioningConfig

from tests.replica import Replica, first_answer, replica
from tests.stack import Stack

SOURCE = "versions"
SMALL = {
    "source_bucket": SOURCE,
    "segment_keys": "5",
    "batch_size": "2",
    "workers": "3",
    "fetch_threads": "4",
    "gateway_url": "http://127.0.0.1:1",  # no queue: a run goes on in the next one
}

USERS = ("1", "12", "120", "129", "2", "20", "3")
PHOTOS = ("png", "jpg", "jpeg")  # in the order of preference
BAD = {
    "empty": b"",
    "no_row": b"first_name,last_name,birthts\n",
    "not_an_integer": b"first_name,last_name,birthts\nAda,Lovelace,soon\n",
    "too_large": b"x" * 70_000,
}
MISNAMED = ("x.csv", "a b+c%2F.csv", "1.x.csv", "12.CSV", "12.old.csv", "0x.csv")
UNRELATED = ("12-x", "12.d", "12.zz", "12", "12/in a folder.csv", "2/1.csv", "0", "~", "129.bak", "é", "3.csv.bak")

EXAMPLES, STEPS = 16, 30
SOON = 0.7  # seconds after which a birth in the future is in the past

Person = tuple[str, str, int]
Content = Person | str | None
"""A CSV's person, the code of what is wrong with it, or None where there is none."""


class Bucket:
    """The versioned source bucket, and what the tables must make of its history."""

    def __init__(self, stack: Stack) -> None:
        self._client = stack.bucket.client
        self.versions: dict[str, list[tuple[Content, str]]] = {user: [] for user in USERS}  # the current one last
        self.photos: set[tuple[str, str]] = set()
        self.misnamed: set[str] = set()
        self.unrelated: set[str] = set()
        self.possible: dict[str, set[Person | None]] = {user: {None} for user in USERS}
        self._persons: dict[str, list[Person]] = defaultdict(list)
        self._numbers = count()

    def content(self, user: str) -> Content:
        return self.versions[user][-1][0] if self.versions[user] else None

    def put_good(self, user: str) -> None:
        number = next(self._numbers)
        self._put_person(user, (f"First {number}", f"Last {number}", number))

    def put_future(self, user: str) -> None:
        number = next(self._numbers)
        self._put_person(user, (f"First {number}", f"Last {number}", int((time.time() + SOON) * 1000)))

    def put_again(self, user: str) -> None:
        """Upload the first version that there ever was: an older content with the ETag that it had then."""
        if self._persons[user]:
            self._put_person(user, self._persons[user][0])

    def put_bad(self, user: str, code: str) -> None:
        self._put(user, code, BAD[code] + b"\n" * next(self._numbers))

    def remove(self, user: str) -> None:
        if self.content(user) is not None:
            self._client.remove_object(bucket_name=SOURCE, object_name=f"{user}.csv")
            marker = next(
                one
                for one in self._client.list_objects(bucket_name=SOURCE, prefix=f"{user}.csv", include_version=True)
                if one.is_latest in (True, "true") and one.object_name == f"{user}.csv"
            )
            self.versions[user].append((None, str(marker.version_id)))

    def restore(self, user: str) -> None:
        """Delete the current version, or the mark of a removal: the version before it is the current one again."""
        if self.versions[user]:
            _, version = self.versions[user].pop()
            self._client.remove_object(bucket_name=SOURCE, object_name=f"{user}.csv", version_id=version)

    def put_photo(self, user: str, kind: str) -> None:
        self._write(f"{user}.{kind}", b"photo %d" % next(self._numbers))
        self.photos.add((user, kind))

    def remove_photo(self, user: str, kind: str) -> None:
        self._delete(f"{user}.{kind}")
        self.photos.discard((user, kind))

    def put_misnamed(self, name: str) -> None:
        self._write(name, b"")
        self.misnamed.add(name)

    def remove_misnamed(self, name: str) -> None:
        self._delete(name)
        self.misnamed.discard(name)

    def put_unrelated(self, name: str) -> None:
        self._write(name, b"")

    def remove_unrelated(self, name: str) -> None:
        self._delete(name)

    def may_be_seen(self) -> None:
        """A run may have read what is there now."""
        for user in USERS:
            if isinstance(content := self.content(user), tuple):
                self.possible[user].add(content)

    def is_seen(self, users: tuple[str, ...]) -> None:
        """A run that overlapped with nothing has read these users."""
        for user in users:
            content = self.content(user)
            if isinstance(content, tuple):
                in_time = content[2] < (time.time() - 5) * 1000
                self.possible[user] = {content} if in_time else self.possible[user] | {content}

    def image(self, user: str) -> str:
        return next((f"{SOURCE}/{user}.{kind}" for kind in PHOTOS if (user, kind) in self.photos), "")

    def rejected(self) -> set[tuple[str, str]]:
        contents = {user: self.content(user) for user in USERS}
        bad = {(f"{user}.csv", code) for user, code in contents.items() if isinstance(code, str)}
        return bad | {(name, "bad_name") for name in self.misnamed}

    def last_birth(self) -> float:
        """The latest birth, in seconds since 1970."""
        contents = [self.content(user) for user in USERS]
        return max((content[2] / 1000 for content in contents if isinstance(content, tuple)), default=0)

    def clear(self) -> None:
        for one in list(self._client.list_objects(bucket_name=SOURCE, recursive=True, include_version=True)):
            self._client.remove_object(bucket_name=SOURCE, object_name=str(one.object_name), version_id=one.version_id)

    def _put_person(self, user: str, person: Person) -> None:
        self._persons[user].append(person)
        self._put(user, person, "first_name,last_name,birthts\n{},{},{}\n".format(*person).encode())

    def _put(self, user: str, content: Content, body: bytes) -> None:
        self.versions[user].append((content, self._write(f"{user}.csv", body)))

    def _write(self, key: str, body: bytes) -> str:
        written = self._client.put_object(bucket_name=SOURCE, object_name=key, data=io.BytesIO(body), length=len(body))
        return str(written.version_id)

    def _delete(self, key: str) -> None:
        self._client.remove_object(bucket_name=SOURCE, object_name=key)


class Replicas:
    """Two processes of process-data that know nothing of each other."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._started = stack, ExitStack()
        keys = {name: stack.settings[name] for name in ("s3_access_key", "s3_secret_key")}  # for a bucket of its own
        self._settings = stack.process_settings | SMALL | keys
        self._pool = urllib3.PoolManager(maxsize=8, retries=False, timeout=60)
        self._replicas = [self._start() for _ in range(2)]

    def _start(self) -> Replica:
        running = self._started.enter_context(replica(self._stack.state / "build/process-data", self._settings))
        first_answer(running, "/")
        return running

    def post(self, number: int, query: str = "", body: bytes = b"") -> int:
        """The status of the response; 0 when the replica was killed meanwhile."""
        url = f"{self._replicas[number].url}/{query}"
        try:
            return self._pool.request("POST", url, body=body).status
        except urllib3.exceptions.HTTPError:
            return 0

    def run(self, number: int) -> dict[str, object]:
        response = self._pool.request("POST", self._replicas[number].url)
        assert response.status == 200, response.data
        summary: dict[str, object] = response.json()
        return summary

    def settle(self, number: int) -> dict[str, object]:
        """Run once; whatever was killed or frozen before, that is enough."""
        summary = self.run(number)
        assert summary["status"] == "done", (summary, [replica.lines()[-20:] for replica in self._replicas])
        return summary

    def kill(self, number: int) -> None:
        """End a replica without warning, and start another in its place."""
        process = self._replicas[number].process
        process.kill()
        self._replicas[number].wait()
        self._replicas[number] = self._start()

    def freeze(self, number: int) -> None:
        """Stop a replica in its tracks and end its sessions, as PostgreSQL's timeouts would."""
        os.kill(self._replicas[number].process.pid, signal.SIGSTOP)
        self._stack.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rollcall'")

    def thaw(self, number: int) -> None:
        os.kill(self._replicas[number].process.pid, signal.SIGCONT)

    def close(self) -> None:
        self._started.close()


user_ids = st.sampled_from(USERS)
kinds = st.sampled_from(PHOTOS)
misnamed = st.sampled_from(MISNAMED)
unrelated = st.sampled_from(UNRELATED)
keys = st.lists(st.one_of(st.builds("{}.{}".format, user_ids, st.sampled_from(("csv", *PHOTOS))), misnamed))
changes = st.one_of(
    st.tuples(st.just("put_good"), user_ids),
    st.tuples(st.just("put_good"), user_ids),
    st.tuples(st.just("put_again"), user_ids),
    st.tuples(st.just("put_future"), user_ids),
    st.tuples(st.just("put_bad"), user_ids, st.sampled_from(tuple(BAD))),
    st.tuples(st.just("remove"), user_ids),
    st.tuples(st.just("restore"), user_ids),
    st.tuples(st.just("put_photo"), user_ids, kinds),
    st.tuples(st.just("remove_photo"), user_ids, kinds),
    st.tuples(st.just("put_misnamed"), misnamed),
    st.tuples(st.just("remove_misnamed"), misnamed),
    st.tuples(st.just("put_unrelated"), unrelated),
    st.tuples(st.just("remove_unrelated"), unrelated),
)
some_changes = st.lists(changes, min_size=1, max_size=6)
replica_numbers = st.integers(0, 1)


class Convergence(RuleBasedStateMachine):
    stack: Stack
    fresh: Callable[[], None]
    replicas: Replicas

    @initialize()
    def empty(self) -> None:
        self.fresh()
        self.bucket = Bucket(self.stack)
        self.bucket.clear()
        self.bucket.put_unrelated("!")  # the bucket is never empty

    @rule(changed=some_changes)
    def change(self, changed: list[tuple[str, ...]]) -> None:
        for name, *arguments in changed:
            getattr(self.bucket, name)(*arguments)

    @rule(number=replica_numbers)
    def run(self, number: int) -> None:
        self.replicas.settle(number)
        self.bucket.is_seen(USERS)

    @rule(number=replica_numbers, users=st.lists(user_ids, min_size=1, max_size=3))
    def run_for_users(self, number: int, users: list[str]) -> None:
        assert self.replicas.post(number, "?" + "&".join(f"user_id={user}" for user in users)) == 200
        self.bucket.is_seen(tuple(users))

    @rule(number=replica_numbers, named=keys)
    def event(self, number: int, named: list[str]) -> None:
        assert self.replicas.post(number, body=self._event(named)) == 200
        self.bucket.is_seen(self._users(named))
        assert self.stack.sql("select count(*) from hints") == [[0]]

    @rule(
        runs=st.lists(replica_numbers, max_size=3),
        events=st.lists(st.tuples(replica_numbers, keys), max_size=3),
        changed=some_changes,
        fault=st.sampled_from((None, None, None, "kill", "freeze")),
        seed=st.integers(0, 2**32 - 1),
    )
    def overlap(
        self,
        runs: list[int],
        events: list[tuple[int, list[str]]],
        changed: list[tuple[str, ...]],
        fault: str | None,
        seed: int,
    ) -> None:
        """Runs and events at the same time, while the bucket changes and a replica is killed or frozen."""
        moments = random.Random(seed)
        self.bucket.may_be_seen()
        with ThreadPoolExecutor(8) as executor:
            calls: list[Future[int]] = [executor.submit(self.replicas.post, number) for number in runs]
            calls += [executor.submit(self.replicas.post, number, "", self._event(named)) for number, named in events]
            for change in changed[:-1]:
                self.change([change])
                self.bucket.may_be_seen()
            time.sleep(moments.uniform(0, 0.05))
            if fault == "kill":
                self.replicas.kill(0)
            if fault == "freeze":
                self.replicas.freeze(0)
            try:
                self.change(changed[-1:])
                self.bucket.may_be_seen()
                if fault is not None:
                    assert self.replicas.post(1) in (200, 503)
            finally:
                if fault == "freeze":
                    self.replicas.thaw(0)
        statuses = {call.result() for call in calls}
        assert statuses <= ({200} if fault is None else {200, 503, 0})

    def teardown(self) -> None:
        """At the end one run; then everything is as the model has it."""
        if not hasattr(self, "bucket"):
            return
        time.sleep(max(0.0, self.bucket.last_birth() + 0.01 - time.time()))
        self.bucket.may_be_seen()
        self.replicas.settle(1)
        for user in USERS:
            if isinstance(content := self.bucket.content(user), tuple):
                self.bucket.possible[user] = {content}
        table = self.stack.sql("select user_id, first_name, last_name, birthts, coalesce(img_path, '') from users")
        rows = {user: (tuple(person), image) for user, *person, image in table}
        assert len(rows) == len(table)
        for user in USERS:
            person, image = rows.get(user, (None, None))
            assert person in self.bucket.possible[user]
            if person is not None:
                assert image == self.bucket.image(user)
        output = list(csv.reader(io.StringIO(self.stack.bucket.read("output.csv").decode())))[1:]
        assert output == sorted([user, *map(str, person), image] for user, (person, image) in rows.items())
        rejected = self.stack.sql("select object, code from rejected")
        assert {(key, code) for key, code in rejected} == self.bucket.rejected()
        mirrored = self.stack.bucket.read_rows("rejected.csv")
        assert {(row["object"], row["code"]) for row in mirrored} == self.bucket.rejected()
        assert self.stack.sql("select count(*) from hints") == [[0]]
        again = self.replicas.settle(0)
        assert (again["added"], again["updated"], again["images_changed"]) == (0, 0, 0)

    def _event(self, named: list[str]) -> bytes:
        records = [{"s3": {"bucket": {"name": SOURCE}, "object": {"key": quote_plus(key)}}} for key in named]
        return json.dumps({"Records": records}).encode() if named else b""

    def _users(self, named: list[str]) -> tuple[str, ...]:
        """The users that an event is about; all of them when it names none, as it is then a run."""
        if not named:
            return USERS
        users = {key.partition(".")[0] for key in named if key not in MISNAMED}
        return tuple(user for user in USERS if user in users)


@pytest.fixture
def two_replicas(stack: Stack, fresh: Callable[[], None]) -> Iterator[Replicas]:
    client = stack.bucket.client
    client.make_bucket(bucket_name=SOURCE)
    client.set_bucket_versioning(bucket_name=SOURCE, config=VersioningConfig("Enabled"))
    running = Replicas(stack)
    try:
        yield running
    finally:
        running.close()
        Bucket(stack).clear()
        client.remove_bucket(bucket_name=SOURCE)


def test_any_history_converges(stack: Stack, fresh: Callable[[], None], two_replicas: Replicas) -> None:
    Convergence.stack, Convergence.fresh, Convergence.replicas = stack, staticmethod(fresh), two_replicas
    run_state_machine_as_test(
        Convergence,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
