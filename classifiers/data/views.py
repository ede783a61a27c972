"""Views as heads read them: one row of numbers a clip, out of what a store holds.

Time means and deviations may be joined: `layers+std` is the means of all layers, then their deviations. `frames` is the
last layer's frames, `frames:N` layer N's, `frames:all` those of every layer that is stored. A clip of another length is
fitted to one number of frames: cut at both ends, or followed by NaN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from embedcache import DataError
from embedcache.encoder import FRAMES, Frames, Rows, is_ragged

from .memmap import Floats

VECTORS = ("pooled", "layers", "std")  # that have one row a clip

# What each part of a view is, for people.
ABOUT = {
    "pooled": "one vector a clip, of a network the mean over time of its last layer",
    "layers": "the means over time of all layers, first to last",
    "std": "the standard deviations over time of all layers, first to last",
    FRAMES: "the frames of the last layer",
    f"{FRAMES}:all": "the frames of all layers, first to last",
}

RAGGED = re.compile(rf"{FRAMES}(:(\d+|all))?", re.ASCII)

# Frames that a clip is fitted to, by encoder: the inputs of two systems with 2-D networks, (30, 216) of MFCC and
# (124, 768) of wav2vec2, which is 2.5 s at 50 frames a second.
N_FRAMES = {"mfcc": 216}
OTHERS = 124


# Numbers that a clip may have when its layers are mixed: 54 s of 768 dimensions at 50 frames a second. The CNN makes 32
# of each, 0.3 GB in all, more than once, and a model folder from a stranger must not take more memory than that.
MOST_NUMBERS = 2**21


def check_view(view: str) -> None:
    """Raises DataError for what is no view."""
    names = view.split("+")
    ragged = all(RAGGED.fullmatch(name) for name in names)
    if not (ragged or set(names) <= set(VECTORS)) or len(set(names)) < len(names):
        have = f"{', '.join(VECTORS)}, joined by +, or {FRAMES}, {FRAMES}:N, {FRAMES}:all"
        raise DataError(f"got the view '{view}'; wanted {have}.")


def about_view(view: str, n_frames: int = 1) -> str:
    """What the numbers of one row are, in order, for people."""
    parts = view.split("+")
    said = ", then ".join(ABOUT.get(part) or f"the frames of layer {part.partition(':')[2]}" for part in parts)
    if not is_ragged(view):
        return f"{said}."
    return (
        f"{said}, in order of time; layer 0 is the first. A clip has {n_frames} frames in each layer: of a longer one "
        "they are the middle, (frames - wanted) // 2 left out in front; a shorter one is followed by NaN. Values are "
        "rounded to float16 first, as they are stored."
    )


def layers_in(parts: Sequence[str], n_layers: int) -> int:
    """How many blocks of equal width one row of these stored views has."""
    return sum(n_layers if part in ("layers", "std") else 1 for part in parts)


def rows_of(batch: Mapping[str, Rows], parts: Sequence[str], n_frames: int) -> Floats:
    """(n, layers * frames * dim): stored views side by side, layers outermost, frames fitted to `n_frames`."""
    columns = [fitted(rows, n_frames) if isinstance(rows := batch[part], Frames) else rows for part in parts]
    return np.concatenate([column.reshape(len(column), -1) for column in columns], axis=1)


def fitted(frames: Frames, n_frames: int) -> Floats:
    """(n, n_frames, dim) float32: the middle of longer clips; NaN after shorter ones."""
    X = np.full((len(frames), n_frames, frames.values.shape[1]), np.nan, dtype=np.float32)
    for row, clip in zip(X, frames, strict=True):
        begin = max(0, (len(clip) - n_frames) // 2)
        row[: len(clip)] = clip[begin : begin + n_frames]
    return X
