"""Fold lists: in which fold a clip or a speaker is tested, as a file says, before names are matched to a task."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from embedcache.text import WHOLE_NUMBER, normal_name

LISTED = "listed"  # protocol of folds that a file lists
CLIP, SPEAKER = "clip", "speaker"  # what the rows of a list name
DEV = "dev"  # partition for development, and what a row has as its fold for clips of it


@dataclass(frozen=True)
class ListedRow:
    """A row of a fold list."""

    where: str  # place in the file, such as `row 2`
    name: str  # clip id, path or file name of a clip; or a speaker
    fold: str  # fold in which the clips are tested; in every fold: "" for training clips, DEV for development clips
    seed: str = ""  # "" if the list has no seeds
    speaker: str = ""  # speaker of the clip, if the list names clips and speakers


@dataclass(frozen=True)
class FoldList:
    """The folds that a file lists."""

    source: str  # path of the file
    kind: str  # CLIP or SPEAKER: what the rows name
    rows: tuple[ListedRow, ...]
    notes: tuple[str, ...] = ()  # what was assumed, a sentence each

    @property
    def seeds(self) -> list[str]:
        """The seeds in order; [""] if the list has none."""
        return in_order(row.seed for row in self.rows)


def in_order(names: Iterable[str]) -> list[str]:
    """Return the distinct names of folds or seeds in order; numbers within names count by their value."""
    return sorted(set(names), key=_sort_key)


def common_names(cells: Iterable[str]) -> dict[str, str]:
    """Return cell -> name for the names of folds or seeds, so that `1`, `01` and `1.0` are one name."""
    first: dict[str, str] = {}
    names = {}
    for cell in dict.fromkeys(cells):
        whole = WHOLE_NUMBER.fullmatch(cell)
        names[cell] = first.setdefault(normal_name(cell), whole[1] if whole else cell)
    return names


def _sort_key(name: str) -> tuple[list[tuple[str, int, str]], str]:
    """Return a key that sorts `fold 2` before `fold 10`: each number by its length, without leading zeros."""
    parts = re.split("([0-9]+)", name)
    numbers = [digits.lstrip("0") for digits in parts[1::2]]
    padded = [*numbers, ""]
    return [(text, len(number), number) for text, number in zip(parts[::2], padded, strict=True)], name
