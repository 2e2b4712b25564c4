"""The documentation matches the code."""

import argparse
import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml
from process_data.application import MAX_REQUESTS as MAX_RUNS
from process_data.rejections import Reason
from process_data.settings import Settings
from process_data.shared.storage.connection import TIMEOUT_MARGIN
from query_data.application import MAX_HEALTH, MAX_PHOTOS, MAX_REQUESTS, MAX_STREAMS, MAX_WAITING
from query_data.handler import _ENDPOINTS
from query_data.openapi import openapi
from query_data.query import PARAMETERS
from query_data.settings import Settings as QuerySettings
from query_data.shared.bulkhead import _MAX_WAIT

from infra.local.cli import _parser
from infra.local.config.stack import parse_duration, read_stack
from tests.documents import INFRA, README, table
from tests.stack import ROOT

TIMEOUTS = ("run_deadline", "postgres_timeout", "exec_timeout", "write_timeout", "read_timeout", "stream_deadline")


def used_by(name: str) -> str:
    """Return which functions have this setting, as in the table of settings."""
    in_process, in_query = (
        name in {field.name for field in dataclasses.fields(settings)} for settings in (Settings, QuerySettings)
    )
    return "both" if in_process and in_query else "process-data" if in_process else "query-data"


def format_default(default: object) -> str:
    """Return a default as in the table of settings."""
    if default is dataclasses.MISSING:
        return "required"
    if not default and not isinstance(default, bool):  # an empty string or secret
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_settings_table_matches_the_code() -> None:
    fields = {field.name: field for field in (*dataclasses.fields(Settings), *dataclasses.fields(QuerySettings))}
    expected = [
        [field.name, used_by(field.name), format_default(field.default), field.metadata["description"]]
        for field in fields.values()
    ]
    assert sorted(table(INFRA, "Configuration")) == sorted(expected)


def test_settings_missing_from_stack_yml_are_listed() -> None:
    """stack.yml may set `x` through `x_file`."""
    functions = {function.name: function.environment.keys() for function in read_stack(ROOT, {}).functions}
    missing = {
        field.name
        for name, settings in (("process-data", Settings), ("query-data", QuerySettings))
        for field in dataclasses.fields(settings)
        if not {field.name, f"{field.name}_file"} & functions[name]
    }
    [named] = re.findall(r"Settings that `stack.yml` lacks \(([^)]*)\)", INFRA.read_text(encoding="utf-8"))
    assert set(re.findall(r"`(\w+)`", named)) == missing


def test_documented_timeouts_increase_and_match_stack_yml() -> None:
    documented = [float(row[0]) for row in table(INFRA, "Timeouts")]
    assert documented == sorted(set(documented))
    run, *others, _ = documented  # the last is the gateway's
    for function in read_stack(ROOT, {}).functions:
        timeouts = {name: parse_duration(text, name) for name, text in function.environment.items() if name in TIMEOUTS}
        postgres_timeout, read_timeout = timeouts["postgres_timeout"], timeouts.pop("read_timeout")
        assert timeouts.pop("run_deadline", run) == timeouts.pop("stream_deadline", run) == run
        assert others == sorted([*timeouts.values(), postgres_timeout + TIMEOUT_MARGIN])
        assert timeouts["exec_timeout"] < timeouts["write_timeout"] == read_timeout
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    assert [defaults["run_deadline"], defaults["postgres_timeout"]] == documented[:2]
    assert defaults["run_deadline"] == QuerySettings.__dataclass_fields__["stream_deadline"].default


def test_documented_request_limits_match_the_functions() -> None:
    limits = {row[0]: row[1:3] for row in table(INFRA, "Limits")}
    assert limits["requests in progress"] == [str(MAX_RUNS), str(MAX_REQUESTS)]
    assert limits["requests waiting, at most a second"] == ["", str(MAX_WAITING)]
    assert _MAX_WAIT == 1
    assert limits["streams of users"] == limits["photos over 1 MiB"] == ["", str(MAX_STREAMS)]
    assert limits["requests for photos in progress"] == ["", str(MAX_PHOTOS)]
    assert limits["requests to `/healthz` in progress"] == ["", str(MAX_HEALTH)]
    for function in read_stack(ROOT, {}).functions:
        assert function.environment["healthcheck_interval"] == "3s"
        assert "max_inflight" not in function.environment  # shared/bulkhead.py says why


