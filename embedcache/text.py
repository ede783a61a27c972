"""Parts of messages: a number with its noun, and the command that installs an extra."""

from __future__ import annotations

import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "ser-toolkit"  # `ser` on PyPI is a project of other people


def count(n: int, noun: str) -> str:
    """Return a number with its noun: `1 clip`, `2 clips`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def install_hint(extra: str) -> str:
    """Return the pip command that installs an extra of this distribution into the running Python.

    A distribution that was installed from a checkout, a folder or a wheel is named by that path, and any other by the
    name of the distribution.
    """
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    path, editable = _origin()
    if path is None or not path.exists():
        return f"{pip} {shlex.quote(f'{DISTRIBUTION}[{extra}]')}"
    return f"{pip} {'--editable ' if editable else ''}{shlex.quote(f'{path}[{extra}]')}"


def _origin() -> tuple[Path | None, bool]:
    """Return the folder or wheel that this distribution was installed from, and whether the installation is editable.

    The path is None if the distribution was installed from a package index. pip writes the path into `direct_url.json`
    (PEP 610). For a checkout that was never installed, the path is the checkout itself.
    """
    try:
        origin = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return Path(__file__).parent.parent, True
    url = urlsplit(origin.get("url", ""))
    path = Path(unquote(url.path)) if url.scheme == "file" else None
    return path, bool(origin.get("dir_info", {}).get("editable"))
