"""Two processes of process-data on the bucket of tests/model.py. Tests can kill and freeze them."""

import os
import signal
from collections.abc import Collection
from contextlib import ExitStack

import urllib3

from tests.model import SOURCE
from tests.replica import Replica, replica, wait_until_ready
from tests.stack import HANG_TIMEOUT, Stack

_SETTINGS = {
    "source_bucket": SOURCE,
    "segment_keys": "5",
    "batch_size": "2",
    "workers": "3",
    "fetch_threads": "4",
    "gateway_url": "http://127.0.0.1:1",  # no gateway: partial runs are not continued
}


class Replicas:
    """Two independent processes of process-data."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._exits = stack, ExitStack()
        # the operator's keys, because process-data's have no access to this bucket
        keys = {name: stack.settings[name] for name in ("s3_access_key", "s3_secret_key")}
        self._settings = stack.process_settings | _SETTINGS | keys
        self._pool = urllib3.PoolManager(maxsize=8, retries=False, timeout=HANG_TIMEOUT)
        self._replicas = [self._start() for _ in range(2)]
        self._killed: set[int] = set()  # pids

    def _start(self) -> Replica:
        running = self._exits.enter_context(replica(self._stack.state / "build/process-data", self._settings))
        wait_until_ready(running, "/")
        return running

    def post(self, number: int, query: str = "", body: bytes = b"") -> int:
        """Send a POST and return the status, or 0 if the replica was killed meanwhile."""
        running = self._replicas[number]
        try:
            return self._pool.request("POST", f"{running.url}/{query}", body=body).status
        except urllib3.exceptions.HTTPError:
            if running.process.pid not in self._killed:
                raise
            return 0

    def run(self, number: int) -> dict[str, object]:
        response = self._pool.request("POST", self._replicas[number].url)
        assert response.status == 200, response.data
        summary: dict[str, object] = response.json()
        return summary

    def erase(self, number: int, users: Collection[str]) -> dict[str, object]:
        """Erase people and return the summary."""
        response = self._pool.request("POST", f"{self._replicas[number].url}/{erase_path(users)}")
        assert response.status == 200, response.data
        summary: dict[str, object] = response.json()
        return summary

    def run_and_check_done(self, number: int) -> dict[str, object]:
        summary = self.run(number)
        assert summary["status"] == "done", (summary, [replica.lines()[-20:] for replica in self._replicas])
        return summary

    def kill(self, number: int) -> None:
        """Kill a replica and start another in its place."""
        process = self._replicas[number].process
        self._killed.add(process.pid)
        process.kill()
        self._replicas[number].wait()
        self._replicas[number] = self._start()

    def freeze(self, number: int) -> None:
        """Stop a replica with SIGSTOP, and terminate its database sessions, as PostgreSQL's timeouts would.

        This also terminates the sessions of all other replicas.
        """
        os.kill(self._replicas[number].process.pid, signal.SIGSTOP)
        self._stack.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rollcall'")

    def thaw(self, number: int) -> None:
        os.kill(self._replicas[number].process.pid, signal.SIGCONT)

    def close(self) -> None:
        self._exits.close()


def erase_path(users: Collection[str]) -> str:
    """Return the path and query of a request that erases people."""
    return "erase?" + "&".join(f"user_id={user}" for user in users)
