"""What `ser compare` does: load tasks, cross-validate heads on them, write a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from embedcache import Artifacts, ConfigError, DataError, SerError
from embedcache.cache.store import slug
from embedcache.encoder import Log, no_log
from embedcache.files.existing import check_writable
from embedcache.progress import Progress, silent

from ..adaptation.amounts import parse_amounts
from ..adaptation.drawing import drawn_files
from ..adaptation.requirements import unknown_speakers_note
from ..data.labels import NATIVE, Labels, synonyms
from ..data.listed_clips import encoders_of
from ..data.speakers import people_notes
from ..data.stored_vectors import encoders_in
from ..data.task import Task
from ..evaluation.cross_validation import run_folds
from ..evaluation.predictions import Predictions
from ..evaluation.row_texts import without_inner_folds
from ..evaluation.run_folder import new_run_folder, write_run
from ..heads import Head, wrapped
from ..protocols.catalogue import base_name
from ..reporting.figures import save_pictures
from .configurations import ComparisonConfig
from .copy_search import search_copies
from .fold_choice import choose_folds
from .head_choice import chosen_heads, quick_enough, reads_one_vector

OTHER_PLACE = "Make room, or choose another folder with --artifacts or --out."


def run_comparison(
    artifacts: Artifacts,
    config: ComparisonConfig,
    jobs: int | None = None,
    progress: Progress = silent,
    log: Log = no_log,
    cluster: str | None = None,
) -> tuple[Path, list[Predictions]]:
    """Cross-validate every configured head on every configured encoder. Return run folder and predictions.

    Several datasets are trained on together. By default, `datasets` is the only one extracted, `encoders` are all that
    have vectors of every clip, and `heads` are `heads.usual()`. `jobs` is the number of processes, all cores by
    default; with `cluster`, the address of a Ray cluster, fitting runs there. `log` receives notes, a line each.
    Configurations that cannot be run, and a folder that cannot be written, raise a SerError before anything is fitted.
    """
    check_writable(artifacts.runs, SerError, OTHER_PLACE)
    specs = chosen_heads(config.heads, config.views, config.frames)
    if config.tune and (untunable := [spec.name for spec in specs if not spec.space]):
        log(f"note: {', '.join(untunable)}: no parameters to tune.")
    amounts = parse_amounts(config.adapt)
    choice = choose_folds(artifacts, config)
    config = replace(config, protocol=choice.protocol, seeds=choice.seeds)
    work = load_tasks(artifacts, config, wrapped(specs, config.tune, config.calibrate), log)
    work = [(task, quick_enough(some, config.heads, len(task), log)) for task, some in work]
    work = [(task, without_twins(task, some, log)) for task, some in work]
    seeded = dict.fromkeys(spec.name for _, some in work for spec in some if spec.seeded)
    if seeded and config.seeds == 1:
        log(f"note: {', '.join(seeded)}: the scores depend on the random seed; --seeds 3 shows by how much.")
    labels = work[0][0].labels_from
    for line in synonyms(labels) if labels else ():
        log(f"note: {line}.")
    splits = [choice.splits(task) for task, _ in work]
    for line in choice.notes(work[0][0], splits[0]):
        log(f"note: {line}")
    folds = [fold for split in splits[0] for fold in split]
    copies = search_copies(artifacts, config, [task for task, _ in work], folds, log)
    work = [(replace(task, near_copies=copies.pairs), some) for task, some in work]
    predictions = [
        p
        for (task, some), own in zip(work, splits, strict=True)
        for p in run_folds(task, some, own, config.protocol, jobs, progress, cluster, amounts)
    ]
    if any(amount.name for amount in amounts) and (line := unknown_speakers_note(work[0][0], splits[0])):
        log(f"note: {line}.")
    for line in without_inner_folds(predictions):
        log(f"note: {line}.")
    files = {**copies.files(), **choice.files(work[0][0], splits[0]), **drawn_files(work[0][0], splits[0], amounts)}
    return save_run(artifacts, predictions, asdict(config), labels, jobs, files), predictions


def without_twins(task: Task, specs: Sequence[Head], log: Log) -> list[Head]:
    """Return the heads without those that equal another of them on this task, and `log` a note for each left out.

    With one layer, `best_layer` is `logreg`, for example. It stays if `logreg` is not among the heads.
    """
    names = {spec.name for spec in specs}
    kept = []
    for spec in specs:
        twin = spec.same_with_one_layer
        if twin in names and task.to_view(spec.view).n_layers == 1:
            log(
                f"note: {spec.name} is the same as {twin} where the encoder has one layer, as {task.encoder} has; "
                "it is run once."
            )
        else:
            kept.append(spec)
    return kept


def load_tasks(
    artifacts: Artifacts, config: ComparisonConfig, specs: Sequence[Head], log: Log
) -> list[tuple[Task, list[Head]]]:
    """A task for each encoder and each view that heads read, with the heads that read it.

    By default, the encoders are all that have vectors of every clip; `log` receives a line for each that has only some,
    and a line if speakers with several names count as one person. Encoders that are joined, as `a+b`, are read by heads
    of one vector per clip alone; `log` receives a line if heads of the default are left out.
    """
    encoders: Sequence[str | None] = config.encoders
    if not encoders:
        encoders, notes = encoders_of(artifacts, config.datasets, config.copies, list(_heads_by_view(specs)))
        for line in notes:
            log(f"note: {line}.")
    named = list(dict.fromkeys(encoders or (None,)))
    by_encoder = {encoder: readers(artifacts, config, encoder, specs, log) for encoder in named}
    wanted = [(encoder, *pair) for encoder, some in by_encoder.items() for pair in _heads_by_view(some).items()]
    loaded = [(load_task(artifacts, config, encoder, view), some) for encoder, view, some in wanted]
    work = {(task.encoder, view): (task, some) for (task, some), (_, view, _) in zip(loaded, wanted, strict=True)}
    tasks = on_common_clips([task for task, _ in work.values()], log)
    log_people(tasks[0], log)
    return [(task, some) for task, (_, some) in zip(tasks, work.values(), strict=True)]


def readers(
    artifacts: Artifacts, config: ComparisonConfig, encoder: str | None, specs: Sequence[Head], log: Log
) -> Sequence[Head]:
    """Return the heads that can read an encoder: all, or for encoders that are joined those of one vector per clip.

    `log` receives a line if others are left out. Raises ConfigError if the configuration names these others.
    """
    others = [] if len(encoders_in(artifacts, encoder)) == 1 else [s for s in specs if not reads_one_vector(s)]
    if others and config.heads:
        raise ConfigError(
            f"got --encoder {encoder} and the heads {', '.join(spec.name for spec in others)}; wanted heads that read "
            "one vector a clip, because encoders that are joined have no common layers or frames. `ser heads` lists "
            "what each head reads."
        )
    if others:
        names = ", ".join(spec.name for spec in others)
        log(f"note: {names}: left out for {encoder}, because encoders that are joined have no common layers.")
    return [spec for spec in specs if spec not in others]


def on_common_clips(tasks: Sequence[Task], log: Log) -> list[Task]:
    """Return tasks with the clips that all of them have, so that all heads are compared on the same clips.

    Tasks of one dataset differ in their clips only if vectors were imported for some of them. `log` receives the
    number of clips that are left out. Raises DataError if no clip is left.
    """
    common = set.intersection(*(set(task.ids.tolist()) for task in tasks))
    everyone = {clip_id for task in tasks for clip_id in (*task.ids.tolist(), *task.skipped)}
    if not common:
        raise DataError("no clip has vectors of all these encoders. Compare one of them with --encoder.")
    shared = []
    for task in tasks:
        rows = np.flatnonzero(np.isin(task.ids, sorted(common)))
        left_out = tuple(clip_id for clip_id in task.ids.tolist() if clip_id not in common)
        shared.append(replace(task.take(rows), skipped=task.skipped + left_out) if left_out else task)
    imported = any(info.is_imported for task in tasks for info in task.encoder_infos)
    several = len({info.name for task in tasks for info in task.encoder_infos}) > 1
    if imported and len(common) < len(everyone):
        which = "all the vectors, some of which were imported" if several else "imported vectors"
        log(f"note: {len(common)} of {len(everyone)} clips have {which}; the others are left out.")
    return shared


def load_task(artifacts: Artifacts, config: ComparisonConfig, encoder: str | None, view: str) -> Task:
    """The task of a configuration for one encoder and one view."""
    labels, copies, frames = config.labels, config.copies, config.frames
    return Task.load(config.datasets, encoder, view, artifacts, labels, copies, frames, config.same_names)


def log_people(task: Task, log: Log) -> None:
    """Log a note if speakers of combined datasets count as one person."""
    own_speakers = task.speakers if task.own_speakers is None else task.own_speakers
    for line in people_notes(task.speakers, own_speakers):
        log(f"note: {line}.")


def _heads_by_view(specs: Sequence[Head]) -> dict[str, list[Head]]:
    """Return the views to load, each with its heads; `pooled` is taken from `layers` if that is loaded."""
    both = any(spec.view == "layers" for spec in specs)
    groups: dict[str, list[Head]] = {}
    for spec in specs:
        groups.setdefault("layers" if both and spec.view == "pooled" else spec.view, []).append(spec)
    return groups


def save_run(
    artifacts: Artifacts,
    predictions: Sequence[Predictions],
    config: dict[str, Any],
    labels: Labels | None = None,
    jobs: int | None = 1,
    extra_files: Mapping[str, str] | None = None,
) -> Path:
    """Write the run folder of a comparison, with pictures, and return its path."""
    datasets = "+".join(sorted({p.dataset for p in predictions}))
    view = predictions[0].label_view
    suffix = "" if view == NATIVE else f"-{slug(Path(view).stem)}"
    folder = new_run_folder(artifacts.runs, f"{datasets}{suffix}-{base_name(predictions[0].protocol)}")
    pictures = save_pictures(folder, list(predictions), jobs)  # processes draw while the scores are computed
    write_run(folder, predictions, config, labels, extra_files)
    list(pictures)
    return folder
