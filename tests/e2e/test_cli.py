"""The commands report what they did, and print errors without a traceback."""

import re
import socket
from pathlib import Path

import pytest

from infra.local.demo.upload import upload
from tests.e2e.conftest import ProjectStack


def error_of(toy: ProjectStack, *arguments: str) -> str:
    """Run a command that must fail. Return its error message."""
    result = toy.cli(*arguments, check=False)
    assert result.returncode == 1, result.stdout
    assert result.stderr.startswith("rollcall: ")
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_port_in_use_is_an_error(new_toy: ProjectStack) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert re.search(rf"port {port} is in use.*--port N", error_of(new_toy, "up", "--port", str(port)))
        detached = new_toy.cli("up", "--detach", "--port", str(port), check=False)
        assert detached.returncode == 1
        assert f"port {port} is in use" in detached.stdout


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_an_invalid_port_is_an_error(new_toy: ProjectStack, port: str) -> None:
    assert "0 (a free port) to 65535" in error_of(new_toy, "up", "--port", port)


def test_a_state_path_that_is_a_file_is_an_error(new_toy: ProjectStack) -> None:
    new_toy.state.write_text("")
    assert str(new_toy.state) in error_of(new_toy, "up", "--port", "0")
    new_toy.state.unlink()


def test_a_second_up_is_an_error_that_shows_the_url_of_the_running_stack(toy: ProjectStack) -> None:
    for detach in ([], ["--detach"]):
        assert toy.url in error_of(toy, "up", "--port", "0", *detach)
    assert toy.request("GET", "/function/echo").status == 200


@pytest.mark.parametrize(
    ("old", "new", "message"),
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
        ("functions:", "functions: {}\nother:", "functions is required: .* at least one function"),
        ("image:", "on:", r"echo: unknown key True; expected one of .*image"),
        ("version: 1.0", "configuration: {copy: ./echo}", "stack.yml: invalid configuration: expected a mapping"),
        ("version: 1.0", "configuration: [copy]", "stack.yml: invalid configuration: expected a mapping"),
        ("image:", "picture:", r"echo: unknown key picture; expected one of .*image"),
        ("version: 1.0", "version: [", "stack.yml is not valid YAML"),
    ],
)
def test_an_error_in_stack_yml_is_reported_and_nothing_starts(
    new_toy: ProjectStack, old: str, new: str, message: str
) -> None:
    new_toy.edit(old, new)
    assert re.search(message, error_of(new_toy, "up", "--port", "0"), re.DOTALL)
    assert not (new_toy.state / "logs").exists()  # nothing was started


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"\n", "is empty"), (b"\xff", "utf-8")])
def test_a_missing_empty_or_undecodable_token_file_is_an_error(
    new_toy: ProjectStack, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
) -> None:
    path = new_toy.project / "token"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("API_TOKEN_FILE", str(path))
    assert re.search(f"API_TOKEN_FILE='{path}' .*{message}", error_of(new_toy, "up", "--port", "0"))
    assert not (new_toy.state / "logs").exists()  # nothing was started


def test_up_reports_a_function_that_fails_to_start_with_its_output(new_toy: ProjectStack) -> None:
    (new_toy.project / "echo/handler.py").write_text("import no_such_package\n")
    message = error_of(new_toy, "up", "--port", "0")
    assert "echo failed to start" in message
    assert "no_such_package" in message
    assert "No stack is running" in new_toy.cli("status", check=False).stdout


@pytest.mark.parametrize("command", [["env"], ["upload", "."]])
def test_commands_that_need_a_running_stack_say_how_to_start_it(new_toy: ProjectStack, command: list[str]) -> None:
    assert "python3 infra/local up" in error_of(new_toy, *command)


def test_an_unknown_name_is_an_error_that_lists_the_known_names(toy: ProjectStack) -> None:
    assert re.search("'nobody'.*echo.*postgres.*seaweedfs", error_of(toy, "logs", "nobody"))
    assert re.search("'nobody'.*echo", error_of(toy, "env", "nobody"))


def test_status_lists_every_component(toy: ProjectStack) -> None:
    status = toy.cli("status").stdout
    assert toy.url in status
    for component in ("postgres", "seaweedfs", "echo", "long-timeout"):
        assert re.search(rf"{component} +ready +pid \d+", status)


def test_logs_are_sorted_by_time(toy: ProjectStack) -> None:
    lines = toy.cli("logs").stdout.splitlines()
    times = [line.split()[0] for line in lines]
    assert times == sorted(times)
    assert {line.split()[1] for line in lines} >= {"postgres:", "seaweedfs:"}


def test_upload_ignores_hidden_files_and_subdirectories(toy: ProjectStack, tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    for name in ("1.csv", "1.png", ".hidden", "deeper/2.csv"):
        (tmp_path / name).write_bytes(name.encode())
    assert "Uploaded 2 files" in toy.cli("upload", str(tmp_path)).stdout
    assert toy.keys() == ["1.csv", "1.png"]
    toy.bucket.clear()


def test_an_interrupt_ends_an_upload(toy: ProjectStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("infra.local.demo.upload.as_completed", interrupt)
    for number in range(2000):
        (tmp_path / f"interrupted-{number}").touch()
    with pytest.raises(KeyboardInterrupt):
        upload(toy.bucket.client, toy.bucket.source, tmp_path, print)
    uploaded = toy.bucket.client.list_objects(bucket_name=toy.bucket.source, prefix="interrupted-")
    assert len(list(uploaded)) < 2000
    toy.bucket.clear()


def test_upload_of_anything_but_a_directory_with_files_is_an_error(toy: ProjectStack, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    assert "does not exist" in error_of(toy, "upload", str(tmp_path / "nowhere"))
    assert "is not a directory" in error_of(toy, "upload", str(tmp_path / "file"))
    assert "contains no files" in error_of(toy, "upload", str(tmp_path / "empty"))


def test_env_prints_the_settings_of_the_operator_or_a_function(toy: ProjectStack) -> None:
    operator = toy.env()
    assert operator.keys() >= {
        "s3_endpoint", "s3_access_key", "s3_secret_key", "source_bucket", "result_bucket", "postgres_host",
        "postgres_port", "postgres_database", "postgres_user", "postgres_password", "gateway_url",
    }  # fmt: skip
    assert toy.env("echo").keys() == {"exec_timeout", "write_timeout", "greeting", "token"}
