"""The queue: what waits is joined, a clip that cannot be encoded fails alone, nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.sounds import noise

from classifiers.inference.model import Attribution, EncodedWaveforms, Model
from classifiers.serving.pack_queue import PackQueue, PackReport
from embedcache import AudioError


class Held:
    """A model that waits until it is let go, and gives the first sample of each wave as a probability."""

    def __init__(self) -> None:
        self.go, self.began = threading.Event(), threading.Semaphore(0)
        self.packs: list[int] = []

    def proba(self, waves: Sequence[Any], batches: Sequence[Any]) -> Any:
        self.packs.append(len(waves))
        self.began.release()
        self.go.wait(30)
        if any(wave[0] < 0 for wave in waves):
            raise AudioError("cannot be encoded")
        return np.array([[wave[0], 1 - wave[0]] for wave in waves], np.float64)

    def model(self, name: str = "m") -> Model:
        return Model(
            folder=Path(name),
            labels=("a", "b"),
            rate=10,
            shortest=0.1,
            longest=900.0,
            used_seconds=1.0,
            card={},
            encoders=(),
            views=(),
            vectors=lambda batches: np.empty((0, 0)),
            proba=self.proba,
            attribution=lambda wave, batches: Attribution(frames=(float(wave[0]),)),
        )


def wave(value: float) -> Any:
    return np.full(10, value, np.float32)


def test_what_waits_is_joined_and_everybody_gets_their_own() -> None:
    held, reports = Held(), list[PackReport]()
    model, queue = held.model(), PackQueue(1, 30.0, reports.append)
    first = queue.submit([model], [wave(0.0)], 1.0, False)
    held.began.acquire(timeout=30)
    later = [queue.submit([model], [wave(n / 10), wave(0.05)], 2.0, n == 3) for n in range(1, 6)]
    assert queue.length == 5
    held.go.set()
    assert first.result(30)[0][0].tolist() == [[0.0, 1.0]]
    for n, future in enumerate(later, 1):
        probabilities, attributions = future.result(30)
        assert probabilities[0][:, 0] == pytest.approx([n / 10, 0.05])
        assert [a.frames for a in attributions] == ([(pytest.approx(0.3),)] if n == 3 else [])
    assert held.packs == [1, 10]
    assert [(report.requests, report.clips, report.audio_seconds) for report in reports] == [(1, 1, 1.0), (5, 10, 10.0)]


def test_joined_clips_get_the_vectors_that_they_get_alone(served_models: tuple[Model, ...]) -> None:
    """And the same probabilities but for the order in which a head adds."""
    waves = [noise(seconds).astype(np.float32) for seconds in (1.3, 0.7, 2.0, 1.3)]
    together = EncodedWaveforms.encode(served_models, waves)
    for n, one in enumerate(waves):
        alone = EncodedWaveforms.encode(served_models, [one])
        assert np.array_equal(alone.vectors()[0], together.vectors()[n])
        for mine, joined in zip(alone.probabilities(), together.probabilities(), strict=True):
            np.testing.assert_allclose(mine[0], joined[n], rtol=1e-9, atol=1e-9)


def test_a_clip_that_cannot_be_encoded_fails_alone() -> None:
    held = Held()
    model, queue = held.model(), PackQueue(1, 30.0)
    first = queue.submit([model], [wave(0.0)], 1.0, False)
    held.began.acquire(timeout=30)
    later = [queue.submit([model], [wave(value)], 1.0, False) for value in (0.1, -1.0, 0.2)]
    held.go.set()
    assert first.result(30)
    assert [later[n].result(30)[0][0][0, 0] for n in (0, 2)] == pytest.approx([0.1, 0.2])
    with pytest.raises(AudioError, match="cannot be encoded"):
        later[1].result(30)
    assert queue.submit([model], [wave(0.3)], 1.0, False).result(30)


@pytest.mark.parametrize(("pack_seconds", "packs"), [(0.0, [1, 1, 1, 1, 1]), (2.0, [1, 2, 2])])
def test_packs_are_bounded(pack_seconds: float, packs: list[int]) -> None:
    held = Held()
    model, queue = held.model(), PackQueue(1, pack_seconds)
    futures = [queue.submit([model], [wave(0.0)], 1.0, False)]
    held.began.acquire(timeout=30)
    futures += [queue.submit([model], [wave(0.1)], 1.0, False) for _ in range(4)]
    held.go.set()
    assert all(future.result(30) for future in futures)
    assert held.packs == packs


def test_requests_of_other_models_are_not_joined() -> None:
    held, other = Held(), Held()
    queue = PackQueue(1, 30.0)
    one, two = held.model("one"), other.model("two")
    other.go.set()
    futures = [queue.submit([one], [wave(0.0)], 1.0, False)]
    held.began.acquire(timeout=30)
    futures += [queue.submit([model], [wave(0.1)], 1.0, False) for model in (one, two, one, replace(one))]
    held.go.set()
    assert all(future.result(30) for future in futures)
    assert (held.packs, other.packs) == ([1, 2, 1], [1])


def test_free_lanes_share_what_waits() -> None:
    held = Held()
    model, queue = held.model(), PackQueue(2, 30.0)
    futures = [queue.submit([model], [wave(0.0)], 1.0, False) for _ in range(2)]
    for _ in futures:
        held.began.acquire(timeout=30)
    futures += [queue.submit([model], [wave(0.1)], 1.0, False) for _ in range(8)]
    held.go.set()
    assert all(future.result(30) for future in futures)
    assert sorted(held.packs) == [1, 1, 1, 1, 2, 4]  # each takes half of what waits, also while the other lane runs


def test_the_time_to_wait_comes_from_the_queue() -> None:
    held = Held()
    model, queue = held.model(), PackQueue(1, 0.0)
    assert queue.retry_after() == 1
    held.go.set()
    queue.submit([model], [wave(0.0)], 1.0, False).result(30)
    queue._speed, held.go = 0.5, threading.Event()
    future = queue.submit([model], [wave(0.1)], 3.0, False)
    assert queue.retry_after() == 6
    queue._speed = 1e-6
    assert queue.retry_after() == 120
    held.go.set()
    assert future.result(30)


def test_who_has_a_result_finds_it_counted() -> None:
    held, reports = Held(), list[PackReport]()

    def count_slowly(report: PackReport) -> None:
        time.sleep(0.1)
        reports.append(report)

    held.go.set()
    queue = PackQueue(1, 0.0, count_slowly)
    queue.submit([held.model()], [wave(0.0)], 1.0, False).result(30)
    assert (len(reports), queue._running, queue._open_seconds) == (1, 0, 0.0)


def test_what_nobody_waits_for_is_dropped() -> None:
    held, wanted = Held(), [True]
    model, queue = held.model(), PackQueue(1, 30.0)
    running = queue.submit([model], [wave(0.0)], 1.0, False)
    held.began.acquire(timeout=30)
    dropped = queue.submit([model], [wave(0.1)], 100.0, False, lambda: wanted[0])
    late = queue.submit([model], [wave(0.1)], 100.0, False, lambda: wanted[-1])
    kept = queue.submit([model], [wave(0.2)], 1.0, False)
    wanted[0] = False
    queue.drop_unwanted()
    with pytest.raises(CancelledError):
        dropped.result(30)
    with pytest.raises(CancelledError):
        late.result(30)
    held.go.set()
    assert running.result(30)
    assert kept.result(30)
    assert (held.packs, queue._open_seconds) == ([1, 1], 0.0)


def test_a_queue_that_is_closed_drops_what_waits() -> None:
    held = Held()
    model, queue = held.model(), PackQueue(1, 0.0)
    running = queue.submit([model], [wave(0.0)], 1.0, False)
    held.began.acquire(timeout=30)
    waiting = queue.submit([model], [wave(0.1)], 1.0, False)
    queue.close()
    with pytest.raises(CancelledError):
        waiting.result(30)
    held.go.set()
    assert running.result(30)
