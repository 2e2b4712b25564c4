"""Metrics in Prometheus's text format: the state that the gateway's own metrics do not show."""

from dataclasses import dataclass

from .shared.storage.connection import Connection

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Gauge:
    """`value` is SQL for one number, evaluated once, or for each row of `outputs` if `per_output`."""

    name: str
    description: str
    value: str
    per_output: bool = False

    @property
    def sql(self) -> str:
        """SQL that selects the samples: the name of the gauge, the object or null, and the value."""
        label, source = ("object", "from outputs") if self.per_output else ("null", "")
        return f"select '{self.name}', {label}, ({self.value})::float {source}"


GAUGES = (
    Gauge(
        "rollcall_last_full_run_timestamp_seconds",
        "End of the latest full run with status done, 0 if there is none",
        "select coalesce(extract(epoch from max(finished_at)), 0) from runs "
        "where status = 'done' and scope = 'bucket'",
    ),
    Gauge(
        "rollcall_last_scan_timestamp_seconds",
        "Start of the latest complete scan of a segment, 0 if there is none",
        "select coalesce(extract(epoch from max(scanned_at)), 0) from segments",
    ),
    Gauge(
        "rollcall_unreadable_objects",
        "CSVs that the last complete scan of each segment could not read from S3",
        "select coalesce(sum(unreadable), 0) from segments",
    ),
    Gauge("rollcall_rejected_files", "Files that are rejected", "select count(*) from rejected"),
    Gauge("rollcall_hints", "Objects to scan after an event, a request or a restore", "select count(*) from hints"),
    Gauge("rollcall_output_rows", "Rows of the object when it was last written", "rows", per_output=True),
    Gauge(
        "rollcall_output_pending",
        "1 while the object is behind the database",
        "(changed > written)::int",
        per_output=True,
    ),
    Gauge(
        "rollcall_output_written_timestamp_seconds",
        "Time of the last export of the object, 0 if there is none",
        "coalesce(extract(epoch from written_at), 0)",
        per_output=True,
    ),
    Gauge(
        "rollcall_output_export_seconds",
        "Duration of the last export of the object in seconds",
        "seconds",
        per_output=True,
    ),
)  # fmt: skip

_SQL = " union all ".join(gauge.sql for gauge in GAUGES)


def metrics(connection: Connection) -> str:
    """Return all gauges, read from one snapshot of the database."""
    samples: dict[str, list[str]] = {gauge.name: [] for gauge in GAUGES}
    for name, output, value in connection.run(_SQL):
        labels = f'{{object="{output}"}}' if output else ""
        samples[name].append(f"{name}{labels} {value!r}")
    lines = [
        line
        for gauge in GAUGES
        for line in (f"# HELP {gauge.name} {gauge.description}", f"# TYPE {gauge.name} gauge", *samples[gauge.name])
    ]
    return "\n".join(lines) + "\n"
