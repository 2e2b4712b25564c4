"""The S3 policies of the functions use only what AWS, MinIO and SeaweedFS all support."""

import json

import pytest

from infra.local.config.accounts import POLICIES

ARN = "arn:aws:s3:::"
BUCKET_ACTIONS = {"s3:ListBucket", "s3:ListBucketMultipartUploads"}
OBJECT_ACTIONS = {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"}
IDENTITIES = json.loads((POLICIES / "seaweedfs.json").read_text(encoding="utf-8"))["identities"]


@pytest.mark.parametrize("name", ["process-data", "query-data"])
def test_each_statement_allows_actions_on_matching_resources(name: str) -> None:
    document = json.loads((POLICIES / f"{name}.json").read_text(encoding="utf-8"))
    assert document["Version"] == "2012-10-17"
    for statement in document["Statement"]:
        assert statement.keys() == {"Effect", "Action", "Resource"}
        assert statement["Effect"] == "Allow"
        actions = set(statement["Action"])
        assert all(resource.startswith(ARN) for resource in statement["Resource"])
        [is_on_objects] = {"/" in resource.removeprefix(ARN) for resource in statement["Resource"]}
        assert actions <= (OBJECT_ACTIONS if is_on_objects else BUCKET_ACTIONS)


def test_each_functions_identity_has_only_its_policy() -> None:
    for identity in IDENTITIES[1:]:
        assert identity.keys() == {"name", "policyNames"}
        [name] = identity["policyNames"]
        assert (POLICIES / f"{name}.json").exists()
    assert {identity["name"]: identity.get("policyNames") for identity in IDENTITIES} == {
        "operator": None, "rollcall-process": ["process-data"], "rollcall-query": ["query-data"],
    }  # fmt: skip


def test_the_identities_hold_no_keys() -> None:
    assert not any("credentials" in identity for identity in IDENTITIES)
