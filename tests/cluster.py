"""A Kubernetes cluster for the tests of the guides: an API server and controllers, with simulated nodes."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

import yaml

KUBECONFIG = os.environ.get("ROLLCALL_TEST_KUBECONFIG")
"""The kubeconfig of a dedicated test cluster.

The tests delete the namespaces openfaas, openfaas-fn and rollcall in it, and set the status of all pending pods.
"""

CONTAINER = {"name": "x", "image": "x:1.0"}
VOLUMES = 32  # many, because a volume is not bound again after its claim is deleted


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    result = subprocess.run(
        ["kubectl", *arguments], env=os.environ | {"KUBECONFIG": KUBECONFIG or ""}, input=stdin,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"kubectl {' '.join(arguments)}\n{result.stdout}{result.stderr}"
    return result.stdout


def list_objects(*kinds: str, selector: str = "") -> list[dict[str, Any]]:
    """Return the objects of these kinds in all namespaces."""
    text = kubectl("get", ",".join(kinds), "--all-namespaces", f"--selector={selector}", "--output=json")
    objects: list[dict[str, Any]] = json.loads(text)["items"]
    return objects


class Nodes(Thread):
    """Simulates nodes: marks pods as running, and those of jobs as succeeded.

    A job's pod fails instead if the pod's label `app.kubernetes.io/name` is in `failing`.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.failing: set[str] = set()
        self._stopped = Event()

    def run(self) -> None:
        while not self._stopped.wait(0.5):
            for pod in list_objects("pods"):
                if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]:
                    self._advance(pod)

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _advance(self, pod: dict[str, Any]) -> None:
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
        subprocess.run(  # unchecked: the pod may already be deleted
            ["kubectl", f"--namespace={metadata['namespace']}", "patch", "pod", metadata["name"], "--type=merge",
             "--subresource=status", f"--patch={json.dumps({'status': status})}"],
            env=os.environ | {"KUBECONFIG": KUBECONFIG or ""}, capture_output=True, timeout=60, check=False,
        )  # fmt: skip


@contextmanager
def openfaas_cluster() -> Iterator[Nodes]:
    """Provide what the guides assume during the block: OpenFaaS's namespaces and secret, functions and storage.

    Yield the simulated nodes.
    """
    assert shutil.which("kubectl"), "ROLLCALL_TEST_KUBECONFIG is set but kubectl is not on the PATH"
    with ExitStack() as cleanup:  # each clean-up step runs even if another fails
        cleanup.callback(kubectl, "delete", "persistentvolumes,storageclasses", "--selector=test=rollcall")
        kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(_prerequisites()))
        nodes = Nodes()
        nodes.start()
        cleanup.callback(nodes.stop)
        cleanup.callback(kubectl, "delete", "namespace", "openfaas", "openfaas-fn", "rollcall", "--ignore-not-found")
        yield nodes


def _prerequisites() -> Iterator[dict[str, Any]]:
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
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [CONTAINER]}},
            },
        }
    metadata = {"labels": {"test": "rollcall"}}
    yield {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": metadata
        | {"name": "rollcall", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "allowVolumeExpansion": True,
    }
    for number in range(VOLUMES):
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": metadata | {"name": f"rollcall-{number}"},
            "spec": {
                "capacity": {"storage": "50Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "rollcall",
                "hostPath": {"path": f"/tmp/rollcall-{number}"},
            },
        }
