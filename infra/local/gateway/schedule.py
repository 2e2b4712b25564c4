"""Scheduled invocations: the annotations `topic: cron-function` and `schedule`, as cron-connector takes them."""

import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from threading import Event, Thread

import urllib3
from croniter import CroniterError, croniter

from .errors import LocalError
from .stack import FunctionSpec, seconds

TOPIC = "cron-function"

_DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("weekday", 0, 6, _DAYS),
)
_PART = re.compile(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/(\d+))?")


class Schedule:
    """When a function is due, in UTC."""

    def __init__(self, text: str, where: str) -> None:
        self._every = 0.0
        self._fields = text.strip().lower().replace("?", "*")
        if self._fields.startswith("@every "):
            self._every = seconds(self._fields.removeprefix("@every ").strip(), where)
            if self._every < 1:
                raise LocalError(f"{where}: {text!r} is not allowed: one second or more")
        elif problem := _problem(self._fields):
            allowed = f"five fields (minute hour day month weekday), {', '.join(_DESCRIPTORS)}, @every 1m30s"
            raise LocalError(f"{where}: {text!r} is not allowed: {problem}; allowed: {allowed}")
        try:
            self.after(time.time())
        except CroniterError as error:
            raise LocalError(f"{where}: {text!r} is not allowed: it is never due ({error})") from error

    def after(self, moment: float) -> float:
        """The next time that it is due, in seconds since 1970."""
        if self._every:
            return moment + self._every
        return float(croniter(self._fields, datetime.fromtimestamp(moment, UTC)).get_next(float))


def read_schedules(specs: Iterable[FunctionSpec]) -> dict[str, Schedule]:
    """The schedules of the functions that have one. LocalError names the function whose schedule is bad."""
    return {
        spec.name: Schedule(spec.annotations.get("schedule", ""), f"{spec.name}: annotations.schedule")
        for spec in specs
        if spec.annotations.get("topic") == TOPIC
    }


class Scheduler:
    """Invokes through the gateway. A function still at work is invoked again all the same."""

    def __init__(self, schedules: dict[str, Schedule], gateway: str, say: Callable[[str], None]) -> None:
        self._gateway, self._say = gateway, say
        self._stopping = Event()
        self._pool = urllib3.PoolManager(retries=False, maxsize=8)
        self._threads = [
            Thread(target=self._keep, args=(name, schedule), name=f"schedule {name}", daemon=True)
            for name, schedule in schedules.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _keep(self, name: str, schedule: Schedule) -> None:
        due = schedule.after(time.time())
        while not self._stopping.wait(max(0.0, due - time.time())):
            Thread(target=self._invoke, args=(name,), daemon=True).start()
            due = schedule.after(max(due, time.time()))  # what a sleeping machine missed stays missed

    def _invoke(self, name: str) -> None:
        headers = {"X-Topic": TOPIC, "X-Connector": "cron-connector"}
        try:
            answer = self._pool.request("POST", f"{self._gateway}/function/{name}", headers=headers)
            outcome = f"answered {answer.status}"
        except urllib3.exceptions.HTTPError as error:
            outcome = f"failed: {error}"
        self._say(f"schedule: {name} {outcome}")


def _problem(text: str) -> str | None:
    """What is wrong with five fields; None when nothing is."""
    if text in _DESCRIPTORS:
        return None
    fields = text.split()
    if len(fields) != len(_FIELDS):
        return f"it has {len(fields)} fields"
    for field, (name, low, high, names) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            match = _PART.fullmatch(part)
            if not match or match[3] == "0" * len(match[3] or "-"):
                return f"{name} {part!r}"
            ends = [_number(end, low, names) for end in match.groups()[:2] if end]
            if any(not low <= end <= high for end in ends) or ends != sorted(ends):
                return f"{name} {part!r} (from {low} to {high})"
    return None


def _number(text: str, low: int, names: tuple[str, ...]) -> int:
    """The number that a field's end stands for; -1 when it stands for none."""
    if text in names:
        return names.index(text) + low
    return int(text) if text.isascii() and text.isdecimal() else -1
