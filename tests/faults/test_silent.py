"""A run whose database falls silent in the middle says so while somebody still waits for its response."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from random import Random

import pytest
from process_data.shared.storage.errors import Unavailable

from tests.runs import Paused, application, run
from tests.stack import Stack
from tests.tcp_proxy import HANG, Fault, Proxy


def test_a_run_whose_database_falls_silent_ends_soon_after_its_deadline(roll: Stack) -> None:
    roll.bucket.put_person("1")
    settings = roll.process_settings
    with closing(Proxy(settings["postgres_host"], int(settings["postgres_port"]), Random(0))) as proxy:
        own = {"postgres_port": str(proxy.port), "run_deadline": "1", "postgres_timeout": "3600"}
        with application(roll, Paused, **own) as made, ThreadPoolExecutor(1) as executor:
            ended = executor.submit(run, made)
            assert isinstance(made.objects, Paused)
            assert made.objects.reached.wait(60)
            with proxy.faulty(Fault(HANG)):
                made.objects.go.set()
                with pytest.raises(Unavailable, match=r"PostgreSQL at .* cannot be reached"):
                    ended.result(timeout=120)
