"""A plain import service that works row by row."""

import csv
import io
from typing import Any

from tests.benchmarks.measure import seconds
from tests.benchmarks.peers.importer import Person, stored_people
from tests.stack import Stack, connected

_INSERT = "insert into plain_people values (:user_id, :first_name, :last_name, :birthts, :img_path)"
_UPDATE = """
update plain_people set first_name = :first_name, last_name = :last_name, birthts = :birthts, img_path = :img_path
where user_id = :user_id"""


class RowAtATime:
    """For each CSV: select all user_ids, insert or update the row, then read and rewrite the whole output."""

    name = "row at a time"
    output = "plain_output.csv"

    def __init__(self, stack: Stack) -> None:
        self._stack, self._bucket = stack, stack.bucket

    def reset(self) -> None:
        self._stack.sql("drop table if exists plain_people")
        self._stack.sql(
            "create table plain_people "
            "(user_id text primary key, first_name text, last_name text, birthts bigint, img_path text)"
        )
        self._bucket.remove(self.output, self._bucket.result)

    def run(self) -> float:
        return seconds(self._run)

    def _run(self) -> None:
        objects = list(self._bucket.client.list_objects(bucket_name=self._bucket.source))
        keys = {str(item.object_name) for item in objects}
        with connected(self._stack.settings) as connection:
            for key in sorted(key for key in keys if key.endswith(".csv")):
                person = self._read(key, keys)
                stored_ids = {user_id for (user_id,) in connection.run("select user_id from plain_people")}
                statement = _UPDATE if person["user_id"] in stored_ids else _INSERT
                connection.run(statement, **person)
                self._rewrite_output(person)

    def _read(self, key: str, keys: set[str]) -> dict[str, Any]:
        response = self._bucket.client.get_object(bucket_name=self._bucket.source, object_name=key)
        with response:
            row = next(csv.DictReader(io.StringIO(response.read().decode()), skipinitialspace=True))
        user_id = key.removesuffix(".csv")
        photo = f"{user_id}.png"
        return {
            "user_id": user_id,
            "first_name": row["first_name"],
            "last_name": row["last_name"],
            "birthts": int(row["birthts"]),
            "img_path": f"{self._bucket.source}/{photo}" if photo in keys else None,
        }

    def _rewrite_output(self, person: dict[str, Any]) -> None:
        rows: dict[str, dict[str, Any]] = {}
        if self._output_exists():
            rows = {row["user_id"]: row for row in self._bucket.read_rows(self.output)}
        rows[person["user_id"]] = person
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, person)
        writer.writeheader()
        writer.writerows(rows.values())
        body = text.getvalue().encode()
        self._bucket.client.put_object(
            bucket_name=self._bucket.result, object_name=self.output, data=io.BytesIO(body), length=len(body)
        )

    def _output_exists(self) -> bool:
        return any(self._bucket.client.list_objects(bucket_name=self._bucket.result, prefix=self.output))

    def people(self) -> list[Person]:
        return stored_people(self._stack, "plain_people")

    def rejections(self) -> list[str]:
        return []
