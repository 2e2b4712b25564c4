"""After random histories, one more run makes the tables and the result bucket match the source bucket.

tests/model.py computes the expected state. Two replicas run; one of them is sometimes killed or frozen. Segments have
five keys, so they are often split and merged. People are erased, and the database is restored from a dump.
"""

import csv
import io
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from minio.error import S3Error
from minio.versioningconfig import VersioningConfig

from tests.model import BAD, PHOTO_EXTENSIONS, SOURCE, USERS, SourceBucket, State, Tombstone
from tests.postgres import dump, restore
from tests.replicas import Replicas, erase_path
from tests.stack import Stack

MISNAMED = ("x.csv", "a b+c%2F.csv", "1.x.csv", "12.CSV", "12.old.csv", "0x.csv")
UNRELATED = ("12-x", "12.d", "12.zz", "12", "12/in a folder.csv", "2/1.csv", "0", "~", "129.bak", "é", "3.csv.bak")

EXAMPLES, STEPS = 4, 30

user_ids = st.sampled_from(USERS)
some_users = st.lists(user_ids, min_size=1, max_size=3, unique=True)
erased_ids = st.sampled_from(USERS[:2])  # few users, so that they return and are erased again
erased_users = st.lists(erased_ids, min_size=1, unique=True)
extensions = st.sampled_from(PHOTO_EXTENSIONS)
misnamed = st.sampled_from(MISNAMED)
unrelated = st.sampled_from(UNRELATED)
keys = st.lists(st.one_of(st.builds("{}.{}".format, user_ids, st.sampled_from(("csv", *PHOTO_EXTENSIONS))), misnamed))
changes = st.one_of(
    st.tuples(st.just("put_good"), user_ids),
    st.tuples(st.just("put_good"), user_ids),  # listed twice, to be chosen more often
    st.tuples(st.just("put_newer"), erased_ids),
    st.tuples(st.just("put_again"), user_ids),
    st.tuples(st.just("put_future"), user_ids),
    st.tuples(st.just("put_bad"), user_ids, st.sampled_from(tuple(BAD))),
    st.tuples(st.just("remove"), user_ids),
    st.tuples(st.just("restore"), user_ids),
    st.tuples(st.just("put_photo"), user_ids, extensions),
    st.tuples(st.just("remove_photo"), user_ids, extensions),
    st.tuples(st.just("put_misnamed"), misnamed),
    st.tuples(st.just("remove_misnamed"), misnamed),
    st.tuples(st.just("put_unrelated"), unrelated),
    st.tuples(st.just("remove_unrelated"), unrelated),
)
some_changes = st.lists(changes, min_size=1, max_size=6)
replica_numbers = st.integers(0, 1)

_TOMBSTONES = "select user_id, extract(epoch from csv_modified)::bigint from erased"


