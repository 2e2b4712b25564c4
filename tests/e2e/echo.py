"""The handler of the toy functions. The query parameter `do` selects what it does; `n` is a number for some actions."""

import os
import time
from collections.abc import Iterator
from typing import Any

from flask import Response

MEGABYTE = b"x" * 1_000_000


def handle(event: Any, context: Any) -> Any:
    action, number = event.query.get("do", "echo"), float(event.query.get("n", 0))
    match action:
        case "stream":
            return Response(_stream(int(number)), content_type="application/octet-stream")
        case "die":
            headers = {"Content-Length": str(int(number))} if number else {}
            return Response(_die(), headers=headers, content_type="application/octet-stream")
        case "drip":
            return Response(_drip(), content_type="application/octet-stream")
        case "sleep":
            time.sleep(number)
            return "slept"
        case "raise":
            raise RuntimeError("a requested error")
        case "dict":
            return {"statusCode": 201, "body": {"from": "a dict"}, "headers": {"X-From": "dict"}}
        case "nothing":
            return None
        case "length":
            return {"body": len(event.body)}
    print(f"request from {event.headers.get('X-Connector', 'a client')}", flush=True)
    return {
        "body": {
            "method": event.method,
            "path": event.path,
            "query": list(event.query.items(multi=True)),
            "headers": dict(event.headers),
            "body": event.body.decode(),
            "hostname": context.hostname,
            "environment": dict(os.environ),
        }
    }


def _stream(megabytes: int) -> Iterator[bytes]:
    try:
        for _ in range(megabytes):
            yield MEGABYTE
    except GeneratorExit:
        print("the client disconnected", flush=True)
        raise


def _drip() -> Iterator[bytes]:
    while True:
        yield b"x"
        time.sleep(0.1)


def _die() -> Iterator[bytes]:
    yield MEGABYTE
    time.sleep(0.2)
    os._exit(3)
