"""Scheduled invocations, configured by the annotations `topic: cron-function` and `schedule` as for cron-connector."""

import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from threading import Event, Thread

import urllib3
from croniter import CroniterError, croniter

from ..config.stack import FunctionSpec, parse_duration
from ..errors import LocalError
from ..output import Say

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
    """A cron expression, a descriptor such as @daily, or an interval such as @every 1m30s. Times are in UTC."""

    def __init__(self, text: str, where: str) -> None:
        self._interval = 0.0  # seconds; if 0, `_expression` applies
        # */1 means * to cron-connector; croniter would treat it as a restriction and combine day and weekday with OR
        expression = text if text.startswith("@") else text.lower().replace("?", "*")
        self._expression = re.sub(r"(?<!\S)\*/0*1(?!\S)", "*", expression)
        if text.startswith("@every "):
            duration = text.removeprefix("@every ")
            self._interval = 0 if duration.isdecimal() else parse_duration(duration, where)  # a unit is required
            if self._interval < 1:
                expected = "an interval of one second or more, such as 90s or 1m30s"
                raise LocalError(f"{where}: invalid schedule {text!r}: expected {expected}")
        else:
            _validate(self._expression, f"{where}: invalid schedule {text!r}")
        try:
            self.after(time.time())
        except CroniterError as error:
            raise LocalError(f"{where}: invalid schedule {text!r}: it is never due ({error})") from error

    def after(self, moment: float) -> float:
        """Return the first time after `moment` at which the schedule is due, both in seconds since 1970."""
        if self._interval:
            return moment + self._interval
        return float(croniter(self._expression, datetime.fromtimestamp(moment, UTC)).get_next(float))


def read_schedules(specs: Iterable[FunctionSpec]) -> dict[str, Schedule]:
    """Return the schedules of the functions that have one. Raise LocalError if one is invalid."""
    return {
        spec.name: Schedule(spec.annotations.get("schedule", ""), f"{spec.name}: annotations.schedule")
        for spec in specs
        if spec.annotations.get("topic") == TOPIC
    }


class Scheduler:
    """Invokes functions through the gateway, even while a previous invocation is running."""

    def __init__(self, schedules: dict[str, Schedule], gateway: str, say: Say) -> None:
        self._gateway, self._say = gateway, say
        self._stopping = Event()
        self._pool = urllib3.PoolManager(retries=False, maxsize=8)
        self._threads = [
            Thread(target=self._run, args=(name, schedule), name=f"schedule {name}", daemon=True)
            for name, schedule in schedules.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self, name: str, schedule: Schedule) -> None:
        due = schedule.after(time.time())
        while not self._stopping.wait(max(0.0, due - time.time())):
            Thread(target=self._invoke, args=(name,), daemon=True).start()
            due = schedule.after(max(due, time.time()))  # missed times are skipped

    def _invoke(self, name: str) -> None:
        headers = {"X-Topic": TOPIC, "X-Connector": "cron-connector"}
        try:
            response = self._pool.request("POST", f"{self._gateway}/function/{name}", headers=headers)
            outcome = f"returned {response.status}"
        except urllib3.exceptions.HTTPError as error:
            outcome = f"failed: {error}"
        self._say(f"schedule: {name} {outcome}")


def _validate(text: str, error: str) -> None:
    """Raise LocalError unless `text` is a descriptor or has five valid fields. The message begins with `error`."""
    if text in _DESCRIPTORS:
        return
    fields = text.split()
    if len(fields) != len(_FIELDS):
        expected = f"five fields (minute hour day month weekday), {', '.join(_DESCRIPTORS)} or @every 1m30s"
        raise LocalError(f"{error}: expected {expected}")
    for field, (name, minimum, maximum, names) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            match = _PART.fullmatch(part)
            if not match or (match[3] and int(match[3]) == 0):
                raise LocalError(f"{error}: invalid {name} {part!r}")
            bounds = [_number(bound, minimum, names) for bound in match.groups()[:2] if bound]
            if any(not minimum <= bound <= maximum for bound in bounds) or bounds != sorted(set(bounds)):
                raise LocalError(
                    f"{error}: invalid {name} {part!r}: expected {minimum} to {maximum}; a range must ascend"
                )


def _number(text: str, minimum: int, names: tuple[str, ...]) -> int:
    """Return the number that `text`, a number or a name, stands for; -1 if it is neither."""
    if text in names:
        return names.index(text) + minimum
    return int(text) if text.isascii() and text.isdecimal() else -1
