"""Requests as the OpenFaaS template passes them to a handler."""

from collections.abc import Mapping
from urllib.parse import unquote

from werkzeug.datastructures import Headers, MultiDict
from werkzeug.urls import iri_to_uri
from werkzeug.wrappers import Request


class Event:
    """A request. Underscores in header names stand for hyphens."""

    def __init__(
        self, url: str = "/", method: str = "POST", body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        path, _, query = url.partition("?")
        self.path, self.method, self.body = unquote(path), method, body
        self.query: MultiDict[str, str] = Request({"QUERY_STRING": iri_to_uri(query), "REQUEST_METHOD": method}).args
        self.headers = Headers({name.replace("_", "-"): value for name, value in (headers or {}).items()})
