"""Clip and Manifest: what there is to embed and what it is labelled, as a CSV that any tool can read.

Columns: `dataset, clip_id, path, label, speaker, gender, key, seconds`, then whatever else a dataset knows (`text`,
`intensity`, …). `key` (SHA-256 of the file's bytes) is what ties a row to its vectors in a store.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from .errors import DataError, complain
from .files.atomic import atomic_write
from .files.untrusted import check_file

# What is read of a CSV: a run of 7,000 clips, ten seeds, five heads and eight encoders has 3 million rows, 0.4 GB.
MOST_BYTES, MOST_ROWS = 1 << 29, 4_000_000
LONGEST_CELL = 8192  # characters: a path may have 4096, a minute of speech some 1,000; numpy makes all as wide as one
SKIPPED = "skipped"  # the extra column that says why a clip has no vector
COPY_OF = "copy_of"  # the extra column of a transformed copy: the key of its clip
KNOWN_FAULT = "known fault"  # how the reason begins where the dataset's own register gives it
COLUMNS = ("dataset", "clip_id", "path", "label", "speaker", "gender", "key", "seconds")


@dataclass(frozen=True)
class Clip:
    """One audio file of one dataset."""

    dataset: str
    clip_id: str  # unique inside its dataset
    path: str
    label: str  # the emotion word, as the dataset spells it
    speaker: str
    gender: str = ""  # "female", "male" or ""
    extra: Mapping[str, str] = field(default_factory=dict)  # text, intensity, session, …
    key: str = ""  # SHA-256 of the file's bytes, "" until it was read
    seconds: float = 0.0  # 0 until it was read


@dataclass(frozen=True)
class Manifest:
    """The ordered clips of one dataset."""

    dataset: str
    clips: tuple[Clip, ...]

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def labels(self) -> tuple[str, ...]:
        """The distinct labels, sorted."""
        return tuple(sorted({clip.label for clip in self.clips}))

    @property
    def speakers(self) -> tuple[str, ...]:
        """The distinct speakers, sorted."""
        return tuple(sorted({clip.speaker for clip in self.clips}))

    @property
    def keys(self) -> tuple[str, ...]:
        """The content key of every clip, in order."""
        return tuple(clip.key for clip in self.clips)

    @property
    def usable(self) -> tuple[Clip, ...]:
        """The clips that can have a vector."""
        return tuple(clip for clip in self.clips if SKIPPED not in clip.extra)

    @property
    def skipped(self) -> tuple[Clip, ...]:
        """The clips that were set aside; each says why in `extra["skipped"]`."""
        return tuple(clip for clip in self.clips if SKIPPED in clip.extra)

    def check(self) -> Manifest:
        """Itself, or DataError with every complaint at once: no clips, a repeated id, no label, no speaker.

        A dataset's name becomes part of file names, so one that climbs out of their folder is refused, too.
        """
        if not self.clips:
            raise DataError(f"manifest '{self.dataset}' lists no clips.")
        if self.dataset == ".." or set(self.dataset) & set("/\\\0"):
            raise DataError(f"a manifest names the dataset {self.dataset!r}; wanted a name without / and \\.")
        times = Counter(clip.clip_id for clip in self.clips)
        complaints = [f"{clip_id}: listed {n} times" for clip_id, n in times.items() if n > 1]
        for column in ("label", "speaker", "clip_id", "path"):
            complaints += [
                f"{clip.clip_id or clip.path}: no {column}" for clip in self.clips if not getattr(clip, column)
            ]
        if complaints:
            raise DataError(
                complain(f"manifest '{self.dataset}' has faults", complaints, "Mend those rows and try again.")
            )
        return self

    def to_csv(self, path: str | Path) -> None:
        """Write all rows, completely or not at all."""
        extras = sorted({name for clip in self.clips for name in clip.extra})
        with atomic_write(Path(path)) as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, *extras])
            for clip in self.clips:
                known = [str(getattr(clip, column)) for column in COLUMNS]
                writer.writerow(known + [clip.extra.get(name, "") for name in extras])

    @classmethod
    def from_csv(cls, path: str | Path) -> Manifest:
        """Read what `to_csv` wrote. Raises DataError for a file that is not a manifest."""
        path = Path(path)
        clips = tuple(_clip(row, path) for row in read_rows(path, COLUMNS))
        named = sorted({clip.dataset for clip in clips})
        if len(named) > 1:
            raise DataError(f"{path}: names several datasets: {', '.join(named)}; wanted one a file.")
        return cls(named[0] if named else path.stem, clips).check()

    def succeed(self, old: Manifest) -> Manifest:
        """Itself, with what an earlier manifest of these recordings knows: the clips that an encoder had to skip.

        They stay out for all encoders, so that these are compared on equal clips. Raises DataError where the earlier
        manifest lists other recordings under the same name.
        """
        if self.dataset.startswith("folder-") and {c.path for c in self.clips}.isdisjoint(c.path for c in old.clips):
            raise DataError(
                f"'{self.dataset}' is the name of other recordings already ({old.clips[0].path}). Rename this folder "
                "or CSV, choose another --artifacts, or remove that manifest if they have moved."
            )
        reasons = {(c.clip_id, c.key): c.extra[SKIPPED] for c in old.skipped}
        skipped = {clip: reason for clip, reason in reasons.items() if not reason.startswith(KNOWN_FAULT)}
        return Manifest(self.dataset, tuple(_skip(clip, skipped.get((clip.clip_id, clip.key))) for clip in self.clips))


def read_rows(path: Path, wanted: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV file that has at least the columns `wanted`. Raises DataError where it has not.

    Of a row that is cut short, the wanted columns are there and empty; others it lacks.
    """
    wanted = tuple(wanted)
    check_file(path, MOST_BYTES, DataError)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            have = next(reader, [])
            if lacking := [column for column in wanted if column not in have]:
                held = ", ".join(have)[:LONGEST_CELL] or "nothing"
                raise DataError(f"{path}: no column {', '.join(lacking)}; its first line holds {held}.")
            rows = [_row(have, wanted, cells) for cells in islice(reader, MOST_ROWS + 1) if cells]
    except (OSError, ValueError, csv.Error) as error:  # ValueError: no UTF-8, or a cell that is too long
        raise DataError(f"{path}: cannot be read as CSV: {error}.") from error
    if len(rows) > MOST_ROWS:
        raise DataError(f"{path}: has more than {MOST_ROWS:,} rows. Split it.")
    return rows


def _row(have: Sequence[str], wanted: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if (longest := max(map(len, cells))) > LONGEST_CELL:
        raise ValueError(f"a cell has {longest:,} characters, at most {LONGEST_CELL:,} are read")
    given = {name: cell for name, cell in zip(have, cells, strict=False) if name}
    return dict.fromkeys(wanted, "") | given


def _skip(clip: Clip, reason: str | None) -> Clip:
    return replace(clip, extra={SKIPPED: reason, **clip.extra}) if reason else clip


def _clip(row: dict[str, str], path: Path) -> Clip:
    extra = {name: value for name, value in row.items() if name not in COLUMNS and value}
    try:
        seconds = float(row["seconds"] or 0)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{path}: clip {row['clip_id']}: seconds is '{row['seconds']}', no number of seconds.")
    named = {column: row[column] for column in COLUMNS if column != "seconds"}
    named["key"] = named["key"].lower()  # one spelling of a digit
    return Clip(**named, seconds=seconds, extra=extra)
