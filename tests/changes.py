"""Change the tables with process-data's own code, as scans and erasures do, and read /changes."""

from datetime import UTC, datetime
from typing import Any

from process_data import tombstones
from process_data.listing import Listing
from process_data.parse import Row
from process_data.reconcile import reconcile
from process_data.scope import KeySet
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.settings import PostgresSettings, load
from process_data.store import store
from process_data.tombstones import Tombstone

from tests.replica import Replica
from tests.stack import Stack

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def connect(stack: Stack) -> Connection:
    return Connection(load(PostgresSettings, stack.process_settings))


def put(connection: Connection, *user_ids: str, prefix: str = "") -> None:
    """Store people as a scan would. The ETag and the first name of each are the prefix followed by the user_id."""
    rows = [
        Row(f"{user_id}.csv", f"{prefix}{user_id}", NOW, 2, f"{prefix}{user_id}", "Last", 0) for user_id in user_ids
    ]
    store(connection, rows, [], {}, "src")


def set_photo(connection: Connection, user_id: str, photo: str | None) -> None:
    """Reconcile the user with a bucket that has the stored CSV, and the key `photo` unless it is None."""
    [[etag]] = connection.run("select csv_etag from users where user_id = :user_id", user_id=user_id)
    listing = Listing(csvs={user_id: etag}, photos={user_id: photo} if photo else {}, entries=1)
    reconcile(connection, KeySet([f"{user_id}.csv"]), listing, "src", 0)


def erase(connection: Connection, *user_ids: str) -> None:
    tombstones.erase(connection, [Tombstone(user_id, None, None) for user_id in user_ids], 0)


def changes(replica: Replica, query: str = "") -> Any:
    response = replica.request("GET", f"/changes{query}")
    assert response.status == 200, response.body
    return response.json()


def user_ids(page: Any) -> list[str]:
    return [person["user_id"] for person in page["result"]]