class Convergence(RuleBasedStateMachine):
    stack: Stack
    reset_stack: Callable[[], None]
    replicas: Replicas
    directory: Path  # for the dump

    @initialize()
    def reset(self) -> None:
        self.reset_stack()
        self.bucket = SourceBucket(self.stack.bucket.client)
        self.bucket.clear()
        self.is_restored = False
        self.bucket.put_unrelated("!")  # the bucket is never empty

    @rule(changes=some_changes)
    def change(self, changes: list[tuple[str, ...]]) -> None:
        for name, *arguments in changes:
            getattr(self.bucket, name)(*arguments)

    @rule(number=replica_numbers)
    def run(self, number: int) -> None:
        self.replicas.run_and_check_done(number)
        self.bucket.record_scan(USERS)

    @rule(number=replica_numbers, users=some_users)
    def run_for_users(self, number: int, users: list[str]) -> None:
        assert self.replicas.post(number, "?" + "&".join(f"user_id={user}" for user in users)) == 200
        self.bucket.record_scan(users)

    @rule(number=replica_numbers, keys=keys)
    def event(self, number: int, keys: list[str]) -> None:
        assert self.replicas.post(number, body=self._event(keys)) == 200
        self.bucket.record_scan(self._users(keys))
        assert self.stack.sql("select count(*) from hints") == [[0]]

    @rule(number=replica_numbers, users=erased_users)
    def erase(self, number: int, users: list[str]) -> None:
        """When the response arrives, output.csv lacks the users and erased.csv has their tombstones."""
        summary = self.replicas.erase(number, users)
        assert (summary["status"], summary["remaining"]) == ("done", [])
        self.bucket.record_erasure(users)
        assert not set(users) & {row["user_id"] for row in self.stack.bucket.read_rows("output.csv")}
        assert set(users) <= self._exported_tombstones().keys()

    @precondition(lambda self: not self.is_restored)
    @rule(number=replica_numbers, before=erased_users, returned=erased_users, after=erased_users)
    def restore(self, number: int, before: list[str], returned: list[str], after: list[str]) -> None:
        """Erase users, dump the database, let users return, erase users, and restore the dump. Once per history."""
        self.erase(number, before)
        self.run(number)
        possible_at_dump = {user: set(states) for user, states in self.bucket.possible.items()}
        dump(self.stack.settings, self.directory / "dump")
        for user in returned:
            self.bucket.put_newer(user)
        self.run(number)
        self.erase(number, after)
        restore(self.stack.settings, self.directory / "dump")
        self.bucket.record_database_restore(possible_at_dump, self._exported_tombstones())
        self.is_restored = True

    @rule(
        runs=st.lists(replica_numbers, max_size=3),
        events=st.lists(st.tuples(replica_numbers, keys), max_size=3),
        erasures=st.lists(st.tuples(replica_numbers, erased_users), max_size=2),
        changes=some_changes,
        fault=st.sampled_from((None, None, None, "kill", "freeze")),
        seed=st.integers(0, 2**32 - 1),
    )
    def overlap(
        self,
        runs: list[int],
        events: list[tuple[int, list[str]]],
        erasures: list[tuple[int, list[str]]],
        changes: list[tuple[str, ...]],
        fault: str | None,
        seed: int,
    ) -> None:
        """Run, send events and erase at the same time, while the bucket changes. A replica may be killed or frozen."""
        erased = {user for _, users in erasures for user in users}
        self.bucket.record_possible_scan(erased)
        with ThreadPoolExecutor(8) as executor:
            calls: list[Future[int]] = [executor.submit(self.replicas.post, number) for number in runs]
            calls += [executor.submit(self.replicas.post, number, "", self._event(keys)) for number, keys in events]
            calls += [executor.submit(self.replicas.post, number, erase_path(users)) for number, users in erasures]
            for change in changes[:-1]:
                self.change([change])
                self.bucket.record_possible_scan(erased)
            time.sleep(random.Random(seed).uniform(0, 0.05))
            if fault == "kill":
                self.replicas.kill(0)
            if fault == "freeze":
                self.replicas.freeze(0)
            try:
                self.change(changes[-1:])
                self.bucket.record_possible_scan(erased)
                if fault is not None:
                    assert self.replicas.post(1) in (200, 503)
            finally:
                if fault == "freeze":
                    self.replicas.thaw(0)
        statuses = {call.result() for call in calls}
        assert statuses <= {None: {200}, "freeze": {200, 503}, "kill": {200, 503, 0}}[fault]  # 0: killed

    def teardown(self) -> None:
        """Run once more and compare everything with the model."""
        if not hasattr(self, "bucket"):
            return
        time.sleep(max(0.0, max(map(self.bucket.birth, USERS)) + 0.01 - time.time()))  # until all births have passed
        self.bucket.record_possible_scan()
        self.replicas.run_and_check_done(1)
        self.bucket.record_final_scan()
        tombstones = {user: Tombstone(modified) for user, modified in self.stack.sql(_TOMBSTONES)}
        table = self.stack.sql("select user_id, first_name, last_name, birthts, coalesce(img_path, '') from users")
        rows = {user: ((first, last, birthts), image) for user, first, last, birthts, image in table}
        assert len(rows) == len(table)
        assert not rows.keys() & tombstones.keys()
        states: dict[str, State] = {**tombstones, **{user: person for user, (person, _) in rows.items()}}
        for user in USERS:
            assert states.setdefault(user, None) in self.bucket.possible[user]
        assert {user: image for user, (_, image) in rows.items()} == {user: self.bucket.img_path(user) for user in rows}
        output = list(csv.reader(io.StringIO(self.stack.bucket.read("output.csv").decode())))[1:]
        assert output == sorted([user, *map(str, person), image] for user, (person, image) in rows.items())
        rejected = self.stack.sql("select object, code from rejected")
        assert {(key, code) for key, code in rejected} == self.bucket.rejected(states)
        exported = self.stack.bucket.read_rows("rejected.csv")
        assert {(row["object"], row["code"]) for row in exported} == self.bucket.rejected(states)
        assert self._exported_tombstones() == tombstones
        assert self.stack.sql("select count(*) from hints") == [[0]]
        summary = self.replicas.run_and_check_done(0)
        assert (summary["added"], summary["updated"], summary["images_changed"]) == (0, 0, 0)

    def _exported_tombstones(self) -> dict[str, Tombstone]:
        """Return the tombstones in erased.csv."""
        try:
            rows = self.stack.bucket.read_rows("erased.csv")
        except S3Error:  # no user was erased yet
            return {}
        modified = {row["user_id"]: row["csv_modified"] for row in rows}
        return {
            user: Tombstone(int(datetime.fromisoformat(text).timestamp()) if text else None)
            for user, text in modified.items()
        }

    def _event(self, keys: list[str]) -> bytes:
        """Return the body of an event for these keys, or no body if there are none."""
        records = [{"s3": {"bucket": {"name": SOURCE}, "object": {"key": quote_plus(key)}}} for key in keys]
        return json.dumps({"Records": records}).encode() if keys else b""

    def _users(self, keys: list[str]) -> tuple[str, ...]:
        """Return the users that the event processes: all if there are no keys."""
        if not keys:
            return USERS
        users = {key.partition(".")[0] for key in keys if key not in MISNAMED}
        return tuple(user for user in USERS if user in users)


@pytest.fixture
def replicas(stack: Stack) -> Iterator[Replicas]:
    client = stack.bucket.client
    client.make_bucket(bucket_name=SOURCE)
    client.set_bucket_versioning(bucket_name=SOURCE, config=VersioningConfig("Enabled"))
    running = Replicas(stack)
    try:
        yield running
    finally:
        running.close()
        SourceBucket(client).clear()
        client.remove_bucket(bucket_name=SOURCE)


def test_random_histories_converge(
    stack: Stack, reset_stack: Callable[[], None], replicas: Replicas, tmp_path: Path
) -> None:
    Convergence.stack, Convergence.reset_stack, Convergence.replicas = stack, staticmethod(reset_stack), replicas
    Convergence.directory = tmp_path
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
