"""Fetch one file from a server: the result is a complete and checked file, or a part that the next try continues.

The part is a hidden file `.<name>.part` next to the target. A note `.<name>.part.json` records the URL of the part and
the version of the file on the server (ETag or Last-Modified). Lengths given by a server are not trusted: nothing is
written beyond the known size, and a file gets its final name only if its size and checksum are right.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import ssl
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from .._version import __version__
from ..dataset import Remote
from ..errors import DataError
from ..files.atomic import sync_folder
from ..files.untrusted import check_file, read_json

CHUNK = 1 << 18  # maximum number of bytes in one read
STEP = 1 << 20  # number of new bytes after which earlier failed tries no longer count
LARGEST = 4 << 30  # maximum size of a file without a published size, in bytes
LARGEST_DOCUMENT = 64 << 20  # maximum size of a list of files, in bytes
LONGEST_PAUSE = 120.0  # maximum pause between two tries, in seconds, whatever the server asks for
TEMPORARY_STATUSES = frozenset({202, 408, 425, 429, 500, 502, 503, 504})  # status codes after which a retry may help
RESUME_ADVICE = "Run the same command again to continue."

T = TypeVar("T")


@dataclass(frozen=True)
class ConnectionConfig:
    """How servers are contacted: timeout, retries and number of connections."""

    timeout: float = 30.0  # seconds without data after which a connection counts as cut
    tries: int = 5  # maximum number of failed tries in a row without progress
    pause: float = 1.0  # seconds before the second try; doubles with each further try
    connections: int = 4  # number of files fetched at the same time


class _TemporaryError(Exception):
    """An error that may not occur in the next try. `pause` is the wait that the server asks for, in seconds."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class _RangeNotSatisfiable(Exception):
    """The server has no bytes after the requested offset. `total` is the size of the file in bytes, None if unknown."""

    def __init__(self, total: int | None) -> None:
        super().__init__(total)
        self.total = total


