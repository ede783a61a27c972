"""Views as heads read them: one row of values per clip, built from the views that a store holds.

Views with one row per clip can be joined: `layers+std` is the means over time of all layers, then their standard
deviations. `frames` is the frames of the last layer, `frames:N` those of layer N, and `frames:all` those of every
stored layer. All clips get the same number of frames: a longer clip keeps its middle, a shorter clip is followed by
NaN.

The views of several encoders can stand side by side in one row, if they have one row per clip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from embedcache import DataError
from embedcache.encoder import FRAMES, Frames, Rows, is_ragged

from .memmap import Floats

VECTORS = ("pooled", "layers", "std")  # views with one row per clip, whatever its length

# Descriptions of the parts of a view, for model cards.
ABOUT = {
    "pooled": "one vector per clip, for a neural encoder the mean over time of its last layer",
    "layers": "the means over time of all layers, first to last",
    "std": "the standard deviations over time of all layers, first to last",
    FRAMES: "the frames of the last layer",
    f"{FRAMES}:all": "the frames of all layers, first to last",
}

RAGGED = re.compile(rf"{FRAMES}(:(\d+|all))?", re.ASCII)

# The default number of frames per clip, by encoder. Two come from published systems with 2-D networks, whose inputs
# are (30, 216) for MFCC and (124, 768) for wav2vec2; 124 frames are 2.5 s at 50 frames a second. `functionals` has 100
# frames a second, of speech alone: 3 s.
N_FRAMES = {"mfcc": 216, "functionals": 300}
DEFAULT_N_FRAMES = 124  # for all other encoders

# The maximum number of values (frames * dim) of a clip in one layer: 54 s of 768 dimensions at 50 frames a second. The
# CNN computes 32 channels from each value, 0.3 GB in all, more than once, and a model folder from an untrusted source
# must not be able to take more memory than that.
MAX_VALUES_PER_LAYER = 2**21


def check_view(view: str) -> None:
    """Raise DataError unless heads can read a view of this name."""
    names = view.split("+")
    ragged = all(RAGGED.fullmatch(name) for name in names)
    if not (ragged or set(names) <= set(VECTORS)) or len(set(names)) < len(names):
        wanted = f"{', '.join(VECTORS)}, joined by +, or {FRAMES}, {FRAMES}:N, {FRAMES}:all"
        raise DataError(f"got the view '{view}'; wanted {wanted}.")


def check_joinable(view: str, encoders: str) -> None:
    """Raise DataError unless the views of several encoders, named in `encoders`, can stand side by side in one row."""
    if is_ragged(view) or view == "layers":
        raise DataError(
            f"got the view '{view}' of {encoders}; wanted pooled, std, or views joined by +, such as layers+std. The "
            "frames or layers of two encoders differ in number and size, so no head can read them side by side."
        )


def about_view(view: str, n_frames: int = 1, encoders: Sequence[str] = ()) -> str:
    """Return a description, for people, of the values in one row of a view and of their order.

    `encoders` are the names of encoders whose views stand side by side.
    """
    parts = view.split("+")
    description = ", then ".join(ABOUT.get(part) or f"the frames of layer {part.partition(':')[2]}" for part in parts)
    if not is_ragged(view):
        return f"{description}." + (f" First those of {', then those of '.join(encoders)}." if encoders[1:] else "")
    return (
        f"{description}, in order of time; layer 0 is the first. A clip has {n_frames} frames in each layer: a longer "
        f"clip keeps its middle, without its first (frames - {n_frames}) // 2 frames; a shorter clip is followed by "
        "NaN. Values are first rounded to float16, as they are in the store."
    )


def layers_in(parts: Sequence[str], n_layers: int) -> int:
    """Return the number of blocks of equal width in one row of stored views, for an encoder with `n_layers` layers.

    With `n_layers` = 13, `layers` and `std` have 13 blocks each, every other stored view has one: ["layers", "std"] has
    26, and ["frames:0", "frames:2"] has 2.
    """
    return sum(n_layers if part in ("layers", "std") else 1 for part in parts)


def rows_of(batch: Mapping[str, Rows], parts: Sequence[str], n_frames: int) -> Floats:
    """Return the stored views `parts` of one encoder side by side: (n, layers * frames * dim), layers outermost.

    Views of frames are cropped or padded to `n_frames` frames per clip. For example, with `n_frames` = 2 and dim = 1, a
    clip with the frames [1, 2, 3, 4] in "frames:0" and [5, 6, 7, 8] in "frames:2" becomes the row [2, 3, 6, 7]: the
    middle two frames of the first view, then those of the second. A clip with the single frames [1] and [5] becomes
    [1, NaN, 5, NaN].
    """
    return joined_rows([batch], parts, n_frames)


def joined_rows(batches: Sequence[Mapping[str, Rows]], parts: Sequence[str], n_frames: int) -> Floats:
    """Return the stored views `parts` of several encoders side by side: all views of the first encoder come first.

    Each batch holds the views of one encoder, as `rows_of` reads them, for the same clips in the same order.
    """
    views = [batch[part] for batch in batches for part in parts]
    columns = [crop_or_pad(rows, n_frames) if isinstance(rows, Frames) else rows for rows in views]
    return np.concatenate([column.reshape(len(column), -1) for column in columns], axis=1)


def crop_or_pad(frames: Frames, n_frames: int) -> Floats:
    """Return (n, n_frames, dim) float32: the middle of longer clips; shorter clips followed by NaN.

    With `n_frames` = 3, a clip of the frames 0 to 5 starts at frame (6 - 3) // 2 = 1 and keeps the frames 1, 2 and 3.
    """
    X = np.full((len(frames), n_frames, frames.values.shape[1]), np.nan, dtype=np.float32)
    for row, clip in zip(X, frames, strict=True):
        begin = max(0, (len(clip) - n_frames) // 2)
        row[: len(clip)] = clip[begin : begin + n_frames]
    return X