def test_every_alert_is_documented() -> None:
    rules = yaml.safe_load((ROOT / "infra/prometheus/rollcall.rules.yaml").read_text(encoding="utf-8"))
    assert [row[0] for row in table(INFRA, "Alerts")] == [rule["alert"] for rule in rules["groups"][0]["rules"]]


def test_every_log_event_is_documented() -> None:
    sources = [path.read_text(encoding="utf-8") for path in [*ROOT.glob("functions/*/*.py"), *ROOT.glob("shared/*.py")]]
    logged = {event for source in sources for event in re.findall(r'\blog\(\s*"\w+",\s*"(\w+)"', source)}
    events = {event for row in table(INFRA, "Logs") for event in row[0].replace("`", "").split(", ")}
    assert events == logged


def test_the_parameter_table_matches_the_code() -> None:
    assert table(README, "Query parameters") == [
        [name, parameter.expected, parameter.description.strip("`")] for name, parameter in PARAMETERS.items()
    ]


def test_every_endpoint_is_in_the_readme_and_in_openapi() -> None:
    described = openapi(requires_token=True)["paths"].keys() - {"/photo/{user_id}"}
    assert described == _ENDPOINTS.keys()
    paths = {row[0] for row in table(README, "Other endpoints")} - {"/photo/1000"}
    assert paths == _ENDPOINTS.keys() - {"/"}


def test_every_rejection_reason_is_documented() -> None:
    assert [row[0] for row in table(README, "Rejected files")] == [reason.value for reason in Reason]


def test_every_error_is_documented_with_its_status() -> None:
    sources = [
        path.read_text(encoding="utf-8") for top in ("functions", "shared") for path in (ROOT / top).rglob("*.py")
    ]
    raised = {match for source in sources for match in re.findall(r'\b([45]\d\d),\s+f?"([\w{}.]+)"', source)}
    services = [service for source in sources for service in re.findall(r'Unavailable\(\s*"(\w+)"', source)]
    errors = {(status, code.replace("{error.service}", service)) for status, code in raised for service in services}
    rows = [(row[0], code) for row in table(README, "Errors") for code in row[1].replace("`", "").split(", ")]
    assert sorted(rows) == sorted(errors)


def test_every_field_of_a_run_summary_is_documented() -> None:
    fields = [field for row in table(README, "Run summary") for field in row[0].replace("`", "").split(", ")]
    example, _ = re.findall(r"^\{\n {4}.*?^\}", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert fields == list(json.loads(example.replace("…", "0")))


DOCUMENTS = sorted(path for path in ROOT.glob("**/*.md") if ".local" not in path.relative_to(ROOT).parts)


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_resolve(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            linked = document.parent / target if target else document
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), anchor


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_named_in_documents_exist(document: Path) -> None:
    files = list((ROOT / "tests").rglob("test_*.py"))
    tests = {file.name for file in files}
    for file in files:
        tests.update(re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8")))
    assert set(re.findall(r"\btest_\w+(?:\.py)?", document.read_text(encoding="utf-8"))) <= tests


def test_every_command_and_option_of_the_local_stack_is_documented() -> None:
    text = README.read_text(encoding="utf-8")
    [commands] = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    documented = [row[0].split()[2] for row in table(README, "Development") if "infra/local" in row[0]]
    assert sorted(documented) == sorted(commands.choices)
    for name, command in commands.choices.items():
        options = {option for action in command._actions for option in action.option_strings}
        assert not [option for option in options - {"-h", "--help"} if f"`{option}" not in text], name
