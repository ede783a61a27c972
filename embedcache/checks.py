"""Contracts that every adapter and encoder keeps, as functions that third parties run on their own.

    check_encoder(load_encoder("my-encoder"))
    check_dataset(my_dataset, "/some/small/tree")

Each returns nothing, or raises SerError that says what was got and what was wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .audio import Waveform
from .dataset import Dataset
from .encoder import VIEWS, Encoder, EncoderInfo
from .errors import DataError, EncoderError

TOLERANCE = 1e-5  # absolute, float32, by which a vector may move with its batch


def check_encoder(encoder: Encoder, tolerance: float = TOLERANCE) -> None:
    """Shapes, dtype, finiteness, repeatability, and that no vector depends on what else is encoded with it.

    Vectors are compared alone, in pairs, reversed, beside silence and beside a clip many times as long.
    """
    info, waves = encoder.info, _waves(encoder)
    alone = [encoder.encode([wave], VIEWS) for wave in waves]
    for batch in alone:
        _check_shapes(info, batch["pooled"], batch["layers"])
    if info.fingerprint != replace(info, name="other", checkpoint="elsewhere").fingerprint:
        raise EncoderError(f"{info.name}: its fingerprint depends on its name; wanted one of what decides the numbers.")
    for order in ([0, 0], [0, 1], [1, 0], [2, 1, 0], [3, 0], [0, 4], [4, 3, 2, 1, 0]):
        together = encoder.encode([waves[i] for i in order], VIEWS)
        for view in VIEWS:
            wanted = np.concatenate([alone[i][view] for i in order])
            moved = float(np.abs(together[view] - wanted).max())
            if moved > tolerance:
                raise EncoderError(
                    f"{info.name}: '{view}' moves by {moved:.1e} in the batch {order}; wanted at most {tolerance:.0e}."
                )


def check_dataset(dataset: Dataset, root: str | Path) -> None:
    """The facts are there, and a tree gives clips with ids, labels that the dataset knows, and speakers."""
    for fact in ("name", "title", "licence", "source", "layout"):
        if not getattr(dataset, fact):
            raise DataError(f"dataset '{dataset.name}': no {fact}; wanted a sentence for people.")
    manifest = dataset.manifest(root).check()
    if unknown := set(manifest.labels) - set(dataset.labels or manifest.labels):
        raise DataError(f"dataset '{dataset.name}': labels {sorted(unknown)} are not in its table {dataset.labels}.")
    if len({clip.dataset for clip in manifest.clips}) != 1:
        raise DataError(f"dataset '{dataset.name}': its clips name several datasets; wanted one.")
    if absent := [clip.path for clip in manifest.clips if not Path(clip.path).is_file()]:
        raise DataError(f"dataset '{dataset.name}': {absent[0]} is in the manifest and not on disk.")
    tested = [speaker for fold in dataset.official_folds for speaker in fold]
    if len(tested) != len(set(tested)):
        raise DataError(f"dataset '{dataset.name}': a speaker is tested in two official folds; wanted one each.")


def _waves(encoder: Encoder) -> Sequence[Waveform]:
    """Noise of three lengths, silence, and a long clip."""
    rng = np.random.default_rng(0)
    rate = encoder.info.sample_rate
    lengths = [int(rate * seconds) for seconds in (0.6, 0.61, 0.9)]
    noise = [
        rng.standard_normal(n).astype(np.float32) * level for n, level in zip(lengths, (0.1, 1, 0.01), strict=True)
    ]
    long = rng.standard_normal(int(rate * min(8.0, encoder.longest))).astype(np.float32)
    return [*noise, np.zeros(rate // 2, np.float32), long]


def _check_shapes(info: EncoderInfo, pooled: object, layers: object) -> None:
    for view, rows, shape in (
        ("pooled", pooled, (1, info.dim)),
        ("layers", layers, (1, info.n_layers, info.dim)),
    ):
        got = np.asarray(rows)
        if got.shape != shape or got.dtype != np.float32:
            raise EncoderError(f"{info.name}: '{view}' is {got.dtype} {got.shape}; wanted float32 {shape}.")
        if not np.isfinite(got).all():
            raise EncoderError(f"{info.name}: '{view}' is not finite.")
    if not np.allclose(np.asarray(pooled), np.asarray(layers)[:, -1], atol=TOLERANCE):
        raise EncoderError(f"{info.name}: 'pooled' is not the last of 'layers'.")
