"""What an exported ONNX file says about itself: labels, scores, and how sound is prepared for it.

The texts are in the `metadata_props` of the files, and in `model.json` for runtimes that do not show these. Each key is
described in docs/how-to/onnx.md.
"""

from __future__ import annotations

import json
from typing import Any

from embedcache import Encoder, __version__

from ..inference.input_checks import AUDIBLE, FRAME, MIN_AUDIBLE
from ..saved.model_folder import ModelCard

VERSION = 1  # number that increases when the meaning of a key changes
# The low-pass filter of soxr's quality VHQ, which `ser predict` resamples with: a sinc in a Kaiser window. The numbers
# were fitted to soxr's response to single samples, from 48 to 16 kHz, from which the formula differs by 2e-9 of the
# peak. From rates that soxr resamples in several steps, such as 44.1, 96 and 8 kHz, it differs by at most 1.3e-4.
RESAMPLER = {
    "resampler": "sinc in a Kaiser window, as soxr VHQ",
    "resampler_cutoff": "0.95566416",  # of half the lower sample rate
    "resampler_beta": "18.43349606",  # of the Kaiser window
    "resampler_half_width": "132.8333",  # of the Kaiser window, in samples at the lower sample rate
}
SCORES = ("uar", "war", "macro_f1", "ece")
# What `ser predict` does around the two networks, so that no ONNX file does it.
NOT_IN_FILE = (
    "Decoding of files, the mean of the channels, and resampling: see channel, scaling, sample_rate, resampler.",
    "No label and equal probabilities for silence and clicks: see silence_below_db. The file takes them for speech.",
    "Probabilities that are less sure for a sound unlike the training clips: mix them by what distance.onnx gives.",
    "No label below a confidence that the user chooses: --abstain-below.",
    "Errors for clips that are too short or too long, and for samples that are NaN or no sound.",
    "Notes on clips that are short, long, narrow-band, quiet or loud, or whose channels differ.",
    "Cutting of long recordings into windows: --window and --hop.",
)


def describe(card: ModelCard, encoder: Encoder | None) -> dict[str, str]:
    """Return the metadata of the files of an export, key -> text. Values that are no text are JSON.

    `encoder` is that of encoder.onnx, or None if the head is exported alone.
    """
    values = {
        "metadata_version": str(VERSION),
        "ser_version": __version__,
        "labels": _json(card.labels),
        "head": card.head,
        "calibration": _calibration(card),
        "encoder": card.encoder,
        "encoder_fingerprint": card.fingerprint,
        "view": card.view,
        "n_frames": str(card.n_frames),
        "dataset": card.dataset,
        "protocol": str(card.protocol.get("name", "")),
        "scores": _json({name: _score(card.scores[name]) for name in SCORES if name in card.scores}),
        "not_in_file": _json(NOT_IN_FILE),
    }
    return values | _front_end(card) | (_lengths(encoder) if encoder else {})


def _front_end(card: ModelCard) -> dict[str, str]:
    """Return how sound is prepared; nothing for imported vectors, of whose sound nothing is known."""
    info = card.encoder_infos[0]
    if not info.get("sample_rate"):
        return {}
    return {
        "sample_rate": str(info["sample_rate"]),
        "channel": card.channel or "mean",
        "scaling": "[-1, 1]",
        "normalisation": "none",
        **RESAMPLER,
        "preprocessing": str(info.get("preprocessing", "")),
        "silence_frame_seconds": f"{FRAME:g}",
        "silence_below_db": f"{AUDIBLE:g}",
        "silence_least_seconds": f"{MIN_AUDIBLE:g}",
    }


def _lengths(encoder: Encoder) -> dict[str, str]:
    rate = encoder.info.sample_rate
    return {
        "shortest_samples": str(round(encoder.shortest * rate)),
        "longest_samples": str(round(encoder.longest * rate)),
    }


def _calibration(card: ModelCard) -> str:
    """Return the temperature, by which head.onnx divides already, or `none`."""
    temperature = card.fitting.get("calibrated", {}).get("temperature")
    return "none" if temperature is None else f"temperature {temperature:.6g}, applied in head.onnx"


def _score(score: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in score.items() if name != "about"}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
