"""What `ser encoders` lists: the encoders, what published checkpoints saw, or the names of an encoder's numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from . import all as every
from . import contamination, feature_names

PACKED, TRANSFORMERS = "packed", "transformers"  # engines
OWN = "its own"  # engine of an encoder that is no checkpoint
# Families of networks by the engine that computes them: the `model_type` in config.json, and names that people use.
ENGINES: Mapping[str, Mapping[str, str]] = {
    PACKED: {
        "wav2vec2": "wav2vec 2.0 (also XLS-R, MMS)",
        "hubert": "HuBERT (also DistilHuBERT)",
        "wavlm": "WavLM",
        "unispeech": "UniSpeech",
        "unispeech-sat": "UniSpeech-SAT",
        "data2vec-audio": "data2vec-audio",
    },
    TRANSFORMERS: {
        "wav2vec2-bert": "w2v-BERT 2.0",
        "wav2vec2-conformer": "wav2vec 2.0 Conformer",
        "whisper": "the encoder of Whisper",
        "audio-spectrogram-transformer": "AST",
        "sew": "SEW",
        "sew-d": "SEW-D",
    },
}
COLUMNS = ("name", "checkpoint", "licence", "emotional speech", "engine", "about")

Table = tuple[Sequence[str], Iterable[Sequence[str]]]  # columns, rows


def list_encoders() -> Table:
    """Return the encoders, those of other packages included."""
    rows = (
        (e.name, e.checkpoint, e.licence, contamination.saw(e.checkpoint), engine_of(e.family), e.about)
        for e in every()
    )
    return COLUMNS, rows


def list_published() -> Table:
    """Return what published checkpoints were trained on."""
    return contamination.COLUMNS, contamination.rows()


def list_features(name: str) -> Table:
    """Return the names of the numbers of an encoder. Raises UnknownName, or EncoderError if they have none."""
    return ("number", "name"), ((str(n), feature) for n, feature in enumerate(feature_names(name)))


def engine_of(family: str) -> str:
    """Return the engine that computes a family of networks."""
    return next((engine for engine, families in ENGINES.items() if family in families), OWN)


def families_text() -> str:
    """Return the families whose checkpoints are encoders, by engine, in lines of at most 79 characters."""
    lines = [f"{engine} engine: {', '.join(families.values())}" for engine, families in ENGINES.items()]
    wrapped = [
        textwrap.fill(line, 79, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False) for line in lines
    ]
    return "\n".join(["Any checkpoint of these families is an encoder, too, by its folder or hub id:", *wrapped])
