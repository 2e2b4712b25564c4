"""Promise 1: whatever came before, after one more run the roll is what the bucket's history makes it.

A small model in plain Python says what that is. Where runs overlap with changes to the bucket, a version that
was there for a moment may or may not have been seen: the model then keeps every possibility until a run that
overlaps with nothing settles it.
"""

import csv
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.stack import Stack

USERS = ("1", "12", "120", "2")
PREFIXES = ("", "1", "12", "2")
PHOTOS = ("png", "jpg", "jpeg")  # in the order of preference
BAD = {
    "empty": b"",
    "no_row": b"first_name,last_name,birthts\n",
    "not_an_integer": b"first_name,last_name,birthts\nAda,Lovelace,soon\n",
    "too_large": b"x" * 70_000,
}

EXAMPLES, STEPS = 14, 40

Person = tuple[str, str, int]


class Bucket:
    """The source bucket, and what the roll must make of its history."""

    def __init__(self, roll: Stack) -> None:
        self._bucket = roll.bucket
        self.people: dict[str, Person | str] = {}  # a CSV's person, or the code of what is wrong with it
        self.photos: set[tuple[str, str]] = set()
        self.misnamed: set[str] = set()
        self.possible: dict[str, set[Person | None]] = {user: {None} for user in USERS}
        self._numbers = count()

    def put_good(self, user: str) -> None:
        number = next(self._numbers)
        person = (f"First {number}", f"Last {number}", number)
        self._bucket.put_person(user, *person)
        self.people[user] = person

    def put_bad(self, user: str, code: str) -> None:
        self._bucket.put(f"{user}.csv", BAD[code] + b"\n" * next(self._numbers))
        self.people[user] = code

    def remove(self, user: str) -> None:
        self._bucket.remove(f"{user}.csv")
        self.people.pop(user, None)

    def put_photo(self, user: str, kind: str) -> None:
        self._bucket.put(f"{user}.{kind}", b"photo %d" % next(self._numbers))
        self.photos.add((user, kind))

    def remove_photo(self, user: str, kind: str) -> None:
        self._bucket.remove(f"{user}.{kind}")
        self.photos.discard((user, kind))

    def put_misnamed(self, name: str) -> None:
        self._bucket.put(name, b"")
        self.misnamed.add(name)

    def remove_misnamed(self, name: str) -> None:
        self._bucket.remove(name)
        self.misnamed.discard(name)

    def may_be_seen(self) -> None:
        """A run may have read what is there now."""
        for user, person in self.people.items():
            if isinstance(person, tuple):
                self.possible[user].add(person)

    def is_seen(self, users: tuple[str, ...]) -> None:
        """A run that overlapped with nothing has read these users."""
        for user in users:
            if isinstance(person := self.people.get(user), tuple):
                self.possible[user] = {person}

    def image(self, user: str) -> str:
        return next((f"src/{user}.{kind}" for kind in PHOTOS if (user, kind) in self.photos), "")

    def rejected(self) -> set[tuple[str, str]]:
        bad = {(f"{user}.csv", code) for user, code in self.people.items() if isinstance(code, str)}
        return bad | {(name, "bad_name") for name in self.misnamed}


user_ids = st.sampled_from(USERS)
kinds = st.sampled_from(PHOTOS)
names = st.sampled_from(("x.csv", "a b+c%2F.csv", "1.x.csv", "12.CSV"))
changes = st.one_of(
    st.tuples(st.just("put_good"), user_ids),
    st.tuples(st.just("put_bad"), user_ids, st.sampled_from(tuple(BAD))),
    st.tuples(st.just("remove"), user_ids),
    st.tuples(st.just("put_photo"), user_ids, kinds),
    st.tuples(st.just("remove_photo"), user_ids, kinds),
    st.tuples(st.just("put_misnamed"), names),
    st.tuples(st.just("remove_misnamed"), names),
)


class Convergence(RuleBasedStateMachine):
    roll: Stack
    fresh: Callable[[], None]

    @initialize()
    def empty(self) -> None:
        self.fresh()
        self.bucket = Bucket(self.roll)

    @rule(change=changes)
    def change(self, change: tuple[str, ...]) -> None:
        name, *arguments = change
        getattr(self.bucket, name)(*arguments)

    @rule(prefix=st.sampled_from(PREFIXES))
    def run(self, prefix: str) -> None:
        assert self._run(prefix) == 200
        self.bucket.is_seen(tuple(user for user in USERS if user.startswith(prefix)))

    @rule(keys=st.lists(st.one_of(st.builds("{}.{}".format, user_ids, st.sampled_from(("csv", *PHOTOS))), names)))
    def event(self, keys: list[str]) -> None:
        assert self._event(keys) == 200
        named = {
            key.partition(".")[0] for key in keys if key.rpartition(".")[2] in ("csv", *PHOTOS) and key.count(".") == 1
        }
        self.bucket.is_seen(tuple(user for user in USERS if user in named))

    @rule(
        prefixes=st.lists(st.sampled_from(PREFIXES), max_size=3),
        events=st.lists(st.lists(st.builds("{}.csv".format, user_ids), min_size=1, max_size=3), max_size=2),
        changed=st.lists(changes, max_size=4),
    )
    def overlap(self, prefixes: list[str], events: list[list[str]], changed: list[tuple[str, ...]]) -> None:
        """Runs and events at the same time, while the bucket changes."""
        self.bucket.may_be_seen()
        with ThreadPoolExecutor(6) as executor:
            runs = [executor.submit(self._run, prefix) for prefix in prefixes]
            runs += [executor.submit(self._event, keys) for keys in events]
            for change in changed:
                self.change(change)
                self.bucket.may_be_seen()
        assert all(run.result() in (200, 409) for run in runs)

    def _run(self, prefix: str) -> int:
        return self.roll.request("POST", f"/function/process-data?prefix={prefix}").status

    def _event(self, keys: list[str]) -> int:
        return self.roll.event(*keys).status

    def teardown(self) -> None:
        """At the end one run; then everything is as the model has it."""
        if not hasattr(self, "bucket"):
            return
        self.run("")
        table = self.roll.sql("select user_id, first_name, last_name, birthts, coalesce(img_path, '') from users")
        rows = {user: (tuple(person), image) for user, *person, image in table}
        assert len(rows) == len(table)
        for user in USERS:
            person, image = rows.get(user, (None, None))
            assert person in self.bucket.possible[user]
            if person is not None:
                assert image == self.bucket.image(user)
        output = list(csv.reader(io.StringIO(self.roll.bucket.read("output.csv").decode())))[1:]
        assert output == sorted([user, *map(str, person), image] for user, (person, image) in rows.items())
        rejected = self.roll.sql("select object, code from rejected")
        assert {(key, code) for key, code in rejected} == self.bucket.rejected()
        mirrored = csv.DictReader(io.StringIO(self.roll.bucket.read("rejected.csv").decode()))
        assert {(row["object"], row["code"]) for row in mirrored} == self.bucket.rejected()


def test_any_history_converges(stack: Stack, fresh: Callable[[], None]) -> None:
    Convergence.roll, Convergence.fresh = stack, staticmethod(fresh)
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
