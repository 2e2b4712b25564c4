"""Errors as web pages."""

from flask import Response

from ..formats import HTML
from ..paths import normalize
from ..shared.api import ApiError, Event
from .form import controls
from .page import SECURITY_HEADERS, render


def render_error(event: Event, error: ApiError) -> Response:
    """Render an error. If a request for users was invalid, the page also has the form.

    The message is then beside the invalid control, if there is one.
    """
    has_form = error.status == 400 and normalize(event.path) == "/"
    invalid_parameter = str(error.detail.get("parameter"))
    body = render(
        "error.html",
        event.path,
        controls=controls(event.query, invalid_parameter, error.message) if has_form else [],
        is_filtered=True,  # opens the form, and adds a link that clears it
        error=error,
    )
    return Response(body, error.status, error.headers | SECURITY_HEADERS, content_type=HTML.content_type)
