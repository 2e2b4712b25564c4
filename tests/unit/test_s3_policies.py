"""What either key may do is the same in MinIO's and AWS's policies and in SeaweedFS's identities."""

import json

import pytest

from infra.local.seaweedfs import IDENTITIES, RESULT_BUCKET, SOURCE_BUCKET
from tests.stack import ROOT

POLICIES = ROOT / "infra/s3"
ARN = "arn:aws:s3:::"

# SeaweedFS's word for an action of S3, and whether the action is on the bucket or on what is in it.
WORDS = {
    "s3:ListBucket": ("List", ""),
    "s3:ListBucketMultipartUploads": ("List", ""),
    "s3:GetObject": ("Read", "/*"),
    "s3:PutObject": ("Write", "/*"),
    "s3:AbortMultipartUpload": ("Write", "/*"),
}


def policy_grants(name: str) -> set[str]:
    """What a policy allows, in SeaweedFS's words."""
    document = json.loads((POLICIES / f"{name}.json").read_text(encoding="utf-8"))
    assert document["Version"] == "2012-10-17"
    granted = set()
    for statement in document["Statement"]:
        assert statement.keys() == {"Effect", "Action", "Resource"}
        assert statement["Effect"] == "Allow"
        for action in statement["Action"]:
            word, suffix = WORDS[action]
            for resource in statement["Resource"]:
                assert resource.startswith(ARN)
                assert resource.endswith("/*") == bool(suffix), f"{action} on {resource} never holds"
                granted.add(f"{word}:{resource.removeprefix(ARN).removesuffix('/*')}")
    return granted


def identity_grants() -> dict[str, set[str]]:
    document = json.loads(IDENTITIES.read_text(encoding="utf-8"))
    return {one["name"]: set(one["actions"]) for one in document["identities"]}


@pytest.mark.parametrize(
    ("identity", "policy"), [("rollcall-process", "process-data"), ("rollcall-query", "query-data")]
)
def test_both_forms_grant_the_same(identity: str, policy: str) -> None:
    assert policy_grants(policy) == identity_grants()[identity]


def test_process_data_reads_the_source_and_writes_the_result() -> None:
    source, result = SOURCE_BUCKET, RESULT_BUCKET
    assert identity_grants()["rollcall-process"] == {
        f"List:{source}", f"Read:{source}", f"List:{result}", f"Read:{result}", f"Write:{result}",
    }  # fmt: skip


def test_query_data_reads_photos_and_no_more() -> None:
    assert identity_grants()["rollcall-query"] == {f"Read:{SOURCE_BUCKET}"}


def test_the_identities_hold_no_keys() -> None:
    document = json.loads(IDENTITIES.read_text(encoding="utf-8"))
    assert all(one.keys() == {"name", "actions"} for one in document["identities"])
