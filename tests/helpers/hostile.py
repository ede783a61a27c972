"""Attacks on files: what would run leaves a canary, what promises much takes no room on the disk."""

import json
import os
from collections.abc import Callable
from pathlib import Path

GIB = 1 << 30
NO_FILE = "it is a folder, a pipe or a device"  # a part of messages
Attack = Callable[..., object]


class Evil:
    """Unpickled, it would touch the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (os.system, (f"touch {self.canary}",))


def sparse(path: Path, size: int, head: bytes = b"") -> Path:
    """A file that is large and takes no room."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
