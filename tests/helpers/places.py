"""Where things lie: the checkout, and real recordings where there are some."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
RAVDESS = os.environ.get("SER_RAVDESS_ROOT")
needs_ravdess = pytest.mark.skipif(not RAVDESS, reason="SER_RAVDESS_ROOT names no RAVDESS")
EMODB = os.environ.get("SER_EMODB_ROOT")
needs_emodb = pytest.mark.skipif(not EMODB, reason="SER_EMODB_ROOT names no EMO-DB")


def tracked_files() -> list[Path]:
    """The files of the project: those that git tracks or would, or, outside git, all but what building leaves."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    if done.returncode:
        built = {
            ".venv",
            "build",
            "artifacts",
            ".mypy_cache",
            ".ruff_cache",
            ".pytest_cache",
            ".hypothesis",
            "__pycache__",
        }
        names = [path for path in REPOSITORY.rglob("*") if not built & set(path.relative_to(REPOSITORY).parts)]
        return [path for path in names if path.is_file()]
    return [path for name in done.stdout.splitlines() if (path := REPOSITORY / name).is_file()]


Ser = Callable[..., subprocess.CompletedProcess]  # runs `ser` in a process of its own
