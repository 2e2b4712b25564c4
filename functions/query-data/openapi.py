"""The OpenAPI 3.1 description of the API. Its parameters come from the definitions that the request parser uses."""

from collections.abc import Mapping
from typing import Any

from . import changes, query, tables
from .filters import FILTERS
from .formats import FORMATS, HTML, JSON, NDJSON
from .parameters import Parameters
from .shared.user_ids import USER_ID_PATTERN
from .shared.version import VERSION

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_BOOLEAN: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TIME: Schema = {"type": "string", "format": "date-time"}
_NEXT: Schema = {"type": ["string", "null"], "description": "URL of the next page, relative to the request's URL"}


def _null_or(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(properties: Mapping[str, Schema], *optional: str) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required, "additionalProperties": False}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_HEALTH = _object({"status": {"type": "string", "enum": ["ok"]}, "version": _TEXT})

_PEOPLE_AS_TEXT: dict[str, Schema] = {
    "application/x-ndjson": _TEXT
    | {"description": "one user per line; the last line of a complete response has `next` instead"},
    "text/csv": _TEXT | {"description": "the last line of a complete response is `#end`, or `#next` and a URL"},
}

_PERSON: dict[str, Schema] = {
    "id": {"type": "integer"},
    "user_id": {"type": "string", "pattern": f"^{USER_ID_PATTERN}$"},
    "first_name": _TEXT,
    "last_name": _TEXT,
    "birthdate": {"type": "string", "format": "date"},
    "birthts": {"type": "integer", "description": "milliseconds since 1970-01-01 UTC"},
    "img_path": _null_or({"type": "string", "description": "bucket/key of the photo"}),
}

_OUTPUT = _object({"object": _TEXT, "rows": _COUNT, "written": _BOOLEAN, "pending": _BOOLEAN})
_SECONDS: Schema = {"type": "object", "description": "by stage", "additionalProperties": {"type": "number"}}
_RUN_COUNTS = (
    "listed", "added", "updated", "unchanged", "images_changed", "ignored", "rejected", "unreadable", "remaining",
)  # fmt: skip
_SUMMARY: Schema = {
    "anyOf": [
        _object(
            {"segments": _object({"scanned": _COUNT, "remaining": _COUNT})}
            | dict.fromkeys(_RUN_COUNTS, _COUNT)
            | {"continued": _BOOLEAN, "output": _OUTPUT, "seconds": _SECONDS}
        ),
        _object(dict.fromkeys(("erased", "not_found", "remaining"), _COUNT) | {"output": _OUTPUT, "seconds": _SECONDS}),
        {"type": "object", "description": "empty if the run failed; has other members if an older version wrote it"},
    ]
}

_SCHEMAS = {
    "Person": _object(_PERSON | {"age": {"type": "number", "description": "in years, on the current date in UTC"}}),
    "Change": {
        "anyOf": [
            _object(_PERSON),
            _object({"user_id": _PERSON["user_id"], "deleted": {"type": "boolean", "const": True}}),
        ]
    },
    "Rejected": _object(
        {
            "object": _TEXT,
            "line": _null_or({"type": "integer"}),
            "code": _TEXT,
            "message": _TEXT,
            "first_seen": _TIME,
            "last_seen": _TIME | {"description": "despite its name, when the content, reason or rules last changed"},
        }
    ),
    "Run": _object(
        {
            "id": {"type": "integer"},
            "trigger": {"type": "string", "enum": ["cron", "http", "event", "continuation"]},
            "call_id": _null_or(_TEXT),
            "scope": {"type": "string", "enum": ["bucket", "users"]},
            "started_at": _TIME,
            "finished_at": _null_or(_TIME),
            "status": {"type": "string", "enum": ["running", "done", "partial", "failed"]},
            "summary": _null_or(_SUMMARY),
            "error": _null_or(_TEXT),
        }
    ),
    "Stats": _object(
        {
            "people": _COUNT,
            "with_photo": _COUNT,
            "without_photo": _COUNT,
            "ages": {"type": "array", "items": _object({"from": _COUNT, "under": _COUNT, "people": _COUNT})},
            "rejected": _COUNT,
            "last_run": _null_or(_reference("Run")),
        }
    ),
    "Error": _object({"error": _object({"code": _TEXT, "message": _TEXT, "detail": {"type": "object"}}, "detail")}),
}

_ERRORS = {
    "400": "a parameter is unknown, repeated or invalid",
    "401": "the API token is required",
    "404": "the user has no photo",
    "405": "expected GET or HEAD",
    "406": "Accept allows none of the formats",
    "410": "the cursor belongs to another database, or to this one before a restore: start again without it",
    "500": "a setting is missing or invalid, or an unexpected error occurred",
    "503": "a backend is unavailable or denies access, migrations are pending, or the replica is busy: see Retry-After",
}
_COMMON_STATUSES = ("400", "401", "405", "500", "503")


