"""The exceptions of `ser`. Each message says what was got, what was wanted and what to do.

    SerError
    ├── UnknownName      no dataset, encoder, head, protocol or run has this name
    ├── PluginError      an entry point of another package cannot be loaded
    ├── DataError        a folder, a manifest or a label set cannot be used
    ├── AudioError       a clip cannot be read, or an encoder does not accept it
    ├── EncoderError     a checkpoint cannot be loaded, or a device does not exist
    ├── StoreError       a shard or a store is damaged, or cannot be written
    ├── ProtocolError    folds cannot be made as the protocol promises
    ├── ModelError       a saved head cannot be loaded, or does not fit its encoder
    └── ConfigError      an option has a wrong value, or options exclude each other

The command line prints the message without a traceback and exits with code 2 after a ConfigError, and with code 1 after
any other SerError. In Python they are ordinary exceptions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from .text import one_line


class SerError(Exception):
    """Base class of all errors that a user can correct. Each argument is one line of the message."""

    def __str__(self) -> str:
        """Return the lines of the message, in which a file's name breaks no line."""
        return "\n".join(one_line(str(line)) for line in self.args)


class UnknownName(SerError):
    """No object of the given kind has this name. The message lists the names that exist and suggests the closest."""

    def __init__(self, kind: str, name: str, have: Iterable[str], hint: str = "") -> None:
        names = sorted(have)
        message = f"no {kind} '{name}'; have {', '.join(names) or 'none'}"
        if close := difflib.get_close_matches(name, names, n=1):
            message += f" (did you mean '{close[0]}'?)"
        super().__init__(f"{message}. {hint}".rstrip(". ") + ".")

    def __reduce__(self) -> tuple[type[SerError], tuple[str]]:
        """Pickle the error as a SerError with the same message, since `__init__` takes other arguments."""
        return SerError, (str(self),)


class PluginError(SerError):
    """An entry point of another package cannot be loaded."""


class DataError(SerError):
    """A folder, a manifest or a label set cannot be used."""


class AudioError(SerError):
    """A clip cannot be read, or an encoder does not accept it."""

    key = ""  # key of the clip if it failed while clips were encoded, so that the others can go on


class EncoderError(SerError):
    """A checkpoint cannot be loaded, or a device does not exist."""


class StoreError(SerError):
    """A shard or a store is damaged, or cannot be written."""


class ProtocolError(SerError):
    """Folds cannot be made as the protocol promises."""


class ModelError(SerError):
    """A saved head cannot be loaded, or does not fit its encoder."""


class ConfigError(SerError):
    """An option has a wrong value, or options exclude each other. The exit code is 2."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of the error's class if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def complain(summary: str, complaints: list[str], advice: str, show: int = 5) -> tuple[str, ...]:
    """Return the lines of a message: the summary, the first `show` complaints, the number of others, the advice."""
    lines = [f"  {line}" for line in complaints[:show]]
    if len(complaints) > show:
        lines.append(f"  … and {len(complaints) - show} more")
    return f"{summary}:", *lines, advice
