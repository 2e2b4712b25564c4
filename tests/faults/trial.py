"""A trial: faults at random moments under load. After each round the load stops, and everything is checked."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from time import monotonic

from tests.consumer import people
from tests.faults.calls import Calls
from tests.faults.checks import find_problems
from tests.faults.disks import unavailable_reason
from tests.faults.figures import Figures, Injection
from tests.faults.kinds import Kind, kinds, vanished_clients
from tests.faults.model import Model
from tests.faults.subject import RECOVERY, RUN_DEADLINE, Slot, Subject, subject
from tests.faults.traffic import Traffic

STATIC_USERS, CHANGING_USERS = 300, 60


@dataclass(frozen=True)
class Pace:
    """The pace of faults: at most `burst` at the same time, each for at most `longest` seconds, excluding restarts."""

    burst: int
    longest: float
    round: int  # injections in each round
    vanished_clients: bool  # whether one fault of each round is `vanished_clients`


LONG = Pace(burst=7, longest=4.0, round=100, vanished_clients=True)
SHORT = Pace(burst=6, longest=1.0, round=60, vanished_clients=False)


class Trial:
    """A trial, reproducible from its seed except for timing.

    `state` is the stack's state directory; `library` is the path of libfaketime.
    """

    def __init__(self, state: Path, seed: int, pace: Pace, library: Path | None = None) -> None:
        self._state, self.random, self.pace, self._library = state, Random(seed), pace, library
        self.calls = Calls()
        settings = {
            "run_deadline": RUN_DEADLINE,
            "static_users": STATIC_USERS,
            "changing_users": CHANGING_USERS,
            **asdict(pace),
        }
        self.figures = Figures(seed, settings, {}, problems=self.calls.problems)

    def fork_random(self) -> Random:
        """Return a generator for other threads: if they used `random`, the faults would depend on their timing."""
        return Random(self.random.getrandbits(64))

    def run(self, injections: int) -> Figures:
        skipped = self.figures.skipped
        if reason := unavailable_reason():
            skipped["disk full"] = reason
        if self._library is None:
            skipped["clock jumps"] = "no --libfaketime"
        with_disks = "disk full" not in skipped
        with (
            closing(self.calls),
            subject(self._state, self.fork_random(), with_disks=with_disks, library=self._library) as system,
        ):
            Rounds(system, self).run(injections)
        return self.figures


class Rounds:
    """The rounds of a trial."""

    def __init__(self, subject: Subject, trial: Trial) -> None:
        self._subject, self._trial = subject, trial
        self._random, self._pace, self._calls, self._figures = trial.random, trial.pace, trial.calls, trial.figures
        static_ids = [f"{number}" for number in range(10_000, 10_000 + STATIC_USERS)]
        # each is a static user_id with a 0 appended, and sorts right after it, so every segment has changing users
        changing_ids = [f"{10_000 + number * STATIC_USERS // CHANGING_USERS}0" for number in range(CHANGING_USERS)]
        self._model = Model(static_ids + changing_ids, subject.stack.settings["source_bucket"])
        self._traffic = Traffic(subject, self._model, self._calls, changing_ids, trial.fork_random())
        self._static_ids = static_ids

    def run(self, injections: int) -> None:
        self._traffic.fill(self._static_ids, self._put_photo)
        self._settle_and_check()
        plan = list(self._plan(injections))
        while plan and not self._calls.problems:
            size = min(len(plan), self._pace.round)
            current, plan = plan[:size], plan[size:]
            self._round(current)
        self._figures.totals = {
            "done_runs": self._calls.outcomes("process-data")["done"],
            "partial_runs": self._calls.outcomes("process-data")["partial"],
            "calls": len(self._calls.ended),
            "uploads_removals_and_erasures": self._traffic.completed_changes,
            "postgres_restarts_after_full_disks": self._subject.restarts["postgres"],
            "seaweedfs_restarts_after_full_disks": self._subject.restarts["seaweedfs"],
        }

    def _put_photo(self, user_id: str) -> None:
        body = b"photo " + user_id.encode() * 600
        self._model.will_put_photo(user_id, "png", body)
        self._subject.stack.bucket.put(f"{user_id}.png", body)

    def _plan(self, injections: int) -> Iterator[Kind]:
        """Return the kinds to inject: each about equally often, in random order."""
        all_kinds = kinds(self._subject)
        plan: list[Kind] = []
        while len(plan) < injections:
            self._random.shuffle(all_kinds)
            plan += all_kinds
        return iter(plan[:injections])

    def _round(self, plan: Sequence[Kind]) -> None:
        self._traffic.start()
        done_before = self._calls.outcomes("process-data")["done"]
        remaining = [*plan[:-1], vanished_clients()] if self._pace.vanished_clients else list(plan)
        try:
            while remaining and not self._calls.problems:
                burst = self._take_burst(remaining)
                self._inject(burst)
            if self._calls.outcomes("process-data")["done"] == done_before:
                self._calls.add_problem("no run ended `done` during the faults")
        finally:
            self._traffic.stop()
        settle_time = self._settle_and_check()
        if settle_time is not None:
            self._figures.settle_times.append(settle_time)

    def _take_burst(self, remaining: list[Kind]) -> list[Kind]:
        """Remove from the list up to `pace.burst` kinds, no two with the same place, and return them."""
        burst: list[Kind] = []
        size = self._random.randint(1, self._pace.burst)
        for kind in list(remaining):
            if len(burst) < size and kind.place not in (other.place for other in burst):
                burst.append(kind)
                remaining.remove(kind)
        return burst

    def _inject(self, burst: Sequence[Kind]) -> None:
        """Inject faults at the same time, and wait until everything works again."""
        with ThreadPoolExecutor(len(burst)) as executor:
            periods = list(executor.map(self._inject_one, burst, [self._random.getrandbits(64) for _ in burst]))
        ended_at = monotonic()
        self._recover(ended_at, " and ".join(map(str, burst)))
        recovery = monotonic() - ended_at
        self._figures.injections += [
            Injection(str(kind), kind.group, begin, end, recovery)
            for kind, (begin, end) in zip(burst, periods, strict=True)
        ]
        print(f"{len(self._figures.injections):4} {recovery:5.1f} s  {', '.join(map(str, burst))}", flush=True)

    def _inject_one(self, kind: Kind, seed: int) -> tuple[float, float]:
        random = Random(seed)
        time.sleep(random.uniform(0, self._pace.longest / 2))
        started_at = monotonic()
        with kind.inject(self._subject, random):
            time.sleep(self._pace.longest * random.random() ** 2)
        return started_at, monotonic()

    def _recover(self, ended_at: float, faults: str) -> None:
        """Wait until each replica serves a run or a page again."""
        with ThreadPoolExecutor(len(self._subject.slots)) as executor:
            list(executor.map(lambda slot: self._recover_one(slot, ended_at, faults), self._subject.slots))

    def _recover_one(self, slot: Slot, ended_at: float, faults: str) -> None:
        is_runner = slot.function == "process-data"
        while not (self._calls.run(slot) if is_runner else self._traffic.readers[0].page(slot)):
            if monotonic() - ended_at > RECOVERY:
                self._calls.add_problem(
                    f"{slot.function} {slot.number} did not recover within {RECOVERY} s of {faults}; "
                    f"{self._subject.diagnosis()}"
                )
                return

    def _settle_and_check(self) -> float | None:
        """Wait until a run has ended `done` on each replica of process-data, and check everything.

        Return how many seconds the wait took. If it takes too long, record a problem and return None.
        """
        started_at = monotonic()
        slots = self._subject.slots_of("process-data")
        for slot in slots:
            while (summary := self._calls.run(slot)) is None or summary["status"] != "done":
                if monotonic() - started_at > RECOVERY:
                    self._calls.add_problem(
                        f"no run ended `done` within {RECOVERY} s after the traffic stopped: {summary}; "
                        f"{self._subject.diagnosis()}"
                    )
                    return None
        settle_time = monotonic() - started_at
        for problem in find_problems(self._subject, self._model, self._calls):
            self._calls.add_problem(problem)
        if not self._traffic.consumer.follow() or self._traffic.consumer.people != people(self._subject.stack):
            self._calls.add_problem("the copy that follows /changes is not up to date")
        print(f"run done after {settle_time:.1f} s: {len(self._calls.problems)} problems", flush=True)
        return settle_time
