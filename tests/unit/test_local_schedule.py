"""A schedule is due at the same times as in cron-connector; one that cron-connector rejects is an error.

Some mistakes that cron-connector accepts are errors too, such as a schedule that is never due.
"""

from datetime import UTC, datetime

import pytest

from infra.local.config.stack import read_stack
from infra.local.errors import LocalError
from infra.local.gateway.schedule import Schedule, read_schedules
from tests.stack import ROOT

START = datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC)  # a Saturday


def due(text: str) -> str:
    moment = datetime.fromtimestamp(Schedule(text, "f").after(START.timestamp()), UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", "2026-02-01 00:00:00"),
        ("*/15 * * * *", "2026-02-01 00:00:00"),
        ("7/20 * * * *", "2026-02-01 00:07:00"),
        ("10-20/5,3 4 * * *", "2026-02-01 04:03:00"),
        ("0 0 ? * MON", "2026-02-02 00:00:00"),
        ("0 12 * Mar-may *", "2026-03-01 12:00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 0 3 * tue", "2026-02-03 00:00:00"),
        ("0 0 5 * tue", "2026-02-03 00:00:00"),  # the day of the month or the weekday
        ("0 0 */1 * tue", "2026-02-03 00:00:00"),
        ("0 0 5 * */1", "2026-02-05 00:00:00"),
        ("0 0 */01 * */2", "2026-02-01 00:00:00"),
        ("  5  1 * * 0 ", "2026-02-01 01:05:00"),
        ("@hourly", "2026-02-01 00:00:00"),
        ("@daily", "2026-02-01 00:00:00"),
        ("@midnight", "2026-02-01 00:00:00"),
        ("@weekly", "2026-02-01 00:00:00"),
        ("@monthly", "2026-02-01 00:00:00"),
        ("@yearly", "2027-01-01 00:00:00"),
        ("@annually", "2027-01-01 00:00:00"),
        ("@every 1m30s", "2026-02-01 00:01:00"),
    ],
)
def test_a_schedule_is_due_when_cron_connector_would_run_it(text: str, expected: str) -> None:
    assert due(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *",
        "* * * * 7", "20-10 * * * *", "*/0 * * * *", "*/x * * * *", "-5 * * * *", "a * * * *", "* * * mon *",
        "1,,2 * * * *", "*-5 * * * *", "* * L * *", "* * * * mon#2", "H * * * *", "@reboot", "@fortnightly",
        "@every", "@every soon", "@every 0s", "@every 90", "@Hourly", "@EVERY 1m", " @hourly", "every minute",
        "0 0 31 2 *", "٣ * * * *", "0 2-2 * * *",
    ],
)  # fmt: skip
def test_an_invalid_schedule_is_an_error(text: str) -> None:
    with pytest.raises(LocalError, match=r"^process-data: annotations\.schedule: ") as raised:
        Schedule(text, "process-data: annotations.schedule")
    assert repr(text) in str(raised.value) or text == "@every soon"  # here the error quotes only the interval


def test_the_schedule_in_stack_yml_is_valid() -> None:
    endpoints = {"S3_ENDPOINT": "s3:1", "POSTGRES_HOST": "pg", "POSTGRES_PORT": "2"}
    assert read_schedules(read_stack(ROOT, endpoints).functions).keys() == {"process-data"}