class Redirects(urllib.request.HTTPRedirectHandler):
    """A handler that follows redirects to http and https, but never from https to http. urllib limits them to ten."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request. Raises DataError if it uses another scheme or loses the encryption."""
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            wanted = "an https address" if before == "https" else "an http or https address"
            raise DataError(f"{req.full_url}: redirects to {_printable(newurl)}; wanted {wanted}.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(frozen=True)
class PartialFile:
    """The first part of a remote file, and a note of its URL and version."""

    path: Path
    remote: Remote

    @classmethod
    def of(cls, target: Path, remote: Remote) -> PartialFile:
        """Return the part of the remote file that will become `target`."""
        return cls(target.with_name(f".{target.name}.part"), remote)

    @property
    def note_path(self) -> Path:
        """The path of the note."""
        return self.path.with_name(f"{self.path.name}.json")

    def read_validator(self) -> str | None:
        """Return the version of the part, "" if the server gave none, or None if the part cannot be continued.

        Without a version, only a checksum can show that two pieces belong to the same file. A part that has neither is
        not continued.
        """
        try:
            note = read_json(self.note_path, 1 << 16, DataError)
        except DataError:
            return None
        if not isinstance(note, dict) or note.get("url") != self.remote.url:
            return None
        validator = note.get("validator")
        return validator if isinstance(validator, str) and (validator or self.remote.checksum) else None

    def usable_size(self) -> int:
        """Return the number of bytes that need not be fetched again."""
        return self.path.stat().st_size if self.path.exists() and self.read_validator() is not None else 0

    def request_headers(self) -> dict[str, str]:
        """Return the headers that request the rest of the file, or all of it if the server has another version now."""
        size, validator = self.usable_size(), self.read_validator()
        headers = {"Range": f"bytes={size}-"} if size else {}
        return headers | ({"If-Range": validator} if size and validator else {})

    def restart(self, validator: str) -> None:
        """Empty the part and note its version.

        The part is emptied before the note is written, so that a kill between the two leaves no part with a wrong note.
        """
        self.path.write_bytes(b"")
        self.note_path.write_text(json.dumps({"url": self.remote.url, "validator": validator}), encoding="utf-8")

    def delete(self) -> None:
        """Delete the part and its note."""
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)

    def move_to(self, target: Path) -> None:
        """Rename the part to `target`, durably, and delete the note."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(target)
        self.note_path.unlink(missing_ok=True)
        sync_folder(target.parent)


@dataclass(frozen=True)
class Fetcher:
    """A client that fetches documents and files. When `stop` is set, all threads end soon; parts stay on disk."""

    config: ConnectionConfig
    stop: threading.Event

    @functools.cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        # One opener for all files, because reading the certificates takes longer than fetching a clip.
        return urllib.request.build_opener(Redirects, urllib.request.HTTPSHandler(context=ssl.create_default_context()))

    def get(self, url: str) -> bytes:
        """Return a small document. Raises DataError if it cannot be fetched, or is larger than 64 MiB."""

        def fetch_document() -> bytes:
            body = bytearray()
            with self._open(url, {}) as response:
                for chunk in _read_chunks(response):
                    body += chunk
                    self._raise_if_stopped()
                    if len(body) > LARGEST_DOCUMENT:
                        wanted = "wanted a list of files"
                        raise DataError(f"{url}: the server sent more than {LARGEST_DOCUMENT:,} bytes; {wanted}.")
            return bytes(body)

        return self._retry(url, fetch_document, lambda: 0)

    def fetch(self, remote: Remote, target: Path, report: Callable[[int], None]) -> None:
        """Fetch `remote` as the file `target`. `report` is called with the number of bytes on disk.

        Raises DataError if the file cannot be fetched, in which case its part stays on disk, or if the file is not the
        published one, in which case it is removed.
        """
        part = PartialFile.of(target, remote)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        self._retry(remote.url, lambda: self._fetch_rest(part, report), part.usable_size)
        with writing(target):
            if fault := mismatch(part.path, remote):
                part.delete()
                raise DataError(f"{remote.url}: {fault}. The file was removed. Run the same command to fetch it again.")
            part.move_to(target)

    def _fetch_rest(self, part: PartialFile, report: Callable[[int], None]) -> None:
        """Try once to request the missing bytes and append them to the part."""
        size = part.usable_size()
        if size and size == part.remote.size:  # an earlier run was killed just before it renamed the part
            return
        try:
            with self._open(part.remote.url, part.request_headers()) as response:
                total = _expected_size(response, part.remote)
                with writing(part.path):
                    _prepare_part(part, response, size)
                    self._append(part, response, total, report)
        except _RangeNotSatisfiable as error:
            if size and error.total == size:  # the part is complete, and the size was not published
                return
            part.delete()
            raise _TemporaryError("the file on the server is shorter than the part fetched before") from error

    def _append(
        self, part: PartialFile, response: HTTPResponse, total: int | None, report: Callable[[int], None]
    ) -> None:
        """Append the body of a response to the part. Raises _TemporaryError if it stays shorter than `total`."""
        limit = LARGEST if total is None else total
        with part.path.open("ab") as file:
            report(file.tell())
            for chunk in _read_chunks(response):
                if file.tell() + len(chunk) > limit:
                    part.delete()
                    raise DataError(
                        f"{part.remote.url}: the server sent more than {limit:,} bytes. The part was removed."
                    )
                file.write(chunk)
                report(file.tell())
                self._raise_if_stopped()
            size = file.tell()
        if total is not None and size < total:
            raise _TemporaryError(f"the server stopped after {size:,} of {total:,} bytes")

    def _retry(self, url: str, action: Callable[[], T], get_size: Callable[[], int]) -> T:
        """Call `action` until it succeeds. Raises DataError after too many temporary errors in a row.

        `get_size` returns the number of bytes fetched so far. After `STEP` new bytes, the count of errors restarts.
        """
        failures, best = 0, get_size()
        while True:
            try:
                return action()
            except _TemporaryError as error:
                failures = 1 if get_size() >= best + STEP else failures + 1
                best = max(best, get_size())
                if failures >= self.config.tries:
                    raise DataError(f"{url}: {error}, {failures} times in a row. {RESUME_ADVICE}") from error
                pause = max(error.pause, self.config.pause * 2 ** (failures - 1))
            self.stop.wait(min(pause, LONGEST_PAUSE))
            self._raise_if_stopped()

    def _raise_if_stopped(self) -> None:
        if self.stop.is_set():
            raise DataError(f"stopped. {RESUME_ADVICE}")

    def _open(self, url: str, headers: dict[str, str]) -> HTTPResponse:
        """Return a response with status 200 or 206.

        Raises DataError, _TemporaryError or _RangeNotSatisfiable for every other status.
        """
        if urlsplit(url).scheme not in ("http", "https"):
            raise DataError(f"{url}: wanted an address with http or https.")
        request = urllib.request.Request(url, headers={"User-Agent": f"ser/{__version__}", **headers})
        try:
            response: HTTPResponse = self._opener.open(request, timeout=self.config.timeout)
        except HTTPError as error:
            with error:
                raise _status_error(url, error.code, str(error.reason), error.headers) from error
        except (ValueError, InvalidURL) as error:  # the target of a redirect can be any text
            raise DataError(f"{url}: is or redirects to an invalid address: {_printable(str(error))}.") from error
        except (OSError, HTTPException) as error:
            raise _TemporaryError(_describe_error(error)) from error
        if response.status not in (200, 206):
            with response:
                raise _status_error(url, response.status, response.reason, response.headers)
        return response


def mismatch(path: Path, remote: Remote) -> str:
    """Return how a file differs from `remote`, or "" if its size and checksum are right as far as they are published.

    Raises DataError if `path` is not a regular file or cannot be read.
    """
    size = check_file(path, sys.maxsize, DataError)
    if remote.size not in (None, size):
        return f"got {size:,} bytes, wanted {remote.size:,}"
    kind, _, wanted = remote.checksum.partition(":")
    if not wanted:
        return ""
    try:
        with path.open("rb") as file:
            got = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from error
    return "" if got == wanted.lower() else f"got the {kind} {got}, wanted {_printable(wanted)}"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError raised inside the block into a DataError that says that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        advice = f"Make room, or choose another --root. {RESUME_ADVICE}"
        raise DataError(f"cannot write {path}: {error.strerror or error}. {advice}") from error


def _prepare_part(part: PartialFile, response: HTTPResponse, size: int) -> None:
    """Make the part end at the byte where the body of the response begins.

    `size` is the usable size of the part. Raises _TemporaryError if the body does not begin there or belongs to another
    version of the file.
    """
    validator = _get_validator(response.headers)
    if response.status == 200:
        part.restart(validator)
        return
    part_validator = part.read_validator()
    start = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
    is_other_version = part_validator and validator and part_validator != validator
    if not size or start is None or int(start[1]) != size or is_other_version:
        part.delete()
        raise _TemporaryError("the server sent another range or version than requested")


def _expected_size(response: HTTPResponse, remote: Remote) -> int | None:
    """Return the size of the whole file in bytes, or None if it is not known.

    Raises DataError if the size differs from the published one or exceeds the limit, or if nothing would show that the
    file is incomplete.
    """
    offered = response.length  # the Content-Length header; None if there is none
    if response.status == 206:
        match = re.search(r"/(\d{1,18})$", response.headers.get("Content-Range", ""))
        offered = int(match[1]) if match else None
    if remote.size is not None and offered not in (None, remote.size):
        kind = _printable(response.headers.get_content_type())
        advice = "Try again later. If the error stays, the published file has changed."
        raise DataError(f"{remote.url}: the server offers {offered:,} bytes ({kind}), wanted {remote.size:,}. {advice}")
    size = remote.size if offered is None else offered
    if size is None and not (response.chunked or remote.checksum):
        reason = "so an incomplete download would go unnoticed"
        raise DataError(f"{remote.url}: the server does not give the size of the file, {reason}.")
    if size is not None and size > max(LARGEST, remote.size or 0):
        raise DataError(f"{remote.url}: the server offers {size:,} bytes; the maximum is {LARGEST:,}.")
    return size


def _read_chunks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield the body as it arrives, up to the length in its header. Raises _TemporaryError if the body ends earlier."""
    left = response.length
    while left is None or left:
        try:
            # `read` would lose the bytes that arrived before a cut; `read1` returns them
            chunk = response.read1(CHUNK if left is None else min(CHUNK, left))
        except (OSError, HTTPException) as error:
            raise _TemporaryError(_describe_error(error)) from error
        if not chunk:
            break
        left = None if left is None else left - len(chunk)
        yield chunk
    if left:
        raise _TemporaryError(f"the connection was cut {left:,} bytes before the end")


def _get_validator(headers: Message) -> str:
    """Return the text that identifies one version of a file: a strong ETag, else the modification date, else ""."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _status_error(url: str, status: int, reason: str, headers: Message) -> Exception:
    """Return the exception for a response whose status is neither 200 nor 206."""
    if status == 416:
        match = re.fullmatch(r"bytes \*/(\d{1,18})", headers.get("Content-Range", ""))
        return _RangeNotSatisfiable(int(match[1]) if match else None)
    message = f"the server responded with {status} {_printable(reason)}"
    if status in TEMPORARY_STATUSES:
        wait = headers.get("Retry-After", "")
        return _TemporaryError(message, float(wait) if wait.isdecimal() else 0.0)
    return DataError(f"{url}: {message}. Check the address in a browser, or try again later.")


def _printable(text: str) -> str:
    """Return text from a server as one line of at most 200 characters, without terminal control characters."""
    return "".join(character if character.isprintable() else " " for character in text)[:200].strip()


def _describe_error(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    return "the connection was cut" if isinstance(cause, HTTPException) else str(cause) or type(cause).__name__
