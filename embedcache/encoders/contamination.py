"""What published checkpoints were trained on: which of them have heard the corpora that heads are tested on.

`contamination.csv` has a line for each checkpoint, with the columns

    checkpoint    id on the Hugging Face hub
    saw           corpora of emotional speech in any of its training data, also without labels, joined by `+`: names of
                  datasets where `ser` has them. `none` if the published training data have none; `unknown` if the
                  training data, or a part of them, are not published
    speech        the training data, for people
    source        where this is stated
    note          which labels or parts were used, and doubts

A line holds for all revisions of its checkpoint. A checkpoint that is missing is unknown. Add a line with its source
to correct that.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..encoder import EncoderInfo
from ..files.tables import read_rows
from ..provenance import TrainedOn, whole_corpus
from .hub import without_revision

TABLE = Path(__file__).with_suffix(".csv")
COLUMNS = ("checkpoint", "saw", "speech", "source", "note")
NONE, UNKNOWN = "none", "unknown"


@dataclass(frozen=True)
class Published:
    """A line of the table."""

    checkpoint: str
    saw: tuple[str, ...]  # corpora of emotional speech; () for none
    complete: bool  # whether the training data are published completely
    speech: str
    source: str
    note: str

    @property
    def text(self) -> str:
        """The corpora as one text, such as `none`, `ravdess+tess` or `iemocap+unknown`."""
        return "+".join([*self.saw, *([] if self.complete else [UNKNOWN])]) or NONE


@functools.cache
def published() -> dict[str, Published]:
    """Return the lines of the table by checkpoint."""
    return {row["checkpoint"]: _line(row) for row in read_rows(TABLE, COLUMNS)}


def find_published(checkpoint: str) -> Published | None:
    """Return the line of a checkpoint, or None. All revisions of a hub id have the same line."""
    return published().get(without_revision(checkpoint))


def rows() -> list[tuple[str, ...]]:
    """Return the lines of the table as texts, in the order of COLUMNS."""
    return [(line.checkpoint, line.text, line.speech, line.source, line.note) for line in published().values()]


def saw(checkpoint: str) -> str:
    """Return the corpora of emotional speech that a checkpoint was trained on as one text; `none` for no checkpoint."""
    if not checkpoint:
        return NONE
    line = find_published(checkpoint)
    return line.text if line else UNKNOWN


def known_training(info: EncoderInfo) -> TrainedOn:
    """Return what is known about the training of an encoder that `ser` did not fine-tune.

    The list holds whole corpora, and the mark of unknown clips if not all training data are known: for imported
    vectors, and for checkpoints that are not in the table.
    """
    if not info.is_imported and not info.checkpoint:
        return TrainedOn((), (), ())  # computed without weights, or with random ones
    line = find_published(info.checkpoint)
    corpora = line.saw if line else ()
    return TrainedOn((), tuple(sorted(map(whole_corpus, corpora))), ()).with_unknown(not (line and line.complete))


def _line(row: dict[str, str]) -> Published:
    saw = list(_names(row["saw"]))
    corpora = tuple(name for name in saw if name not in (NONE, UNKNOWN))
    return Published(row["checkpoint"], corpora, UNKNOWN not in saw, row["speech"], row["source"], row["note"])


def _names(text: str) -> Iterator[str]:
    return (name.strip().lower() for name in text.split("+"))
