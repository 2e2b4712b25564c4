"""`python3 tests/fuzz guided`, with a stub for Atheris, which is not installed for the tests."""

from pathlib import Path

import pytest

from tests.fuzz import command, guided

STUB = """
import contextlib, pathlib, sys

enabled_hooks, options = set(), {}

def instrument_imports(include):
    return contextlib.nullcontext()

def Setup(arguments, parse):
    options.update(argument.split("=", 1) for argument in arguments[1:-1])
    assert 0 < int(options["-seed"]) < 2**32, "libFuzzer would choose a seed"
    bodies = [b"", *(path.read_bytes() for path in pathlib.Path(arguments[-1]).iterdir())]
    for body in bodies:
        parse(body)
    print(f"Done {max(len(bodies), int(options['-runs']))} runs in 1 second(s)", file=sys.stderr)

def Fuzz():
    pass
"""
"""Like libFuzzer, this runs an empty file and the whole corpus even if `-runs` is less."""

FUZZ_WITH_TIMEOUT = """
def Fuzz():
    pathlib.Path(options["-artifact_prefix"] + "timeout-1").write_bytes(b"slow")
    sys.exit("ERROR: libFuzzer: timeout")
"""


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_a_single_input_and_the_extreme_seeds_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    (tmp_path / "atheris.py").write_text(STUB, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert list(guided.fuzz(1, seed)) == []


def test_an_input_that_ends_the_process_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "atheris.py").write_text(STUB + FUZZ_WITH_TIMEOUT, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [finding] = guided.fuzz(1, seed=1)
    assert finding.startswith("Atheris ended with 1 at the inputs [b'slow']: ")
    assert finding.endswith("ERROR: libFuzzer: timeout\n")


def test_requesting_the_target_guided_without_atheris_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guided, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        command.main(["guided"])
    assert "guided requires Atheris" in capsys.readouterr().err
