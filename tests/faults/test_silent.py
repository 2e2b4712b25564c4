"""Runs and responses end in time when PostgreSQL becomes unresponsive."""

import json
from collections.abc import Iterator
from contextlib import closing
from random import Random

import pytest
import urllib3
from process_data.shared.storage.errors import Unavailable

from tests.replica import Replica, query_replica
from tests.runs import paused_run
from tests.stack import Stack
from tests.tcp_proxy import HANG, VANISH, Fault, Proxy


def test_the_deadline_ends_a_run_whose_database_is_unresponsive(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    settings = rollcall.process_settings
    with closing(Proxy(settings["postgres_host"], int(settings["postgres_port"]), Random(0))) as proxy:
        run = paused_run(rollcall, postgres_port=str(proxy.port), run_deadline="1", postgres_timeout="3600")
        with run as (go, future), proxy.faulty(Fault(HANG)):
            go.set()
            with pytest.raises(Unavailable, match=r"PostgreSQL at .* did not respond in time"):
                future.result(timeout=120)


@pytest.fixture
def replica_and_proxy(rollcall: Stack) -> Iterator[tuple[Replica, Proxy]]:
    """query-data with many people and a short stream_deadline, and the proxy in front of its database."""
    rollcall.sql(
        "insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified) "
        "select n::text, repeat('F', 200), repeat('L', 200), n, 'etag', now() from generate_series(1, 200000) n"
    )
    settings = rollcall.query_settings
    with closing(Proxy(settings["postgres_host"], int(settings["postgres_port"]), Random(0))) as proxy:
        overrides = {"postgres_port": str(proxy.port), "stream_deadline": "5", "postgres_timeout": "3600"}
        with query_replica(rollcall, **overrides) as replica:
            yield replica, proxy


def start_stream(replica: Replica) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", replica.url, preload_content=False, retries=False, timeout=120)


def test_the_deadline_ends_a_stream_whose_database_is_unresponsive(replica_and_proxy: tuple[Replica, Proxy]) -> None:
    replica, proxy = replica_and_proxy
    response = start_stream(replica)
    assert response.read(1000)
    with proxy.faulty(Fault(HANG)), pytest.raises(urllib3.exceptions.ProtocolError):
        while response.read(1_000_000):
            pass
    assert replica.request("GET", "/?limit=1").status == 200


def test_a_stream_whose_session_is_unresponsive_ends_with_a_link_to_the_rest(
    replica_and_proxy: tuple[Replica, Proxy],
) -> None:
    """Only the open session is unresponsive: new ones work, as after a failover."""
    replica, proxy = replica_and_proxy
    response = start_stream(replica)
    body = response.read(1000)
    with proxy.faulty(Fault(VANISH, close_after=600)):
        content = json.loads(body + response.read())
    assert 0 < len(content["result"]) < 200_000
    assert content["next"].startswith("?after=")
