"""Your own recordings: a tree `<label>/<speaker>_<anything>.wav`, or a table with the columns `path, label, speaker`.

In a tree, the label is the name of a file's folder, and the speaker is the part of the file name before the first
underscore. In a table, paths are relative to the folder of the table and must stay inside this folder, so that an
untrusted table cannot name other files of this machine. Links inside the folder are followed, wherever they lead. The
columns `clip_id`, `gender`, `channel`, `partition`, and `start` and `end` in seconds, are used if present, under any
name in `SYNONYMS`. All other columns are copied to the manifest, except those that are filled later (`dataset`, `key`,
`seconds`, `skipped`, `copy_of`), and except those that seem to be bounds, partitions or folds under an unknown name:
these are an error.

With `start` and `end`, a row is a span of its recording. A recording with spans counts as a session, unless the table
has a column `session`.

Labels that differ only in case or form are one label. The manifest is called `folder-<name of the folder or table>`, so
that two collections have two manifests.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..dataset import Dataset, Scanned, is_audio, parse_files, recognise_dataset, suffix_counts, visible_files
from ..errors import DataError
from ..manifest import (
    Clip,
    with_common_labels,
)
from ..text import count, examples
from ._table import read_clips

LAYOUT = "a tree <label>/<speaker>_<anything>.wav, or a CSV with the columns path, label, speaker"


def scan(root: Path) -> Scanned:
    """Return the clips of a tree or of a table."""
    name = "folder-" + re.sub(r"[^\w.-]+", "-", root.stem if root.is_file() else root.name)
    found = read_clips(root, name) if root.is_file() else Scanned(_read_tree(root, name), _other_files(root))
    clips, notes = with_common_labels(found.clips)
    return Scanned(clips, (*found.notes, *notes))


def _read_tree(root: Path, name: str) -> list[Clip]:
    def parse(path: Path) -> Clip:
        speaker, underscore, _ = path.stem.partition("_")
        if path.parent == root:
            raise ValueError("is not in the folder of a label")
        if not (speaker and underscore):
            raise ValueError("no speaker before an underscore in the file name")
        return Clip(name, path.relative_to(root).as_posix(), str(path), path.parent.name.strip(), speaker.strip())

    if recognise_dataset(root):
        raise DataError(f"{root}: holds another dataset.")  # `Dataset` replaces this message by one that names it
    tables = sorted(path.name for path in root.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    advice = f"Or name the table of the files, if it is one: --root {root / tables[0]}." if tables else ""
    clips = parse_files(root, LAYOUT, parse, videos=True, advice=f"Move or remove these files. {advice}".rstrip())
    _check_levels(root, clips)
    return clips


def _other_files(root: Path) -> tuple[str, ...]:
    """Return a note on the files of a tree that are not audio by their names; nothing if there are none."""
    others = [path for path in visible_files(root) if not is_audio(path, videos=True)]
    if not others:
        return ()
    suffixes = examples(suffix_counts(others), 5)
    return (f"passed over {count(len(others), 'file')} without the name of audio: {suffixes}.",)


def _check_levels(root: Path, clips: Sequence[Clip]) -> None:
    """Raise DataError if folders lie in folders, and it is not plain which are labels and which are speakers."""
    upper = {clip.clip_id: "/".join(clip.clip_id.split("/")[:-2]) for clip in clips}
    folders = set(upper.values())
    under = defaultdict(set)
    for clip in clips:
        under[clip.label].add(upper[clip.clip_id])
        under[f"/{clip.speaker}"].add(upper[clip.clip_id])
    speakers = {clip.speaker for clip in clips}
    labels = {clip.label for clip in clips}
    repeated = len(folders) > 1 and sum(len(under[label]) > 1 for label in labels) > 1
    takes = all(under[f"/{speaker}"] == folders for speaker in speakers)
    if clips and (speakers == labels or (repeated and (takes or len(speakers) == 1))):
        clip = clips[0]
        raise DataError(
            f"{root}: it is not plain what the folders are: is '{clip.label}' the label and '{clip.speaker}' the "
            f"speaker of {clip.clip_id}? Wanted {LAYOUT}. Arrange the files so, or write a table."
        )


dataset = Dataset(
    name="folder",
    title="Recordings of your own",
    licence="yours",
    citation="yours",
    source=LAYOUT,
    layout=LAYOUT,
    scan=scan,
)
