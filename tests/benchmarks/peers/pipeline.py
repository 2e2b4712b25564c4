"""Loads the bucket into PostgreSQL with dlt's filesystem source. This program runs in a virtual environment of its own.

Each line of standard input is a command: "run", or "reset", which discards the state of earlier runs. The program
responds with a line of JSON: `seconds`, and `error`, which is null after a success. Its settings are environment
variables.
"""

import json
import os
import sys
import time
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import dlt
import pandas as pd
from dlt.sources.credentials import AwsCredentials
from dlt.sources.filesystem import filesystem

DATASET = "dlt"

SETTINGS: Mapping[str, str] = os.environ
"""The settings, with the names that `infra/local env` prints."""


def files(glob: str) -> Any:
    """Return the files that are new or were changed since the last run."""
    credentials = AwsCredentials(
        aws_access_key_id=SETTINGS["s3_access_key"],
        aws_secret_access_key=SETTINGS["s3_secret_key"],
        endpoint_url=f"http://{SETTINGS['s3_endpoint']}",
        region_name=SETTINGS["s3_region"],
    )
    return filesystem(
        bucket_url=f"s3://{SETTINGS['source_bucket']}",
        credentials=credentials,
        file_glob=glob,
        incremental=dlt.sources.incremental("modification_date"),
    )


def read_people(files: Any) -> Iterator[dict[Hashable, Any]]:
    for file in files:
        with file.open() as stream:
            for row in pd.read_csv(stream, skipinitialspace=True).to_dict(orient="records"):
                yield {**row, "user_id": file["file_name"].removesuffix(".csv")}


def read_photos(files: Any) -> Iterator[dict[str, Any]]:
    for file in files:
        name = file["file_name"]
        yield {"user_id": name.removesuffix(".png"), "img_path": f"{SETTINGS['source_bucket']}/{name}"}


def resource(name: str, glob: str, read: Any) -> Any:
    pipe = (files(glob) | dlt.transformer(read, name=name)).with_name(name)
    columns = {"user_id": {"data_type": "text"}}
    if name == "people":
        columns |= {"birthts": {"data_type": "bigint"}}
    return pipe.apply_hints(primary_key="user_id", write_disposition="merge", columns=columns)


def pipeline() -> Any:
    password = SETTINGS["postgres_password"]
    address = "{postgres_host}:{postgres_port}/{postgres_database}".format(**SETTINGS)
    return dlt.pipeline(
        "people",
        destination=dlt.destinations.postgres(f"postgresql://{SETTINGS['postgres_user']}:{password}@{address}"),
        dataset_name=DATASET,
    )


def reset() -> None:
    pipeline().drop()


def run() -> None:
    pipeline().run([resource("people", "*.csv", read_people), resource("photos", "*.png", read_photos)])


COMMANDS = {"reset": reset, "run": run}


def main() -> None:
    for line in sys.stdin:
        started_at, error = time.perf_counter(), None
        try:
            COMMANDS[line.strip()]()
        except Exception as failure:  # noqa: BLE001 - the error is the result
            error = f"{type(failure).__name__}: {failure}"
        print(json.dumps({"seconds": time.perf_counter() - started_at, "error": error}), flush=True)


if __name__ == "__main__":
    main()
