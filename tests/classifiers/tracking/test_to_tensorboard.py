"""A run as event files, read back record by record."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from classifiers.tracking.pushed_run import PushedRun, read_run
from classifiers.tracking.to_tensorboard import push_to_tensorboard
from embedcache import Artifacts, SerError

pytest.importorskip("tensorboardX")


@pytest.fixture
def pushed(two_heads: Path, tmp_path: Path) -> PushedRun:
    return read_run(Artifacts(tmp_path), str(two_heads))


def events(folder: Path) -> Iterator[Any]:
    """The values of all events of a row: a record is its length, a checksum, the event and a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.glob("events.out.tfevents.*")
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield from Event.FromString(data[12 : 12 + length]).summary.value
        data = data[16 + length :]


def test_each_row_has_scalars_parameters_tags_and_a_picture(pushed: PushedRun, tmp_path: Path) -> None:
    done = push_to_tensorboard(pushed, str(tmp_path / "logs"))
    assert (done.new, done.present) == (2, 0)
    for row in pushed.rows:
        values = list(events(tmp_path / "logs" / pushed.name / row.name.replace(" ", "_")))
        scalars = {value.tag: value.simple_value for value in values if value.HasField("simple_value")}
        assert scalars == pytest.approx(dict(row.metrics), abs=1e-6)
        (picture,) = [value.image for value in values if value.HasField("image")]
        assert picture.encoded_image_string.startswith(b"\x89PNG")
        assert {"_hparams_/session_start_info", "tags/text_summary"} <= {value.tag for value in values}


def test_a_second_push_adds_nothing(pushed: PushedRun, tmp_path: Path) -> None:
    push_to_tensorboard(pushed, str(tmp_path / "logs"))
    before = sorted((tmp_path / "logs").rglob("*"))
    done = push_to_tensorboard(pushed, str(tmp_path / "logs"))
    assert (done.new, done.present, sorted((tmp_path / "logs").rglob("*"))) == (0, 2, before)


def test_other_predictions_under_the_same_name_are_refused(pushed: PushedRun, tmp_path: Path) -> None:
    push_to_tensorboard(pushed, str(tmp_path / "logs"))
    with pytest.raises(SerError, match="with other contents"):
        push_to_tensorboard(replace(pushed, digest="0" * 64), str(tmp_path / "logs"))


def test_a_push_that_fails_halfway_leaves_nothing(
    pushed: PushedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classifiers.tracking import to_tensorboard

    write, written = to_tensorboard._write_row, []

    def fails_at_the_second(folder: Path, row: object) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(folder)
        write(folder, row)

    monkeypatch.setattr(to_tensorboard, "_write_row", fails_at_the_second)
    with pytest.raises(SerError, match="No space left on device"):
        push_to_tensorboard(pushed, str(tmp_path / "logs"))
    assert list((tmp_path / "logs").iterdir()) == []
