"""Extracts the commands of the guides and runs them in a shell with stubs that record each call."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.local.config.deployment import make_secrets
from infra.local.config.stack import read_stack
from tests.kustomize import build
from tests.stack import ROOT

PLATFORMS = ("kubernetes", "faasd")
RECORDED_COMMANDS = ("kubectl", "faas-cli", "helm", "curl", "aws", "mc", "sudo", "git")
OPERATIONS = ROOT / "infra/OPERATIONS.md"
OVERLAYS = ROOT / "infra/kubernetes/overlays"

_BLOCK = re.compile(r"^```sh ?(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(document: Path, heading: str, platform: str) -> str:
    """Return the commands of a section for a platform. A block that names no platform applies to both."""
    text = document.read_text(encoding="utf-8")
    _, section = re.split(rf"^#+ {re.escape(heading)}\n", text, maxsplit=1, flags=re.MULTILINE)
    blocks = _BLOCK.findall(re.split(r"^## ", section, maxsplit=1, flags=re.MULTILINE)[0])
    return "\n".join(block for name, block in blocks if name in ("", platform))


def tasks() -> list[tuple[str, str]]:
    """Return each section of OPERATIONS.md with each platform for which it has commands."""
    headings = re.findall(r"^## (.+)$", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE)
    return [(name, platform) for name in headings for platform in PLATFORMS if commands(OPERATIONS, name, platform)]


@dataclass(frozen=True)
class Shell:
    """Runs bash scripts in `tree`, which has a copy of `infra`. Stubs record their calls in the file $RECORD."""

    tree: Path
    environment: dict[str, str]

    def run(self, script: str, check: bool = True, **variables: str) -> tuple[str, list[list[str]]]:
        """Run a script. Return its output with the exit status at the end, and the recorded calls."""
        record = Path(self.environment["RECORD"])
        record.write_text("", encoding="utf-8")
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.tree, env=self.environment | variables, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert not check or result.returncode == 0, f"{script}\n{result.stdout}"
        assert "command not found" not in result.stdout, result.stdout
        output = result.stdout + f"exit status {result.returncode}"
        return output, [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def shell(directory: Path, platform: str, **environment: str) -> Shell:
    """Create a shell in a tree with secrets and the deployment.env of the platform's guide.

    SLEEP in `environment` is the script of the stub for `sleep`.
    """
    tree, tools, applied = directory / "tree", directory / "tools", directory / "applied"
    shutil.copytree(ROOT / "infra", tree / "infra", ignore=shutil.ignore_patterns("secrets", "local"))
    (tree / "rollcall.dump").touch()
    (tree / "rejected.csv").write_text("object,line,code\n1.csv,1,empty\n", encoding="utf-8")
    secrets = tree / "infra/kubernetes/secrets"
    make_secrets(secrets, read_stack(ROOT, {}).functions)
    shutil.copy(ROOT / "infra/kubernetes/secrets/kustomization.yaml", secrets)
    (tree / "secrets").symlink_to(secrets)
    applied.mkdir()  # for each overlay, the names that `kubectl apply` prints
    for overlay in OVERLAYS.iterdir():
        objects = build(tree / "infra/kubernetes/overlays" / overlay.name)
        names = [f"{qualified_kind(item['apiVersion'], item['kind'])}/{item['metadata']['name']}" for item in objects]
        (applied / overlay.name).write_text("\n".join(names), encoding="utf-8")
    tools.mkdir()
    python = sys.executable
    scripts = {name: f'exec {python} -I -S {ROOT}/tests/recorder.py {name} "$@"' for name in RECORDED_COMMANDS}
    # runs `python3 infra/local` in this virtual environment, not in the one that it would create
    scripts["python3"] = (
        f'[ "$1" = -c ] && exec {python} "$@"\nshift; PYTHONPATH={ROOT} exec {python} -m infra.local "$@"'
    )
    scripts["sleep"] = environment.pop("SLEEP", "exit 0")
    for name, script in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    guide = (ROOT / f"infra/{platform}/README.md").read_text(encoding="utf-8")
    (settings,) = re.findall(r"^cat > deployment.env <<'END'\n(.*?)^END$", guide, re.MULTILINE | re.DOTALL)
    (tree / "deployment.env").write_text(settings, encoding="utf-8")
    variables = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(directory),
        "RECORD": str(directory / "record"),
        "APPLIED": str(applied),
    }
    return Shell(tree, variables | environment)


def qualified_kind(api_version: str, kind: str) -> str:
    """Return a kind as `kubectl --output=name` prints it, such as `deployment.apps`."""
    group, _, _ = api_version.rpartition("/")
    return f"{kind.lower()}.{group}" if group else kind.lower()