def openapi(*, requires_token: bool) -> Schema:
    people = _page_of(_reference("Person"))
    people["properties"]["count"] = _COUNT
    paths = {
        "/": _path_item(
            "people",
            "List users",
            query.PARAMETERS,
            {fmt.media_type: _TEXT for fmt in FORMATS.values()} | _PEOPLE_AS_TEXT | {JSON.media_type: people},
            "406",
            headers={"Link": "the next page", "X-Total-Count": "the total number, with count=1"},
        ),
        "/stats": _json("stats", "Statistics of users", FILTERS, _reference("Stats")),
        "/changes": _changes(),
        "/rejected": _table("rejected", "Rejected files", _reference("Rejected")),
        "/runs": _table("runs", "Run history, newest first", _reference("Run")),
        "/photo/{user_id}": _photo(),
        "/metrics": _path_item("metrics", "Metrics for Prometheus", {}, {"text/plain": _TEXT}, conditional=False),
        "/openapi.json": _json("openapi", "This description", {}, {"type": "object"}, conditional=False),
        "/healthz": _json("health", "Whether the database responds", {}, _HEALTH, conditional=False),
    }
    for operation in paths["/healthz"].values():
        operation["security"] = [{}]
        del operation["responses"]["401"]
    schemes = {"bearer": {"type": "http", "scheme": "bearer"}, "basic": {"type": "http", "scheme": "basic"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rollcall: query-data",
            "version": VERSION,
            "description": "Users that Rollcall has imported.",
        },
        "servers": [{"url": ".", "description": "the function that serves this description"}],
        "security": [{"bearer": []}, {"basic": []}] if requires_token else [{}],
        "paths": paths,
        "components": {"schemas": _SCHEMAS, "securitySchemes": schemes},
    }


def _page_of(schema: Schema) -> Schema:
    return _object({"result": {"type": "array", "items": schema}, "next": _NEXT})


def _json(name: str, summary: str, definitions: Parameters, schema: Schema, *, conditional: bool = True) -> Schema:
    return _path_item(name, summary, definitions, {JSON.media_type: schema}, conditional=conditional)


def _table(name: str, summary: str, schema: Schema) -> Schema:
    content = {JSON.media_type: _page_of(schema), HTML.media_type: _TEXT}
    headers = {"Link": "the next page"}
    return _path_item(name, summary, tables.PARAMETERS, content, "406", headers=headers)


def _changes() -> Schema:
    page = _page_of(_reference("Change"))
    page["properties"]["next"] = _TEXT | {
        "description": "URL of the following changes, which can be requested at any time"
    }
    lines = _TEXT | {"description": "one change per line, then an object with `next`"}
    content = {JSON.media_type: page, NDJSON.media_type: lines}
    headers = {"Link": "the following changes"}
    summary = "Changes to users since a cursor, in commit order"
    return _path_item("changes", summary, changes.PARAMETERS, content, "406", "410", headers=headers, conditional=False)


def _photo() -> Schema:
    path = {"name": "user_id", "in": "path", "required": True, "schema": _PERSON["user_id"]}
    photo = _path_item("photo", "A user's photo", {}, {"image/png": {}, "image/jpeg": {}}, "404")
    photo["get"]["parameters"] = [path]
    photo["head"]["parameters"] = [path]
    return photo


def _path_item(
    name: str,
    summary: str,
    definitions: Parameters,
    content: Mapping[str, Schema],
    *error_statuses: str,
    headers: Mapping[str, str] | None = None,
    conditional: bool = True,
) -> Schema:
    """Describe the GET and HEAD of a path. Their responses have an ETag if `conditional`."""
    response_headers: Schema = {
        header: {"description": text, "schema": _TEXT} for header, text in (headers or {}).items()
    }
    if conditional:
        response_headers["ETag"] = {"schema": _TEXT}
    success: Schema = {"description": summary, "headers": response_headers}
    parameters = _parameters(definitions)
    not_modified = {"304": {"description": "not modified: If-None-Match has the ETag"}} if conditional else {}
    failures = {status: _ERRORS[status] for status in sorted((*_COMMON_STATUSES, *error_statuses))}
    error = {JSON.media_type: {"schema": _reference("Error")}}
    error_or_page = error | {HTML.media_type: {"schema": _TEXT}}
    with_page = failures if HTML.media_type in content else {"404"}  # errors that have a web page
    get: Schema = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": success | {"content": {media_type: {"schema": schema} for media_type, schema in content.items()}},
            **not_modified,
            **{
                status: {"description": text, "content": error_or_page if status in with_page else error}
                for status, text in failures.items()
            },
        },
    }
    head: Schema = {
        "operationId": f"{name}_head",
        "summary": f"{summary}: headers only",
        "parameters": parameters,
        "responses": {
            "200": success,
            **not_modified,
            **{status: {"description": text} for status, text in failures.items()},
        },
    }
    return {"get": get, "head": head}


def _parameters(definitions: Parameters) -> list[Schema]:
    return [
        {
            "name": name,
            "in": "query",
            "description": f"{parameter.description}; expected {parameter.expected}",
            "schema": {"type": "array", "items": dict(parameter.schema)}
            if parameter.repeatable
            else dict(parameter.schema),
        }
        for name, parameter in definitions.items()
    ]
