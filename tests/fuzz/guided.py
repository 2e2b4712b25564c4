"""Mutates files with Atheris (libFuzzer), guided by the coverage of process-data's parser and the naive one.

The naive parser has Python branches for what process-data's parser leaves to the csv module.

Atheris has wheels only for the platforms that requirements.in names.

`fuzz` starts `python3 -m tests.fuzz.guided RUNS SEED CORPUS`, because libFuzzer ends the process that it runs in.
That process prints each finding on one line.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from tests.stack import ROOT

_MAX_BYTES = 1024
_DICTIONARY = ("first_name", "last_name", "birthts", r"\x0D\x0A", r"\"\"", r"\xEF\xBB\xBF", "-3786825600000")
_GENERATED_FILES = 200  # in the corpus, besides the samples in tests/data
_ARTIFACT_PREFIX = "artifact-"  # of the file to which libFuzzer writes an input that crashes or takes too long


def is_available() -> bool:
    return find_spec("atheris") is not None


def fuzz(inputs: int, seed: int) -> Iterator[str]:
    """Run libFuzzer: first on the corpus (the samples in tests/data and some generated files), then on mutations."""
    with tempfile.TemporaryDirectory() as directory:
        corpus = Path(directory) / "corpus"
        corpus.mkdir()
        runs = 1 + _write_corpus(corpus, seed) + inputs  # libFuzzer begins with an empty file
        command = [sys.executable, "-m", "tests.fuzz.guided", str(runs), str(seed), str(corpus)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            output, log = process.communicate()
        artifacts = [path.read_bytes() for path in Path(directory).glob(f"{_ARTIFACT_PREFIX}*")]
    yield from output.splitlines()
    if process.returncode or f"Done {runs} " not in log:
        yield f"Atheris ended with {process.returncode} at the inputs {artifacts}: {log[-2000:]}"


def _write_corpus(corpus: Path, seed: int) -> int:
    """Write the corpus, and return the number of its files."""
    from tests.fuzz.csvs import NOW
    from tests.fuzz.grammar import files
    from tests.samples import samples

    bodies = [sample.body for kind in ("good", "bad") for sample in samples(kind)]
    bodies = [body for body in [*bodies, *islice(files(seed, NOW), _GENERATED_FILES)] if len(body) <= _MAX_BYTES]
    for number, body in enumerate(bodies):
        (corpus / str(number)).write_bytes(body)
    return len(bodies)


def _main(runs: str, seed: str, corpus: str) -> None:
    import atheris

    from tests.packages import assemble_packages

    assemble_packages()

    with atheris.instrument_imports(include=["process_data.parse", "tests.naive_csv"]):
        from tests.fuzz.csvs import problems

    def parse(body: bytes) -> None:
        for problem in problems([body]):
            print(problem, flush=True)

    atheris.enabled_hooks.add("RegEx")
    dictionary = Path(corpus).with_name("dictionary")
    dictionary.write_text("".join(f'"{token}"\n' for token in _DICTIONARY), encoding="ascii")
    artifact_prefix = Path(corpus).with_name(_ARTIFACT_PREFIX)
    options = [
        f"-runs={runs}",
        f"-seed={int(seed) % (2**32 - 1) + 1}",  # 0 would let libFuzzer choose a seed
        f"-max_len={_MAX_BYTES}",
        f"-dict={dictionary}",
        "-timeout=10",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={artifact_prefix}", corpus], parse)
    atheris.Fuzz()


if __name__ == "__main__":
    _main(*sys.argv[1:])
