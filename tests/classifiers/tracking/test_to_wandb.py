"""A run in the offline folder of Weights & Biases, and a server that cannot be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from classifiers.tracking.pushed_run import PushedRun, read_run
from classifiers.tracking.to_wandb import COMPLETE, SETTINGS, push_to_wandb
from embedcache import Artifacts, SerError

wandb = pytest.importorskip("wandb")


@pytest.fixture
def pushed(two_heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PushedRun:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    return read_run(Artifacts(tmp_path), str(two_heads))


@pytest.fixture(autouse=True)
def _fresh_client() -> None:
    """The client reads its environment variables once."""
    wandb.teardown()


def test_offline_each_row_is_a_folder_and_a_second_push_adds_none(
    pushed: PushedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = push_to_wandb(pushed, "team/project")
    assert (done.new, done.present) == (2, 0)
    found = {path.parent.name.rpartition("-")[2] for path in (tmp_path / "wandb").glob(f"offline-run-*/{COMPLETE}")}
    assert found == {row.key for row in pushed.rows}
    done = push_to_wandb(pushed, "team/project")
    assert (done.new, done.present) == (0, 2)
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2


def test_a_server_that_cannot_be_reached_is_named(pushed: PushedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "init_timeout", 3)
    with pytest.raises(SerError, match=r"Weights & Biases at http://127\.0\.0\.1:9: "):
        push_to_wandb(pushed)
