"""The documents say what the code does: settings, parameters and reasons are compared with their tables."""

import dataclasses
import re
from pathlib import Path

import pytest
from process_data.rejection import Reason
from process_data.settings import Settings
from query_data.query import PARAMETERS
from query_data.settings import Settings as QuerySettings

from tests.stack import ROOT

README = ROOT / "README.md"
INFRA = ROOT / "infra/README.md"


def table(document: Path, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head; backquotes are taken off."""
    section = document.read_text(encoding="utf-8").split(f" {heading}\n", 1)[1]
    rows = [line for line in re.split(r"\n#+ ", section)[0].splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows[2:]]


def readers(name: str) -> str:
    query = {one.name for one in dataclasses.fields(QuerySettings)}
    return "both" if name in query else "process-data"


def shown(default: object) -> str:
    if default is dataclasses.MISSING:
        return "required"
    if default == "":
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_every_setting_is_in_the_table_as_the_code_has_it() -> None:
    expected = [
        [one.name, readers(one.name), shown(one.default), one.metadata["meaning"]]
        for one in dataclasses.fields(Settings)
    ]
    assert sorted(table(INFRA, "Settings")) == sorted(expected)


def test_every_parameter_is_in_the_table_as_the_code_has_it() -> None:
    assert [row[:2] for row in table(README, "Questions")] == [
        [name, parameter.allowed] for name, parameter in PARAMETERS.items()
    ]


def test_every_reason_for_a_rejection_is_in_the_table() -> None:
    assert [row[0] for row in table(README, "What is refused")] == [reason.value for reason in Reason]


DOCUMENTS = sorted(path for path in ROOT.glob("**/*.md") if ".local" not in path.relative_to(ROOT).parts)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target
