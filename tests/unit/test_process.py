"""The set-up of a function's process."""

import subprocess
import sys
from pathlib import Path

import query_data

PROGRAM = """
import os, signal
from query_data.shared.process import set_up
stopping = set_up(threads=1, max_body=1)
before = stopping.is_set()
os.kill(os.getpid(), signal.SIGTERM)
print(before, stopping.is_set())
"""


def test_sigterm_sets_the_event_and_does_not_end_the_process() -> None:
    """After sending SIGTERM to a function, the watchdog still sends it requests."""
    packages = str(Path(next(iter(query_data.__path__))).parent)
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PYTHONPATH": packages}, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, "False True\n"), result.stderr
