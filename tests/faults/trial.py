"""A trial: faults at random moments while everything goes on, and after each round a rest at which all is checked."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from time import monotonic

from tests.faults.calls import Calls
from tests.faults.checks import check_rest, people
from tests.faults.disks import why_not
from tests.faults.figures import Figures, Injection
from tests.faults.kinds import Kind, kinds, lasting
from tests.faults.model import Model
from tests.faults.subject import RUN_DEADLINE, Slot, Subject, subject
from tests.faults.traffic import Traffic

RECOVERY = 120  # seconds until everything works again, without a restart
PEOPLE, ACTIVE = 300, 60  # users who stay as they are, and who change


@dataclass(frozen=True)
class Pace:
    """How fast faults follow each other: `burst` at most at the same time, each for `longest` seconds at most."""

    burst: int
    longest: float
    round: int  # injections between two rests
    lasting: bool  # whether each round ends with clients that vanish for good, which takes a minute to be noticed


LONG = Pace(burst=7, longest=4.0, round=100, lasting=True)
SHORT = Pace(burst=6, longest=1.0, round=60, lasting=False)


class Trial:
    """A trial that the seed determines, as far as the moments of the machine's own allow. `state` is a directory."""

    def __init__(self, state: Path, seed: int, pace: Pace, library: Path | None = None) -> None:
        self._state, self.random, self.pace, self._library = state, Random(seed), pace, library
        self.calls = Calls()
        settings = {"run_deadline": RUN_DEADLINE, "people": PEOPLE, "changing": ACTIVE, **asdict(pace)}
        self.figures = Figures(seed, settings, {}, problems=self.calls.problems)

    def run(self, injections: int) -> Figures:
        skipped = self.figures.skipped
        if reason := why_not():
            skipped["disk full"] = reason
        if self._library is None:
            skipped["clock jumps"] = "no libfaketime was given"
        disks = "disk full" not in skipped
        with (
            closing(self.calls),
            subject(self._state, self.random, with_disks=disks, library=self._library) as made,
        ):
            Rounds(made, self).run(injections)
        return self.figures


class Rounds:
    """The rounds of a trial on its subject."""

    def __init__(self, subject: Subject, trial: Trial) -> None:
        self._subject, self._trial = subject, trial
        self._random, self._pace, self._calls, self._figures = trial.random, trial.pace, trial.calls, trial.figures
        static = [f"{number}" for number in range(10_000, 10_000 + PEOPLE)]
        active = [f"{10_000 + number * PEOPLE // ACTIVE}0" for number in range(ACTIVE)]
        self._model = Model(static + active, subject.stack.settings["source_bucket"])
        self._traffic = Traffic(subject, self._model, self._calls, active, self._random)
        self._static = static

    def run(self, injections: int) -> None:
        self._traffic.fill(self._static, self._put_photo)
        self._rest()
        plan = list(self._plan(injections))
        while plan and not self._calls.problems:
            size = min(len(plan), self._pace.round)
            current, plan = plan[:size], plan[size:]
            self._round(current)
        self._figures.totals = {
            "done_runs": self._calls.outcomes("process-data")["done"],
            "partial_runs": self._calls.outcomes("process-data")["partial"],
            "calls": len(self._calls.ended),
            "uploads_and_erasures": self._traffic.uploads,
        }

    def _put_photo(self, user_id: str) -> None:
        body = b"photo " + user_id.encode() * 600
        self._model.will_put_photo(user_id, "png", body)
        self._subject.stack.bucket.put(f"{user_id}.png", body)

    def _plan(self, injections: int) -> Iterator[Kind]:
        """Every kind equally often, in random order."""
        possible = kinds(self._subject)
        chosen: list[Kind] = []
        while len(chosen) < injections:
            self._random.shuffle(possible)
            chosen += possible
        return iter(chosen[:injections])

    def _round(self, plan: Sequence[Kind]) -> None:
        self._traffic.start()
        done = self._calls.outcomes("process-data")["done"]
        left = [*plan[:-1], lasting()] if self._pace.lasting else list(plan)
        while left:
            burst = self._take_burst(left)
            self._inject(burst)
        if self._calls.outcomes("process-data")["done"] == done:
            self._calls.note("no run was done beside the faults")
        self._traffic.stop_uploading()
        self._traffic.stop()
        self._rest()

    def _take_burst(self, left: list[Kind]) -> list[Kind]:
        """Take the next faults, each in another place, off the list."""
        burst: list[Kind] = []
        size = self._random.randint(1, self._pace.burst)
        for kind in list(left):
            if len(burst) < size and kind.place not in (one.place for one in burst):
                burst.append(kind)
                left.remove(kind)
        return burst

    def _inject(self, burst: Sequence[Kind]) -> None:
        """Let faults happen at the same time, and wait until everything works again."""
        with ThreadPoolExecutor(len(burst)) as executor:
            times = list(executor.map(self._inject_one, burst, [self._random.getrandbits(64) for _ in burst]))
        over = monotonic()
        self._recover(over, " and ".join(map(str, burst)))
        recovery = monotonic() - over
        self._figures.injections += [
            Injection(str(kind), began, ended, recovery) for kind, (began, ended) in zip(burst, times, strict=True)
        ]
        print(f"{len(self._figures.injections):4} {recovery:5.1f} s  {', '.join(map(str, burst))}", flush=True)

    def _inject_one(self, kind: Kind, seed: int) -> tuple[float, float]:
        random = Random(seed)
        time.sleep(random.uniform(0, self._pace.longest / 2))
        began = monotonic()
        with kind.inject(self._subject, random):
            time.sleep(self._pace.longest * random.random() ** 2)
        return began, monotonic()

    def _recover(self, over: float, what: str) -> None:
        """Wait until each replica serves again: a run, or a page."""
        with ThreadPoolExecutor(len(self._subject.slots)) as executor:
            list(executor.map(lambda slot: self._recover_one(slot, over, what), self._subject.slots))

    def _recover_one(self, slot: Slot, over: float, what: str) -> None:
        is_runner = slot.function == "process-data"
        while not (self._calls.run(slot) if is_runner else self._traffic.readers[0].page(slot)):
            if monotonic() - over > RECOVERY:
                self._calls.note(f"{slot.function} {slot.number} did not recover within {RECOVERY} s of {what}")
                return

    def _rest(self) -> None:
        """Wait until a run is done, and check everything."""
        began = monotonic()
        slots = self._subject.slots_of("process-data")
        for slot in slots:
            while (summary := self._calls.run(slot)) is None or summary["status"] != "done":
                if monotonic() - began > RECOVERY:
                    self._calls.note(f"no run was done {RECOVERY} s after the last fault: {summary}")
                    return
        self._figures.rests.append(monotonic() - began)
        for problem in check_rest(self._subject, self._model, self._calls):
            self._calls.note(problem)
        if not self._traffic.copy.follow() or self._traffic.copy.people != people(self._subject.stack):
            self._calls.note("the copy that follows /changes is not exact")
        print(f"at rest after {self._figures.rests[-1]:.1f} s: {len(self._calls.problems)} problems", flush=True)
