"""A command in a terminal of so many columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from helpers.places import REPOSITORY

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(arguments: list[str], width: int, cwd: Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run `ser` with standard output on a terminal; exit code and what the screen got, without colours."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    there = {**os.environ, **(env or {}), "TERM": "xterm", "PYTHONPATH": str(REPOSITORY)}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        there.pop(name, None)
    command = [sys.executable, str(REPOSITORY / "cli.py"), *arguments]
    process = subprocess.Popen(command, stdout=slave, stderr=subprocess.DEVNULL, cwd=cwd, env=there)
    os.close(slave)
    parts = []
    while True:
        try:
            data = os.read(master, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        parts.append(data)
    os.close(master)
    return process.wait(), ANSI.sub("", b"".join(parts).decode()).replace("\r\n", "\n")
