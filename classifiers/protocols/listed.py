"""The protocol `listed`: a fold list is matched to a task and checked, and gives the folds of each seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from embedcache import DataError, Manifest
from embedcache.errors import complain
from embedcache.exchange.matching import match_clips
from embedcache.manifest import Clip
from embedcache.text import count, examples, normal_name, quoted

from ..data.task import Strings, Task
from .catalogue import check_folds
from .fold import Fold, Indices
from .fold_list import CLIP, DEV, LISTED, FoldList, ListedRow, in_order
from .requirements import check_two_labels
from .sharing import shared_values

RowsByName = Mapping[str, Sequence[int]]  # name in a fold list -> rows of its clips in the task


def listed_splits(task: Task, listing: FoldList, clips: Sequence[Clip] = ()) -> list[list[Fold]]:
    """Return the folds of each seed of a list, in order of their names.

    `clips` are those of the dataset, with the names that the task gives them; also those that have no embedding or that
    the label view leaves out, because these may be listed. By default, they are the clips of the task.

    Raises DataError if the list names clips that do not exist, lacks clips, has a clip twice, gives a clip another
    speaker, or has other numbers of folds for other seeds; ProtocolError if `check_folds` does.
    """
    check_two_labels(task)
    rows_of = _match(task, listing, clips or _clips_of(task))
    if complaints := list(_complaints(task, listing, rows_of)):
        advice = (
            f"Correct the list: each {listing.kind} is in one row, for each seed. `ser protocols --write FILE` writes "
            "such a list."
        )
        raise DataError(*complain(f"{listing.source}: is no list of folds of {task.dataset}", complaints, advice))
    splits = [_folds(task, rows, rows_of) for rows in _by_seed(listing).values()]
    if alone := [fold.name for folds in splits for fold in folds if not len(fold.train)]:
        raise DataError(
            f"{listing.source}: the fold {alone[0]} leaves no clip to train on; wanted two or more folds, or clips "
            "whose cell fold is empty, which are always trained on."
        )
    numbers = [f"{len(folds)} (seed {seed})" for seed, folds in zip(listing.seeds, splits, strict=True)]
    if len({len(folds) for folds in splits}) > 1:
        raise DataError(
            f"{listing.source}: the seeds have different numbers of folds: {examples(numbers)}; wanted the same number "
            "for each seed. Correct the list, or give each seed a file of its own."
        )
    for folds in splits:
        check_folds(task, folds, LISTED)
    return splits


def listing_notes(task: Task, listing: FoldList, splits: Sequence[Sequence[Fold]]) -> list[str]:
    """Return a sentence for what a list leaves to training, for shared speakers and recordings, and for its seeds."""
    notes = []
    folds = [fold for split in splits for fold in split]
    tested = np.unique(np.concatenate([fold.test for fold in folds]))
    if chosen_by := len(folds[0].dev):
        notes.append(f"{count(chosen_by, 'clip')} of {len(task)} are development clips, which no head is trained on")
    if trained := len(task) - len(tested) - chosen_by:
        notes.append(f"{count(trained, 'clip')} of {len(task)} are in no fold, and are trained on in every fold")
    if speakers := _shared(task.speakers, folds):
        who = f"{count(len(speakers), 'speaker')} ({examples(speakers)})"
        notes.append(f"training and test clips share {who}: the rows have the leak speaker")
    if task.keys is not None and (keys := _shared(task.keys, folds)):
        twins = task.ids[task.keys == keys[0]].tolist()
        what = f"{count(len(keys), 'recording')}, byte for byte (such as {' = '.join(twins[:2])})"
        notes.append(f"training and test clips share {what}: the rows have the leak audio")
    if listing.seeds not in ([""], list(map(str, range(len(listing.seeds))))):
        notes.append(f"its seeds {examples(listing.seeds)} are the seeds 0, 1, … of the run, in this order")
    return [f"{listing.source}: {note}." for note in notes]


def _clips_of(task: Task) -> list[Clip]:
    """Return the clips of a task, and those that it skips or drops, by their names alone."""
    rows = zip(task.ids.tolist(), task.y.tolist(), task.speakers.tolist(), strict=True)
    clips = [Clip(task.dataset, clip_id, "", label, speaker) for clip_id, label, speaker in rows]
    return clips + [Clip(task.dataset, clip_id, "", "", "") for clip_id in (*task.skipped, *task.dropped)]


def _match(task: Task, listing: FoldList, clips: Sequence[Clip]) -> RowsByName:
    """Return the rows of the clips that each name means; names of clips outside the task have none, others are absent.

    Clips are matched as by `match_clips`, speakers by `normal_name`.
    """
    names = dict.fromkeys(row.name for row in listing.rows)
    if listing.kind == CLIP:
        row_of = {clip_id: row for row, clip_id in enumerate(task.ids.tolist())}
        found = match_clips(names, Manifest(task.dataset, tuple(clips)))
        return {name: [row_of[clip.clip_id]] if clip.clip_id in row_of else [] for name, clip in found.items()}
    rows: dict[str, list[int]] = {normal_name(speaker): [] for speaker in {clip.speaker for clip in clips}}
    forms = {speaker: normal_name(speaker) for speaker in set(task.speakers.tolist())}
    for row, speaker in enumerate(task.speakers.tolist()):
        rows.setdefault(forms[speaker], []).append(row)
    return {name: rows[form] for name in names if (form := normal_name(name)) in rows}


def _complaints(task: Task, listing: FoldList, rows_of: RowsByName) -> Iterator[str]:
    """Yield a line for each kind of fault, with its number of rows or clips and the first of them."""
    kind = listing.kind
    if unknown := [f"{row.where}: {quoted(row.name)}" for row in listing.rows if row.name not in rows_of]:
        known = task.ids if kind == CLIP else task.speakers
        have = f"{'ids' if kind == CLIP else 'names'} here are {examples(sorted(set(known.tolist())), 2)}"
        yield f"{count(len(unknown), 'row')} with a {kind} that is not known, or not one: {examples(unknown)} ({have})"
    if others := list(_other_speakers(task, listing, rows_of)):
        yield f"{count(len(others), 'row')} with another speaker than the dataset: {examples(others)}"
    units = (task.ids if kind == CLIP else task.speakers).tolist()
    for seed, rows in _by_seed(listing).items():
        of_seed = f" of seed {seed}" if seed else ""
        places: dict[str, list[str]] = {unit: [] for unit in units}
        for row in rows:
            for unit in {units[clip] for clip in rows_of.get(row.name, ())}:
                places[unit].append(row.where)
        if several := [f"{unit} ({_both(where)})" for unit, where in places.items() if len(where) > 1]:
            yield f"{count(len(several), kind)} in several rows{of_seed}: {examples(several)}"
        if missing := [unit for unit, where in places.items() if not where]:
            yield f"{count(len(missing), kind)} in no row{of_seed}: {examples(missing)}"


def _both(where: Sequence[str]) -> str:
    return " and ".join(where) if len(where) == 2 else examples(where)


def _other_speakers(task: Task, listing: FoldList, rows_of: RowsByName) -> Iterator[str]:
    """Yield a text for each row that names a clip and another speaker than that of the clip."""
    names = task.speakers if task.own_speakers is None else task.own_speakers
    for row in listing.rows:
        for clip in rows_of.get(row.name, ()) if row.speaker else ():
            right = {normal_name(str(task.speakers[clip])), normal_name(str(names[clip]))}
            if normal_name(row.speaker) not in right:
                yield f"{row.where}: {row.speaker} instead of {task.speakers[clip]}"


def _by_seed(listing: FoldList) -> dict[str, list[ListedRow]]:
    rows: dict[str, list[ListedRow]] = {seed: [] for seed in listing.seeds}
    for row in listing.rows:
        rows[row.seed].append(row)
    return rows


def _folds(task: Task, rows: Sequence[ListedRow], rows_of: RowsByName) -> list[Fold]:
    names = in_order(row.fold for row in rows if row.fold not in ("", DEV))
    number_of = {name: number for number, name in enumerate(names)} | {"": -1, DEV: -2}
    number: Indices = np.full(len(task), -1)
    for row in rows:
        number[list(rows_of[row.name])] = number_of[row.fold]
    dev = np.flatnonzero(number == number_of[DEV])
    is_trained = [(number != n) & (number != number_of[DEV]) for n in range(len(names))]
    return [Fold(name, np.flatnonzero(is_trained[n]), np.flatnonzero(number == n), dev) for n, name in enumerate(names)]


def _shared(column: Strings, folds: Sequence[Fold]) -> list[str]:
    """Return the values of a column (n,) that training and test clips of any fold share."""
    return sorted(set().union(*(shared_values(column, fold) for fold in folds)))
