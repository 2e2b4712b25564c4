"""The commands say what they did, and what is wrong when something is."""

import re
import socket
from pathlib import Path

import pytest

from tests.e2e.conftest import Toy


def refused(toy: Toy, *arguments: str) -> str:
    """What a command that fails says."""
    ran = toy.cli(*arguments, check=False)
    assert ran.returncode == 1, ran.stdout
    assert ran.stderr.startswith("rollcall: ")
    assert "Traceback" not in ran.stderr
    return ran.stderr


def test_a_port_that_is_taken(own_toy: Toy) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert re.search(rf"port {port} is in use.*--port N", refused(own_toy, "up", "--port", str(port)))
        detached = own_toy.cli("up", "--detach", "--port", str(port), check=False)
        assert detached.returncode == 1
        assert f"port {port} is in use" in detached.stdout


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_there_is_not(own_toy: Toy, port: str) -> None:
    assert "0 (a free port) to 65535" in refused(own_toy, "up", "--port", port)


def test_a_state_that_is_no_directory(own_toy: Toy) -> None:
    own_toy.state.write_text("")
    assert str(own_toy.state) in refused(own_toy, "up", "--port", "0")
    own_toy.state.unlink()


def test_a_second_up_names_the_first(toy: Toy) -> None:
    for detach in ([], ["--detach"]):
        assert toy.url in refused(toy, "up", "--port", "0", *detach)
    assert toy.request("GET", "/function/echo").status == 200


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (
            "@every 2s",
            "every minute",
            r"echo: annotations\.schedule: invalid schedule 'every minute': expected five fields",
        ),
        (
            "@every 2s",
            "61 * * * *",
            r"echo: annotations\.schedule: invalid schedule '61 \* \* \* \*': invalid minute '61': expected 0 to 59",
        ),
        ("./echo", "./ehco", r"echo: handler: .*ehco does not exist"),
        ("./echo", "../elsewhere", r"echo: handler: invalid path '\.\./elsewhere': expected one inside the project"),
        ("python3-http-debian", "golang", r"echo: lang: invalid value 'golang': expected python3-http-debian"),
        ("${GREETING:-hello}", "${NOT_SET_ANYWHERE}", r"echo: environment\.greeting: .*NOT_SET_ANYWHERE is required"),
        (
            "exec_timeout: 2s",
            "exec_timeout: soon",
            r"echo: environment\.exec_timeout: invalid duration 'soon': expected one such as 50s",
        ),
        ("greeting:", "greeting: 5 #", r"echo: environment\.greeting: invalid value 5: expected a string"),
        ("functions:", "function:", "functions is required"),
        ("image:", "picture:", r"echo: unknown key picture; expected one of .*image"),
        ("version: 1.0", "version: [", "stack.yml is not valid YAML"),
    ],
)
def test_a_mistake_in_stack_yml_names_function_and_key(own_toy: Toy, old: str, new: str, named: str) -> None:
    own_toy.edit(old, new)
    assert re.search(named, refused(own_toy, "up", "--port", "0"), re.DOTALL)
    assert not (own_toy.state / "logs").exists()  # nothing was started


def test_a_function_that_does_not_start_says_why(own_toy: Toy) -> None:
    (own_toy.project / "echo/handler.py").write_text("import no_such_package\n")
    message = refused(own_toy, "up", "--port", "0")
    assert "echo does not start" in message
    assert "no_such_package" in message
    assert "No stack is running" in own_toy.cli("status", check=False).stdout


@pytest.mark.parametrize("command", [["env"], ["upload", "."]])
def test_what_needs_a_running_stack_says_so(own_toy: Toy, command: list[str]) -> None:
    assert "python3 infra/local up" in refused(own_toy, *command)


def test_unknown_functions_are_named_with_those_there_are(toy: Toy) -> None:
    assert re.search("'nobody'.*echo.*postgres.*seaweedfs", refused(toy, "logs", "nobody"))
    assert re.search("'nobody'.*echo", refused(toy, "env", "nobody"))


def test_status_names_every_part(toy: Toy) -> None:
    status = toy.cli("status").stdout
    assert toy.url in status
    for part in ("postgres", "seaweedfs", "echo"):
        assert re.search(rf"{part} +ready +pid \d+", status)


def test_logs_are_in_order_of_time(toy: Toy) -> None:
    lines = toy.cli("logs").stdout.splitlines()
    times = [line.split()[0] for line in lines]
    assert times == sorted(times)
    assert {line.split()[1] for line in lines} >= {"postgres:", "seaweedfs:"}


def test_upload_takes_the_files_that_lie_directly_in_the_directory(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    for name in ("1.csv", "1.png", ".hidden", "deeper/2.csv"):
        (tmp_path / name).write_bytes(name.encode())
    assert "Uploaded 2 files" in toy.cli("upload", str(tmp_path)).stdout
    assert toy.keys() == ["1.csv", "1.png"]
    toy.bucket.clear()


def test_upload_of_what_holds_no_files(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    assert "does not exist" in refused(toy, "upload", str(tmp_path / "nowhere"))
    assert "is not a directory" in refused(toy, "upload", str(tmp_path / "file"))
    assert "contains no files" in refused(toy, "upload", str(tmp_path / "empty"))


def test_env_is_the_operators_or_a_functions(toy: Toy) -> None:
    operator = toy.env()
    assert operator.keys() >= {
        "s3_endpoint", "s3_access_key", "s3_secret_key", "source_bucket", "result_bucket", "postgres_host",
        "postgres_port", "postgres_database", "postgres_user", "postgres_password", "gateway_url",
    }  # fmt: skip
    assert toy.env("echo").keys() == {"exec_timeout", "greeting", "token"}
