"""What a request sends: one file as the body, or several as a form, within bounds of size and time, in memory alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from embedcache import SerError
from embedcache.audio.decode import Waveform

from ..inference.windows import decode_pcm16
from .service import MAX_BYTES, Slot

BODY_TIMEOUT = 60.0  # longest time in which the body of a request may arrive, in seconds
SILENT_TIMEOUT = 60.0  # longest time between two parts of live sound, in seconds
MAX_FILES = 64  # files of one form
FORM = "multipart/form-data"


class BodyTooLarge(SerError):
    """The body of a request has too many bytes."""


class BodyTooSlow(SerError):
    """The body of a request did not arrive in time."""


class WrongEncoding(SerError):
    """The body of a request is compressed."""


class WrongForm(SerError):
    """The body of a request is no form that can be read."""


@dataclass(frozen=True)
class SentFile:
    """A file of a request."""

    name: str  # as the client calls it; it is used in messages, and opens nothing
    data: bytes


def is_form(request: Request) -> bool:
    """Whether a request sends a form, which may hold several files."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM


async def read_files(request: Request, slot: Slot, name: str) -> list[SentFile]:
    """Return the files of a request: those of a form, or the body, called `name`.

    Raises as `read_body` does, and WrongForm if a form cannot be read or is cut off, holds no file or too many, or has
    a field that is no file.
    """
    if not is_form(request):
        return [SentFile(name, await read_body(request, slot))]
    items = (await _read_form(request, slot)).multi_items()
    files = [value for _, value in items if isinstance(value, UploadFile)]
    if not files:
        raise WrongForm("the form has no file. Send files as `curl -F file=@CLIP.wav` does.")
    if fields := [field for field, value in items if not isinstance(value, UploadFile)]:
        raise WrongForm(
            f"the form has the field '{fields[0]}'; wanted files alone. Options belong to the address: ?window=3."
        )
    return [SentFile(_encodable(file.filename or name), await file.read()) for file in files]


class _FormParser(MultiPartParser):
    """A parser that keeps the files in memory, and knows whether it has seen the end of the form."""

    spool_max_size = MAX_BYTES + 1
    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def _read_form(request: Request, slot: Slot) -> FormData:
    parts = _parts(request, slot, MAX_BYTES)
    parser = _FormParser(request.headers, parts, max_files=MAX_FILES, max_fields=MAX_FILES)
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            form = await parser.parse()
    except TimeoutError as error:
        raise BodyTooSlow(f"the files did not arrive within {BODY_TIMEOUT:.0f} s. Send them again.") from error
    except (MultiPartException, KeyError, ValueError) as error:
        reason = str(getattr(error, "message", None) or error).rstrip(".")
        raise WrongForm(
            f"the form cannot be read: {reason}. Wanted files as multipart/form-data, at most {MAX_FILES}."
        ) from error
    if form and not parser.is_complete:  # the parser leaves out the part that was cut off
        raise WrongForm("the form is cut off: its last boundary is missing. Send it again.")
    return form


def _encodable(name: str) -> str:
    """Return a file name with `?` for what UTF-8 cannot encode: clients may choose the encoding of names."""
    return name.encode(errors="replace").decode()


@asynccontextmanager
async def watched(request: Request, slot: Slot) -> AsyncIterator[None]:
    """Drop what waits of a request, whose body was read, as soon as the client goes away."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        slot.abandon()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


async def read_body(request: Request, slot: Slot, max_bytes: int | None = None) -> bytes:
    """Return the body of a request.

    Raises BodyTooLarge as soon as more than `max_bytes`, by default `MAX_BYTES`, have arrived, BodyTooSlow, and Busy if
    all requests together hold too many bytes.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return b"".join([part async for part in _parts(request, slot, max_bytes or MAX_BYTES)])
    except TimeoutError as error:
        raise BodyTooSlow(f"the sound did not arrive within {BODY_TIMEOUT:.0f} s. Send it again.") from error


async def read_samples(request: Request) -> AsyncIterator[Waveform]:
    """Yield raw sound as it arrives: 16 bits, little-endian, one channel. Raises BodyTooSlow if it ceases to arrive."""
    rest = b""  # the first byte of a sample whose second byte has not arrived
    parts = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(SILENT_TIMEOUT):
                data = rest + await anext(parts)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise BodyTooSlow(f"no sound arrived for {SILENT_TIMEOUT:.0f} s. Start a new request.") from error
        rest = data[-1:] if len(data) % 2 else b""
        yield decode_pcm16(data)


async def _parts(request: Request, slot: Slot, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the parts of a body as they arrive, counted."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise WrongEncoding(
            "the body is compressed (Content-Encoding); wanted it as it is. FLAC and Opus are smaller, too."
        )
    declared = request.headers.get("content-length", "")
    too_large = BodyTooLarge(f"got more than {max_bytes:,} bytes, the limit of one request. Send less sound.")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise too_large
        slot.hold(len(part))
        yield part
