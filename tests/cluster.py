"""A cluster for the tests of the guides, of which an API server and its controllers are enough: pods are pretended."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

import yaml

KUBECONFIG = os.environ.get("ROLLCALL_TEST_KUBECONFIG")
"""Of a cluster that is for tests alone: what Rollcall has there is removed."""

STAND_IN = {"name": "x", "image": "x:1.0"}
VOLUMES = 16


def kubectl(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["kubectl", *words], env=os.environ | {"KUBECONFIG": KUBECONFIG or ""}, input=stdin,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"kubectl {' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def listed(*kinds: str, selector: str = "") -> list[dict[str, Any]]:
    """The objects of these kinds in all namespaces."""
    text = kubectl("get", ",".join(kinds), "--all-namespaces", f"--selector={selector}", "--output=json")
    found: list[dict[str, Any]] = json.loads(text)["items"]
    return found


class Nodes(Thread):
    """Makes the pods of stores and functions ready, and ends those of jobs; those in `failing`, by label, fail."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.failing: set[str] = set()
        self._over = Event()

    def run(self) -> None:
        while not self._over.wait(0.5):
            for pod in listed("pods"):
                if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]:
                    self._go_on(pod)

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _go_on(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        if any(owner["kind"] == "Job" for owner in metadata.get("ownerReferences", [])):
            fails = metadata["labels"].get("app.kubernetes.io/name") in self.failing
            status: dict[str, Any] = {"phase": "Failed" if fails else "Succeeded"}
        else:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            status = {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
            }
        subprocess.run(  # it may be gone meanwhile
            ["kubectl", f"--namespace={metadata['namespace']}", "patch", "pod", metadata["name"], "--type=merge",
             "--subresource=status", f"--patch={json.dumps({'status': status})}"],
            env=os.environ | {"KUBECONFIG": KUBECONFIG or ""}, capture_output=True, timeout=60, check=False,
        )  # fmt: skip


@contextmanager
def prepared() -> Iterator[Nodes]:
    """The cluster with what OpenFaaS and its operator bring: namespaces, a secret, the functions, volumes."""
    assert shutil.which("kubectl"), "ROLLCALL_TEST_KUBECONFIG is set, and no kubectl is on the PATH"
    kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(_openfaas()))
    nodes = Nodes()
    nodes.start()
    try:
        yield nodes
    finally:
        kubectl("delete", "namespace", "openfaas", "openfaas-fn", "rollcall", "--ignore-not-found")
        nodes.stop()
        kubectl("delete", "persistentvolumes,storageclasses", "--selector=test=rollcall")


def _openfaas() -> Iterator[dict[str, Any]]:
    for name in ("openfaas", "openfaas-fn"):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "basic-auth", "namespace": "openfaas"},
        "stringData": {"basic-auth-user": "admin", "basic-auth-password": "secret"},
    }
    for name in ("process-data", "query-data"):
        labels = {"faas_function": name}
        yield {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "openfaas-fn"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [STAND_IN]}},
            },
        }
    made = {"labels": {"test": "rollcall"}}
    yield {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": made | {"name": "rollcall", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "allowVolumeExpansion": True,
    }
    for number in range(VOLUMES):
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": made | {"name": f"rollcall-{number}"},
            "spec": {
                "capacity": {"storage": "50Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "rollcall",
                "hostPath": {"path": f"/tmp/rollcall-{number}"},
            },
        }
