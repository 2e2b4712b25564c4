"""What all web pages share: templates, navigation, headers."""

from base64 import b64encode
from datetime import date, datetime, timedelta
from hashlib import sha256
from math import floor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flask import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..formats import HTML
from ..paths import normalize, relative_root
from ..rendering import make_headers

_TEMPLATES = Path(__file__).parent / "templates"
_STYLE = (_TEMPLATES / "style.css").read_text(encoding="utf-8")

TEMPLATES_VERSION = sha256(b"".join(path.read_bytes() for path in sorted(_TEMPLATES.iterdir()))).hexdigest()
"""A digest of the templates, for ETags."""

_CSP = {
    "default-src": "'none'",
    "img-src": "'self' data:",  # photos, and the favicon
    "style-src": f"'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}

SECURITY_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{directive} {value}" for directive, value in _CSP.items()),
    "Referrer-Policy": "no-referrer",  # queries may contain names
}
"""Headers of every web page, besides those of all responses."""

_SECTIONS = {"/": "People", "/rejected": "Rejected files", "/runs": "Runs"}


def headers(etag: str) -> dict[str, str]:
    return make_headers(etag, Vary="Accept") | SECURITY_HEADERS


def html_response(body: bytes, etag: str) -> Response:
    return Response(body, headers=headers(etag), content_type=HTML.content_type)


def render(template: str, path: str, **content: Any) -> bytes:
    """Render a template as the page at `path`, the path of the request as it was sent."""
    root, current = relative_root(path), normalize(path)
    sections = [
        {"href": _section_link(root, section, current), "title": title, "current": section == current}
        for section, title in _SECTIONS.items()
    ]
    return _environment.get_template(template).render(root=root, sections=sections, **content).encode()


def query_link(parameters: list[tuple[str, str]]) -> str:
    """Return a link to the same path with these parameters."""
    return f"?{urlencode(parameters)}"


def _section_link(root: str, section: str, current: str) -> str:
    return "?" if section == current else root + section.removeprefix("/")


_ACRONYMS = {"nul": "NUL", "utf8": "UTF-8"}


def _words(code: str) -> str:
    """Format the code of a rejection as words."""
    return " ".join(_ACRONYMS.get(word, word) for word in code.split("_"))


def _tenths(number: float) -> str:
    """Format a number, rounded down to a tenth, so that nobody appears older than they are."""
    return f"{floor(number * 10) / 10:.1f}"


def _day(text: str) -> str:
    day = date.fromisoformat(text)
    return f"{day.day} {day:%b %Y}"


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return f"{moment.day} {moment:%b %Y, %H:%M}"


def _duration(run: dict[str, Any]) -> str:
    """Format the duration of a finished run in at most two units."""
    duration = datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["started_at"])
    if duration < timedelta(minutes=1):
        seconds = duration.total_seconds()
        return f"{_tenths(seconds)} s" if seconds < 10 else f"{int(seconds)} s"
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


_environment = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals |= {
    "style": _STYLE,
    "statuses": {"running": "In progress", "done": "Complete", "partial": "Incomplete", "failed": "Failed"},  # of runs
}
_environment.filters |= {
    "words": _words,
    "tenths": _tenths,
    "day": _day,
    "moment": _moment,
    "duration": _duration,
    "grouped": "{:,}".format,
}
