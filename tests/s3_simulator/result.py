"""The bucket `res`, which stores uploaded objects, but only the metadata of large and multipart ones."""

import hashlib
import os
from dataclasses import dataclass, field
from email.utils import formatdate


@dataclass(frozen=True)
class StoredObject:
    size: int
    etag: str
    modified: str
    body: bytes | None  # None if only the metadata is stored


@dataclass
class _Upload:
    key: str
    parts: dict[int, StoredObject] = field(default_factory=dict)


class ResultBucket:
    """The bucket `res`. Keys are percent-encoded, as in the request's path."""

    def __init__(self) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[str, _Upload] = {}

    def start_upload(self, key: str) -> str:
        upload_id = os.urandom(16).hex()
        self.uploads[upload_id] = _Upload(key)
        return upload_id

    def complete_upload(self, upload_id: str, part_numbers: list[int]) -> StoredObject:
        """Assemble an object from these parts. Raise KeyError if a part or the upload is unknown."""
        upload = self.uploads[upload_id]
        parts = [upload.parts[number] for number in part_numbers]
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        stored = StoredObject(sum(part.size for part in parts), etag, formatdate(usegmt=True), None)
        self.objects[upload.key] = stored
        del self.uploads[upload_id]
        return stored
