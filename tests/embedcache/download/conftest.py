"""The server that every test of this folder may ask."""

from collections.abc import Iterator

import pytest
from helpers.server import World, running_server


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with running_server(monkeypatch) as server:
        yield server
