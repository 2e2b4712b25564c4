"""The defaults of stack.yml are those of the code, and secure: a token and TLS are required."""

from dataclasses import MISSING, fields

import pytest
from process_data.settings import Settings as ProcessSettings
from query_data.settings import Settings as QuerySettings

from infra.local.config.credentials import MOUNT
from infra.local.config.stack import FunctionSpec, read_stack
from tests.stack import ROOT

FUNCTIONS = read_stack(ROOT, {}).functions
TOKEN_SECRET = "rollcall-api-token"

each_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)


@each_function
def test_stack_yml_requires_the_token_and_mounts_it(function: FunctionSpec) -> None:
    assert function.environment["auth"] == "token"
    assert function.environment["api_token_file"] == f"{MOUNT}{TOKEN_SECRET}"
    assert TOKEN_SECRET in function.secrets


@each_function
def test_stack_yml_requires_tls_and_verifies_certificates(function: FunctionSpec) -> None:
    names = ("s3_secure", "postgres_sslmode", "s3_ca_file", "postgres_ca_file")
    assert [function.environment[name] for name in names] == ["true", "verify-full", "", ""]


@each_function
@pytest.mark.parametrize("name", ["AUTH", "API_TOKEN_FILE", "S3_SECURE", "POSTGRES_SSLMODE"])
def test_an_empty_variable_keeps_the_secure_default(function: FunctionSpec, name: str) -> None:
    [actual] = [spec for spec in read_stack(ROOT, {name: ""}).functions if spec.name == function.name]
    assert actual.environment == function.environment


@each_function
def test_the_code_has_the_same_defaults(function: FunctionSpec) -> None:
    settings = ProcessSettings if function.name == "process-data" else QuerySettings
    defaults = {field.name: field.default for field in fields(settings) if field.default is not MISSING}
    values = {
        name: str(default).lower() if isinstance(default, bool) else str(default) for name, default in defaults.items()
    }
    common = values.keys() & function.environment.keys()
    assert {name: values[name] for name in common} == {name: function.environment[name] for name in common}
    assert {"auth", "s3_secure", "postgres_sslmode", "postgres_timeout"} < common
    assert {"run_deadline", "stream_deadline"} & common


@pytest.mark.parametrize("document", ["faasd/README.md", "kubernetes/README.md"])
def test_the_guides_disable_tls_for_backends_without_it(document: str) -> None:
    steps = (ROOT / "infra" / document).read_text(encoding="utf-8")
    assert "export S3_SECURE=false POSTGRES_SSLMODE=disable" in steps.partition(". ./deployment.env")[0]
