"""The checks of `ser check`, in the order in which they are made.

Memory comes first, while the process holds nothing but the encoder. Each step yields its lines as they are found, so
that what was measured before an error is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import median

import numpy as np

from ..checks import (
    RELATIVE_TOLERANCE,
    TOLERANCE,
    contract_waveforms,
    distances_in_batches,
    encode_alone,
    largest_difference,
)
from ..encoders.engine.linear import is_fast
from ..encoders.huggingface import HuggingFaceEncoder
from ..encoders.listing import PACKED
from .limits import operations, product_operations, products_of
from .memory import free_mb, peak_of, restart_peak
from .result import CheckLine
from .subject import Floats, Subject
from .timing import interleave

TURN = 1e-4  # largest 1 - cosine of a vector in bf16 or fp16
ROUNDS = 3  # timed runs; `memory` has warmed the encoder up
SLOW = 10.0  # seconds for all packs, from which on a single timed run is enough
DIFFERENCE, COSINE, DISTANCE = "largest difference", "1 - cosine", "distance by the norm of the vector"
SPEED, SHARE, MEMORY, FITS = "speed", "share of the limit", "peak memory", "audio that fits"

Step = Callable[[Subject], Iterator[CheckLine]]


def memory(subject: Subject) -> Iterator[CheckLine]:
    """Yield the pack of the encoder, the memory at its peak, and the audio that would fit into what is free."""
    seconds = subject.packed_seconds
    lanes = subject.encoder.lanes
    yield CheckLine.fact("pack", subject.encoder.pack, f"s of audio; packs at a time: {lanes}")
    free, before = free_mb(subject.device), restart_peak(subject.device)
    subject.encode_packs()
    if free is None or before is None:
        yield from (CheckLine.skipped(name, "this system does not measure it") for name in (MEMORY, FITS))
        return
    peak = peak_of(subject.device)
    yield CheckLine.fact(MEMORY, peak / 1000, "GB, weights included")
    if peak > before:
        yield CheckLine.fact(FITS, seconds * free / (peak - before), "s of audio, estimated")
    else:
        yield CheckLine.skipped(FITS, "a pack needs no memory that can be measured")


def speed(subject: Subject) -> Iterator[CheckLine]:
    """Yield the seconds of audio encoded in a second, and their share of the limit of the machine.

    The limit is the fastest large matrix product of the precision, measured in turns with the encoder.
    """
    precision, device = subject.encoder.info.precision, str(subject.device)
    reason = _no_limit(subject)
    products = {} if reason else dict(products_of(precision, device))
    sides = {SPEED: subject.encode_packs, **products}
    seconds = interleave(sides, 1, warm_up=False)
    if seconds[SPEED][0] < SLOW:
        more = interleave(sides, ROUNDS - 1, warm_up=False)
        seconds = {side: [*seconds[side], *more[side]] for side in sides}
    took = median(seconds.pop(SPEED))
    yield CheckLine.fact(SPEED, subject.packed_seconds / took, "s of audio a second")
    if reason:
        yield CheckLine.skipped(SHARE, reason)
        return
    limit = product_operations(device) / min(map(median, seconds.values()))
    yield CheckLine.fact(
        SHARE, _operations(subject) / took / limit, f"of the fastest matrix product, {limit / 1e9:,.0f} GFLOP/s"
    )


def two_runs(subject: Subject) -> Iterator[CheckLine]:
    """Yield how far two runs over the same waveforms are apart: on a CPU, not at all."""
    first, second = subject.layers, subject.encode_layers()
    if subject.device.type == "cpu":
        yield CheckLine.within("two runs", largest_difference(second, first), 0.0, DIFFERENCE)
    else:
        yield _compared("two runs", second, first, subject.encoder.info.precision)


def batches(subject: Subject) -> Iterator[CheckLine]:
    """Yield the contract of `check_encoder`, and how far rows of each batch are from the rows of waveforms alone."""
    waves = contract_waveforms(subject.encoder)
    alone = encode_alone(subject.encoder, waves)
    yield CheckLine("contract", None, None, True, "shapes, types, finite values")
    worst: dict[tuple[str, float], float] = {}
    for moved in distances_in_batches(subject.encoder, waves, alone):
        group = (f"{'frames' if moved.view.startswith('frames') else 'batch'}: {moved.batch}", moved.allowed)
        worst[group] = float(np.maximum(worst.get(group, 0.0), moved.distance))  # NaN stays
    units = {TOLERANCE: DIFFERENCE, RELATIVE_TOLERANCE: DISTANCE}
    for (name, allowed), distance in sorted(worst.items()):
        yield CheckLine.within(name, distance, allowed, units[allowed])


def layers(subject: Subject) -> Iterator[CheckLine]:
    """Yield how far each layer is from that of transformers' own forward pass in float32, clip by clip."""
    if subject.reference is None:
        yield CheckLine.skipped("layers", "no checkpoint of transformers to compare with")
        return
    got = subject.layers
    plain = HuggingFaceEncoder.of(subject.reference, subject.device)
    rows = [np.asarray(plain.encode([wave], ["layers"])["layers"]) for wave in subject.waves]
    wanted = np.concatenate(rows)
    for layer in range(subject.encoder.info.n_layers):
        yield _compared(f"layer {layer}", got[:, layer], wanted[:, layer], subject.encoder.info.precision)


STEPS: Mapping[str, Step] = {
    "memory": memory,
    "speed": speed,
    "two runs": two_runs,
    "contract": batches,
    "layers": layers,
}


def largest_turn(got: Floats, wanted: Floats) -> float:
    """Return the largest 1 - cosine between the vectors of two (…, dim) arrays; equal vectors have 0, also of zeros."""
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    equal = (a == b).all(axis=-1).astype(np.float64)
    cosine = np.divide((a * b).sum(axis=-1), lengths, out=equal, where=lengths != 0)
    return float(np.maximum(1 - cosine.min(), 0.0))


def _compared(name: str, got: Floats, wanted: Floats, precision: str) -> CheckLine:
    if precision == "fp32":
        return CheckLine.within(name, largest_difference(got, wanted), TOLERANCE, DIFFERENCE)
    return CheckLine.within(name, largest_turn(got, wanted), TURN, COSINE)


def _no_limit(subject: Subject) -> str:
    """Return why the work of an encoder cannot be compared with matrix products; empty if it can."""
    precision = subject.encoder.info.precision
    if subject.engine != PACKED:
        return "operations are counted for the packed engine alone"
    return "" if is_fast(subject.device.type, precision) else f"this processor has no {precision} instructions"


def _operations(subject: Subject) -> float:
    """Return the additions and multiplications of the network for all packs."""
    if subject.reference is None:
        return 0.0
    config = subject.reference.model.config
    return sum(operations(config, len(wave)) for pack in subject.packs for wave in pack)
