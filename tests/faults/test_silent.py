"""A run whose database becomes unresponsive returns an error in time."""

from contextlib import closing
from random import Random

import pytest
from process_data.shared.storage.errors import Unavailable

from tests.runs import paused_run
from tests.stack import Stack
from tests.tcp_proxy import HANG, Fault, Proxy


def test_a_run_with_an_unresponsive_database_ends_soon_after_its_deadline(roll: Stack) -> None:
    roll.bucket.put_person("1")
    settings = roll.process_settings
    with closing(Proxy(settings["postgres_host"], int(settings["postgres_port"]), Random(0))) as proxy:
        run = paused_run(roll, postgres_port=str(proxy.port), run_deadline="1", postgres_timeout="3600")
        with run as (go, future), proxy.faulty(Fault(HANG)):
            go.set()
            with pytest.raises(Unavailable, match=r"PostgreSQL at .* cannot be reached"):
                future.result(timeout=120)
