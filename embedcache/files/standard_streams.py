"""Standard output and standard error that may be closed, on a full disk, or a pipe whose reader has gone.

Standard output holds results, so losing a part of it ends the command: with one message, or silently if the reader of a
pipe has gone, as `head` has after its lines. Standard error holds messages for people, so losing them stops no work.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from ..errors import SerError
from ..text import escaped

READER_GONE = 141  # exit code of a program that writes to a pipe without a reader, as a shell gives it: 128 + SIGPIPE
STDERR = 2  # number of the file
KEEP_NAMES = "ser.keep_names"  # how the standard streams handle what cannot be encoded

Lost = Callable[[TextIO, OSError], None]  # called with a stream that cannot be written, and the reason


def run_guarded(command: Callable[[], int]) -> int:
    """Run a command, whose value is its exit code, and return the exit code: 1 instead of 0 if output was lost.

    If standard output is closed, the command does not start. If it cannot be written, `print` raises SerError in the
    command; if its reader has gone, SystemExit with code 141. Messages are dropped if standard error is closed.
    """
    lost: list[OSError] = []
    with _guarded_streams(lost):
        try:
            if sys.stdout is None:
                raise SerError("standard output is closed; wanted a place for the result. Add > FILE or > /dev/null.")
            code = command()
            sys.stdout.flush()
        except SerError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
            code = 1
        sys.stderr.flush()
    return code or int(bool(lost))


@contextmanager
def _guarded_streams(lost: list[OSError]) -> Iterator[None]:
    """Guard both streams. What is lost of standard error is added to `lost`."""
    before = sys.stdout, sys.stderr

    def forget(stream: TextIO, error: OSError) -> None:
        lost.append(error)
        _discard(stream)

    sys.stderr = _guarded(sys.stderr or _null_stderr(), forget)
    if sys.stdout:
        sys.stdout = _guarded(sys.stdout, _stop)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Guarded:
    """A text stream that calls `lost` if it cannot be written."""

    def __init__(self, stream: TextIO, lost: Lost) -> None:
        self._stream, self._lost = stream, lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._lost(self._stream, error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lost(self._stream, error)


def _guarded(stream: TextIO, lost: Lost) -> TextIO:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=KEEP_NAMES)  # a terminal without UTF-8 loses a dash, not the result
    return cast(TextIO, _Guarded(stream, lost))


def _keep_names(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded by `?`, and a byte of a file's name that is not UTF-8 by its escape `\\xff`.

    The byte itself would make the whole output unreadable as UTF-8, and `?` would lose the name.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(escaped(char) if "\udc80" <= char <= "\udcff" else "?" for char in lost), error.end


codecs.register_error(KEEP_NAMES, _keep_names)


def _stop(stream: TextIO, error: OSError) -> None:
    """End the command, since a part of its result is lost."""
    _discard(stream)
    if isinstance(error, BrokenPipeError):
        sys.exit(READER_GONE)
    raise SerError(
        f"standard output cannot be written: {error.strerror or error}; a part of the result is lost. Make room, or "
        "write it to another place."
    ) from error


def _discard(stream: TextIO) -> None:
    """Lead a stream to the null device, so that what it still holds is no error when Python ends."""
    with suppress(OSError):  # a stream without a file, as in a test
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _null_stderr() -> TextIO:
    """Open the null device as standard error.

    Otherwise the next file that is opened, such as a shard, would get its number, and what libraries print there.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, STDERR)
    if null != STDERR:
        os.close(null)
    return os.fdopen(STDERR, "w", closefd=False)
