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

Ser = Callable[..., subprocess.CompletedProcess]  # runs `ser` in a process of its own
