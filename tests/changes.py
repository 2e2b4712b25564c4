"""Writes to the tables as scans and erasures make them, and requests to /changes."""

from datetime import UTC, datetime
from typing import Any

from process_data import tombstones
from process_data.listing import Listing
from process_data.parse import Row
from process_data.reconcile import reconcile
from process_data.scope import Named
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.settings import PostgresSettings, load
from process_data.store import store
from process_data.tombstones import Tombstone

from tests.replica import Replica
from tests.stack import Stack

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def connect(stack: Stack) -> Connection:
    return Connection(load(PostgresSettings, stack.process_settings))


def put(connection: Connection, *names: str, prefix: str = "") -> None:
    """Store people as a scan would. Their first name is the prefix and the user_id."""
    rows = [Row(f"{name}.csv", f"{prefix}{name}", NOW, 2, f"{prefix}{name}", "Last", 0) for name in names]
    store(connection, rows, [], {}, "src")


def set_photo(connection: Connection, name: str, photo: str | None) -> None:
    """Reconcile the user with a bucket that has the stored CSV and this photo."""
    [[etag]] = connection.run("select csv_etag from users where user_id = :name", name=name)
    listing = Listing(csvs={name: etag}, photos={name: photo} if photo else {}, entries=1)
    reconcile(connection, Named([f"{name}.csv"]), listing, "src", 0)


def erase(connection: Connection, *names: str) -> None:
    tombstones.erase(connection, [Tombstone(name, None, None) for name in names], 0)


def changes(function: Replica, query: str = "") -> Any:
    response = function.request("GET", f"/changes{query}")
    assert response.status == 200, response.body
    return response.json()


def user_ids(page: Any) -> list[str]:
    return [person["user_id"] for person in page["result"]]
