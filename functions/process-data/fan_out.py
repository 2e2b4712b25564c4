"""Sharing the work: ten shards through the gateway's queue, for as many replicas as there are."""

from collections.abc import Mapping

import urllib3

from .shared.api import ApiError

SHARDS = "0123456789"

_FUNCTION = "process-data"
_TIMEOUT = 5.0  # seconds for the gateway to take one


def fan_out(gateway_url: str, headers: Mapping[str, str]) -> list[dict[str, str]]:
    """Queue a run for each shard; returns their prefixes and call ids. ApiError when the gateway takes not all."""
    queued: list[dict[str, str]] = []
    with urllib3.PoolManager(timeout=_TIMEOUT, retries=False) as gateway:
        for prefix in SHARDS:
            url = f"{gateway_url.rstrip('/')}/async-function/{_FUNCTION}?prefix={prefix}"
            try:
                answer = gateway.request("POST", url, headers=headers)
            except urllib3.exceptions.HTTPError as error:
                raise _refused(queued, f"the gateway at {gateway_url} can't be reached") from error
            if answer.status != 202:
                raise _refused(queued, f"the gateway answered {answer.status} for prefix={prefix}")
            queued.append({"prefix": prefix, "call_id": answer.headers.get("X-Call-Id", "")})
    return queued


def _refused(queued: list[dict[str, str]], message: str) -> ApiError:
    headers = {"Retry-After": "30"}
    return ApiError(503, "gateway_unavailable", message, headers=headers, queued=queued)
