"""Reads tables from the project's documentation, for comparison with the code."""

import re
from pathlib import Path

from tests.stack import ROOT

README = ROOT / "README.md"
INFRA = ROOT / "infra/README.md"
CONTRIBUTING = ROOT / ".github/CONTRIBUTING.md"


def table(document: Path, heading: str) -> list[list[str]]:
    """Return the rows of the only table under a heading, without its header. Backquotes around a cell are removed."""
    text = document.read_text(encoding="utf-8")
    section = re.split(rf"^#+ {re.escape(heading)}\n", text, maxsplit=1, flags=re.MULTILINE)[1]
    rows = [line for line in re.split(r"\n#+ ", section)[0].splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows[2:]]
