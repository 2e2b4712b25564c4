"""Queue runs at the gateway: continuations, and the runs of `fan_out`."""

import urllib3

from .settings import Settings
from .shared.api import ApiError

_FUNCTION = "process-data"
_TIMEOUT = 5.0  # seconds for the gateway to queue a request


class NotQueued(ApiError):
    """The gateway did not confirm that it queued the run: it cannot be reached, timed out, or did not return 202."""

    def __init__(self, message: str) -> None:
        super().__init__(503, "gateway_unavailable", message, headers={"Retry-After": "30"})


def queue_run(settings: Settings, since: int, *, accept_empty: bool) -> str:
    """Queue a run that scans the segments not scanned since the tick `since`; return its call id. Raises NotQueued."""
    url = f"{settings.gateway_url.rstrip('/')}/async-function/{_FUNCTION}?since={since}"
    if accept_empty:
        url += "&accept_empty=1"
    # http.client encodes headers as Latin-1: decode the UTF-8 bytes as Latin-1, so that it sends them unchanged
    token = settings.api_token.reveal().encode().decode("latin-1")
    headers = {"Authorization": f"Bearer {token}"} if settings.auth == "token" else {}
    try:
        response = urllib3.request("POST", url, headers=headers, timeout=urllib3.Timeout(total=_TIMEOUT), retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise NotQueued(
            f"the gateway at {settings.gateway_url} cannot be reached or did not respond in time"
        ) from error
    if response.status != 202:
        raise NotQueued(f"the gateway at {settings.gateway_url} returned {response.status}")
    return response.headers.get("X-Call-Id", "")
