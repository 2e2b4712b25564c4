"""The demo of `up`: upload sample files if the bucket is empty, invoke process-data, then query-data."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import minio
import urllib3

from ..output import Say
from .upload import upload

_MAX_SHOWN = 5  # rejections, and users
_QUERY = f"min_age=30.5&is_image_exists=true&limit={_MAX_SHOWN}&count=1"
_COUNTS = ("listed", "added", "updated", "unchanged", "images_changed", "ignored", "rejected", "unreadable")
_COLUMNS = ("user_id", "first_name", "last_name", "birthdate", "age", "img_path")


def load_sample(client: minio.Minio, bucket: str, say: Say) -> None:
    """Upload the sample files, unless the bucket has objects."""
    if next(iter(client.list_objects(bucket_name=bucket)), None) is not None:
        return
    from .sample import write

    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory))
        say("\nThe bucket is empty: uploading sample files …")
        upload(client, bucket, Path(directory), say)


def call_functions(gateway: str, token: str | None, say: Say) -> None:
    """Invoke process-data, then query-data, with the API token if there is one."""
    headers = {"Authorization": f"Bearer {token}"} if token else None
    http = urllib3.PoolManager(headers=headers, retries=False, timeout=120)
    say("\nInvoking process-data …")
    if summary := _request(http, "POST", f"{gateway}/function/process-data", say):
        _show_summary(summary, say)
    url = f"{gateway}/function/query-data?{_QUERY}"
    say(f"\nGET {url}")
    if page := _request(http, "GET", url, say):
        _show_users(page["result"], page["count"], say)


def _request(http: urllib3.PoolManager, method: str, url: str, say: Say) -> dict[str, Any] | None:
    try:
        response = http.request(method, url)
    except urllib3.exceptions.HTTPError as error:
        say(f"  no response: {error}")
        return None
    if response.status != 200:
        say(f"  status {response.status}: {response.data.decode(errors='replace').strip()}")
        return None
    document: dict[str, Any] = json.loads(response.data)
    return document


def _show_summary(summary: dict[str, Any], say: Say) -> None:
    counts = ", ".join(f"{summary[name]} {name.replace('_', ' ')}" for name in _COUNTS)
    output = summary["output"]
    say(f"  {summary['status']} in {summary['seconds']['total']:.2f} s: {counts}")
    state = "written" if output["written"] else "pending" if output["pending"] else "unchanged"
    say(f"  {output['object']}: {output['rows']} rows, {state}")
    if summary["continued"]:
        say("  the rest is queued and continues in the background")
    for rejection in summary["rejections"][:_MAX_SHOWN]:
        line = f", line {rejection['line']}" if rejection["line"] else ""
        say(f"  rejected {rejection['object']}{line}: {rejection['message']}")
    if (more := summary["rejected"] - _MAX_SHOWN) > 0:
        say(f"  … and {more} more")


def _show_users(users: list[dict[str, Any]], count: int, say: Say) -> None:
    say(f"  {count} people; the first {len(users)}:")
    rows = [[_cell(user[name]) for name in _COLUMNS] for user in users]
    for line in _table([list(_COLUMNS), *rows]):
        say(f"  {line}")


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "" if value is None else str(value)


def _table(rows: list[list[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
