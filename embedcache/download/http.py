"""One file from a server: complete, checked and synced under its name, or a part that the next try goes on from.

A part lies beside the file's place, hidden, as `.<name>.part`, with a note `.<name>.part.json` of the address that it
came from and of the version (ETag or Last-Modified) that the server had. What a server says of lengths is not trusted:
nothing is written beyond the size that is known, and a file gets its name only with the right size and checksum.
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

CHUNK = 1 << 18  # bytes that are read at once, at most
STEP = 1 << 20  # bytes after which a file counts as coming along, so that the tries are counted anew
LARGEST = 4 << 30  # bytes of a file whose size nobody has published
LARGEST_DOCUMENT = 64 << 20  # bytes of a listing
LONGEST_PAUSE = 120.0  # seconds, whatever a server asks for
PASSING = frozenset({202, 408, 425, 429, 500, 502, 503, 504})  # answers that another try may mend
AGAIN = "The same command goes on from there."

Got = TypeVar("Got")


@dataclass(frozen=True)
class Patience:
    """How a server is dealt with."""

    timeout: float = 30.0  # seconds without a byte, after which a connection counts as cut
    tries: int = 5  # in a row that bring no file forward
    pause: float = 1.0  # seconds before the second try; it doubles with each further one
    at_once: int = 4  # connections


class _Again(Exception):
    """A fault that another try may mend; `pause` is how many seconds the server wants to be left alone."""

    def __init__(self, what: str, pause: float = 0.0) -> None:
        super().__init__(what)
        self.pause = pause


class _PastTheEnd(Exception):
    """The server has nothing from the asked offset on; `total` is what it says the whole has, in bytes."""

    def __init__(self, total: int | None) -> None:
        super().__init__(total)
        self.total = total


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https alone, and never from https to http: at most ten times, as urllib counts."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The next request. Raises DataError where it would lead elsewhere, or lose the encryption."""
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            raise DataError(
                f"{req.full_url}: leads to {_plain(newurl)}; wanted https, or http where it began with http."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(frozen=True)
class PartialFile:
    """The beginning of a file, and the note of where it came from."""

    path: Path
    remote: Remote

    @classmethod
    def of(cls, target: Path, remote: Remote) -> PartialFile:
        """The part of the file that is to be `target`."""
        return cls(target.with_name(f".{target.name}.part"), remote)

    @property
    def note(self) -> Path:
        """What is known of the part."""
        return self.path.with_name(f"{self.path.name}.json")

    def validator(self) -> str | None:
        """The version that the part is of, "" where the server named none; None where the part is of no use.

        Without a version only a checksum can tell that two halves belong together.
        """
        try:
            noted = read_json(self.note, 1 << 16, DataError)
        except DataError:
            return None
        if not isinstance(noted, dict) or noted.get("url") != self.remote.url:
            return None
        validator = noted.get("validator")
        return validator if isinstance(validator, str) and (validator or self.remote.checksum) else None

    def size(self) -> int:
        """Bytes that need not be fetched again."""
        return self.path.stat().st_size if self.path.exists() and self.validator() is not None else 0

    def headers(self) -> dict[str, str]:
        """What to ask the server, so that it sends the rest, or all of it where it has another version now."""
        size, validator = self.size(), self.validator()
        asked = {"Range": f"bytes={size}-"} if size else {}
        return asked | ({"If-Range": validator} if size and validator else {})

    def begin(self, validator: str) -> None:
        """Empty, of this version. First emptied, then noted: a kill between the two leaves no wrong beginning."""
        self.path.write_bytes(b"")
        self.note.write_text(json.dumps({"url": self.remote.url, "validator": validator}), encoding="utf-8")

    def drop(self) -> None:
        """Leave nothing of it."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def become(self, target: Path) -> None:
        """Give it its name, durably."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(target)
        self.note.unlink(missing_ok=True)
        sync_folder(target.parent)


@dataclass(frozen=True)
class Fetcher:
    """Gets documents and files. Setting `stop` makes each of its threads end soon, with what it has on disk."""

    patience: Patience
    stop: threading.Event

    @functools.cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        """One for all files, for reading the certificates takes longer than to fetch a clip."""
        return urllib.request.build_opener(Redirects, urllib.request.HTTPSHandler(context=ssl.create_default_context()))

    def get(self, url: str) -> bytes:
        """A small document. Raises DataError where it cannot be had, or has more than 64 MiB."""

        def once() -> bytes:
            body = bytearray()
            with self._open(url, {}) as response:
                for chunk in _chunks(response):
                    body += chunk
                    self._heed()
                    if len(body) > LARGEST_DOCUMENT:
                        raise DataError(f"{url}: sends more than {LARGEST_DOCUMENT:,} bytes; wanted a listing.")
            return bytes(body)

        return self._patiently(url, once, lambda: 0)

    def fetch(self, remote: Remote, target: Path, report: Callable[[int], None]) -> None:
        """`remote` as the file `target`; `report` is called with how many bytes are there.

        Raises DataError where it cannot be had (the part stays), or is not what was published (the part goes).
        """
        part = PartialFile.of(target, remote)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        self._patiently(remote.url, lambda: self._go_on(part, report), part.size)
        with writing(target):
            if fault := mismatch(part.path, remote):
                part.drop()
                raise DataError(f"{remote.url}: {fault}. It was removed; the same command fetches it anew.")
            part.become(target)

    def _go_on(self, part: PartialFile, report: Callable[[int], None]) -> None:
        """One try: ask for what is missing, and write what comes."""
        have = part.size()
        if have and have == part.remote.size:  # killed just before it got its name
            return
        try:
            with self._open(part.remote.url, part.headers()) as response:
                total = _total(response, part.remote)
                with writing(part.path):
                    _take_up(part, response, have)
                    self._write(part, response, total, report)
        except _PastTheEnd as error:
            if have and error.total == have:  # all of a file whose size nobody knew
                return
            part.drop()
            raise _Again("the server has less than what was fetched before") from error

    def _write(
        self, part: PartialFile, response: HTTPResponse, total: int | None, report: Callable[[int], None]
    ) -> None:
        limit = LARGEST if total is None else total
        with part.path.open("ab") as file:
            report(file.tell())
            for chunk in _chunks(response):
                if file.tell() + len(chunk) > limit:
                    part.drop()
                    raise DataError(f"{part.remote.url}: sends more than {limit:,} bytes. It was removed.")
                file.write(chunk)
                report(file.tell())
                self._heed()
            size = file.tell()
        if total is not None and size < total:
            raise _Again(f"the server ended after {size:,} of {total:,} bytes")

    def _patiently(self, url: str, once: Callable[[], Got], reached: Callable[[], int]) -> Got:
        """`once`, and again after faults that pass; `reached` tells how far a file has come, in bytes."""
        failures, best = 0, reached()
        while True:
            try:
                return once()
            except _Again as error:
                failures = 1 if reached() >= best + STEP else failures + 1
                best = max(best, reached())
                if failures >= self.patience.tries:
                    raise DataError(f"{url}: {error}, {failures} times in a row. {AGAIN}") from error
                pause = max(error.pause, self.patience.pause * 2 ** (failures - 1))
            self.stop.wait(min(pause, LONGEST_PAUSE))
            self._heed()

    def _heed(self) -> None:
        if self.stop.is_set():
            raise DataError(f"stopped. {AGAIN}")

    def _open(self, url: str, headers: dict[str, str]) -> HTTPResponse:
        """The answer 200 or 206. Raises DataError, _Again or _PastTheEnd for all others."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise DataError(f"{url}: wanted an address with http or https.")
        request = urllib.request.Request(url, headers={"User-Agent": f"ser/{__version__}", **headers})
        try:
            response: HTTPResponse = self._opener.open(request, timeout=self.patience.timeout)
        except HTTPError as error:
            with error:
                raise _refusal(url, error.code, str(error.reason), error.headers) from error
        except (ValueError, InvalidURL) as error:  # a redirection can hold anything
            raise DataError(f"{url}: leads to what is no address: {_plain(str(error))}.") from error
        except (OSError, HTTPException) as error:
            raise _Again(_reason(error)) from error
        if response.status not in (200, 206):
            with response:
                raise _refusal(url, response.status, response.reason, response.headers)
        return response


def mismatch(path: Path, remote: Remote) -> str:
    """What is wrong with a file that is to be `remote`; "" where size and checksum, as far as known, are right.

    Raises DataError for what is no file, or cannot be read.
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
    return "" if got == wanted.lower() else f"got the {kind} {got}, wanted {_plain(wanted)}"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes an OSError a DataError that says what to do."""
    try:
        yield
    except OSError as error:
        advice = f"Make room, or choose another --root. {AGAIN}"
        raise DataError(f"cannot write {path}: {error.strerror or error}. {advice}") from error


def _take_up(part: PartialFile, response: HTTPResponse, have: int) -> None:
    """Make the part end where the body begins. Raises _Again where the body belongs to another version."""
    validator = _validator(response.headers)
    if response.status == 200:
        part.begin(validator)
        return
    noted = part.validator()
    start = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
    if not have or start is None or int(start[1]) != have or (noted and validator and noted != validator):
        part.drop()
        raise _Again("the server sent another piece than was asked for")


def _total(response: HTTPResponse, remote: Remote) -> int | None:
    """The bytes of the whole file; None where nobody says. Raises DataError where it cannot be the one wanted."""
    total = response.length  # what this answer's header says; None where it says nothing
    if response.status == 206:
        match = re.search(r"/(\d{1,18})$", response.headers.get("Content-Range", ""))
        total = int(match[1]) if match else None
    if remote.size is not None and total not in (None, remote.size):
        kind = _plain(response.headers.get_content_type())
        advice = "Try again later; where it stays so, the published file has changed."
        raise DataError(f"{remote.url}: the server offers {total:,} bytes ({kind}), wanted {remote.size:,}. {advice}")
    known = remote.size if total is None else total
    if known is None and not (response.chunked or remote.checksum):
        raise DataError(f"{remote.url}: the server does not say how long the file is: a cut would not be seen.")
    if known is not None and known > max(LARGEST, remote.size or 0):
        raise DataError(f"{remote.url}: the server offers {known:,} bytes; at most {LARGEST:,} are fetched.")
    return known


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """The body as it comes, as far as its header says that it goes. Raises _Again where it ends before."""
    left = response.length
    while left is None or left:
        try:
            chunk = response.read1(CHUNK if left is None else min(CHUNK, left))  # `read` loses what came before a cut
        except (OSError, HTTPException) as error:
            raise _Again(_reason(error)) from error
        if not chunk:
            break
        left = None if left is None else left - len(chunk)
        yield chunk
    if left:
        raise _Again(f"the connection was cut {left:,} bytes before the end")


def _validator(headers: Message) -> str:
    """What tells one version of a file from another: a strong ETag, else the date, else ""."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _refusal(url: str, status: int, reason: str, headers: Message) -> Exception:
    if status == 416:
        match = re.fullmatch(r"bytes \*/(\d{1,18})", headers.get("Content-Range", ""))
        return _PastTheEnd(int(match[1]) if match else None)
    said = f"the server answers {status} {_plain(reason)}"
    if status in PASSING:
        wait = headers.get("Retry-After", "")
        return _Again(said, float(wait) if wait.isdecimal() else 0.0)
    return DataError(f"{url}: {said}. See whether the address still holds, with a browser; try again later.")


def _plain(text: str) -> str:
    """What a server says, on one line and without what a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)[:200].strip()


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, URLError) else error
    return "the connection was cut" if isinstance(inner, HTTPException) else str(inner) or type(inner).__name__
