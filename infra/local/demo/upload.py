"""Upload a directory's files to the source bucket."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import minio
import minio.error
import urllib3

from ..errors import LocalError
from ..output import Say

THREADS = 16

_BAR_WIDTH = 30


def upload(client: minio.Minio, bucket: str, directory: Path, say: Say) -> int:
    """Upload the files in `directory`, except hidden ones; return their number. Raise LocalError if an upload fails."""
    files = _files(directory)
    size, failures = 0, []
    started_at = time.monotonic()
    progress = _Progress(len(files))
    with ThreadPoolExecutor(THREADS) as pool:
        uploads = {pool.submit(_put, client, bucket, path): path for path in files}
        try:
            for done, future in enumerate(as_completed(uploads), 1):
                try:
                    size += future.result()
                except (minio.error.MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                    failures.append(f"  {uploads[future].name}: {error}")
                progress.show(done)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    progress.end()
    if failures:
        raise LocalError("\n".join([f"{len(failures)} of {len(files)} files could not be uploaded:", *failures[:10]]))
    elapsed = time.monotonic() - started_at
    say(f"Uploaded {len(files)} files ({_format_size(size)}) to {bucket} in {elapsed:.1f} s.")
    return len(files)


def _files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        problem = "is not a directory" if directory.exists() else "does not exist"
        raise LocalError(f"{directory} {problem}: expected a directory of .csv files and photos")
    files = sorted(path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise LocalError(f"{directory} contains no files: subdirectories are not uploaded")
    return files


def _put(client: minio.Minio, bucket: str, path: Path) -> int:
    client.fput_object(bucket_name=bucket, object_name=path.name, file_path=str(path))
    return path.stat().st_size


def _format_size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


class _Progress:
    """A progress bar on standard error, if that is a terminal."""

    def __init__(self, total: int) -> None:
        self._total, self._drawn_at = total, 0.0
        self._is_terminal = sys.stderr.isatty()

    def show(self, done: int) -> None:
        if self._is_terminal and (done == self._total or time.monotonic() - self._drawn_at > 0.05):
            self._drawn_at = time.monotonic()
            bar = "#" * (_BAR_WIDTH * done // self._total)
            print(f"\r  [{bar:<{_BAR_WIDTH}}] {done}/{self._total}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._is_terminal:
            print(file=sys.stderr)
