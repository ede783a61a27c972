"""The folds that a command uses: those of a protocol, or those that a file lists; and folds written to such a file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedcache import Artifacts, ConfigError, SerError
from embedcache.encoder import Log, no_log
from embedcache.files.atomic import atomic_write
from embedcache.files.existing import begins_with, check_replaceable
from embedcache.manifest import Clip
from embedcache.provenance import TrainedOn
from embedcache.text import count, one_line

from ..data.listed_clips import LabelledClips, load_manifests, named_clips
from ..data.task import Task
from ..protocols.catalogue import make_folds, unknown_speakers_note
from ..protocols.fold import Fold, in_no_fold
from ..protocols.fold_files import folds_csv, read_folds
from ..protocols.fold_list import LISTED, FoldList
from ..protocols.listed import listed_splits, listing_notes
from .configurations import ComparisonConfig, ProtocolConfig

DEFAULT = "speakers"  # protocol if neither a protocol nor a file of folds is named
FOLDS_HEADER = b"clip_id,speaker,fold"  # the first bytes of a file that `write_folds` wrote
FILE = "folds.csv"  # file of a run folder that lists the folds, if they were read from a file


@dataclass(frozen=True)
class FoldChoice:
    """How tasks are split into folds."""

    protocol: str
    seeds: int
    n_folds: int = 0  # not used for listed folds
    listing: FoldList | None = None
    clips: Sequence[Clip] = ()  # all clips of the datasets, with the names that a task gives them

    def splits(self, task: Task) -> list[list[Fold]]:
        """Return the folds of each seed. Raises as `make_folds` and `listed_splits` do."""
        if self.listing is None:
            return [make_folds(task, self.protocol, self.n_folds, seed) for seed in range(self.seeds)]
        splits = listed_splits(task, self.listing, self.clips)
        return splits if len(splits) == self.seeds else splits * self.seeds

    def notes(self, task: Task, splits: Sequence[Sequence[Fold]]) -> list[str]:
        """Return sentences about folds that were read from a file, and about clips that the protocol cannot use."""
        if self.listing:
            return [*self.listing.notes, *listing_notes(task, self.listing, splits)]
        return fold_notes(task, [fold for split in splits for fold in split], self.protocol)

    def files(self, task: Task, splits: Sequence[Sequence[Fold]]) -> dict[str, str]:
        """Return the file of a run folder that lists folds that were read from a file."""
        return {FILE: folds_csv(task, splits, self.protocol)} if self.listing else {}


def fold_notes(task: Task, folds: Sequence[Fold], protocol: str) -> list[str]:
    """Return a sentence if some clips are in no fold: those of unknown speakers, or those without a partition."""
    if unknown := unknown_speakers_note(task, protocol):
        return [f"{unknown}."]
    unused = len(in_no_fold(task, folds))
    verb = "is" if unused == 1 else "are"
    clips = f"{unused:,} of {count(len(task), 'clip')} {verb} in no fold of the protocol {protocol}"
    return [f"{clips}, so neither trained on nor tested."] if unused else []


def choose_folds(artifacts: Artifacts, config: ComparisonConfig | ProtocolConfig) -> FoldChoice:
    """Return how the tasks of a configuration are split. A file of folds is read.

    Raises ConfigError if a file is named together with another protocol or number of seeds, or does not exist;
    DataError as `read_folds` does.
    """
    if isinstance(config.folds, int):
        return FoldChoice(config.protocol or DEFAULT, config.seeds, config.folds)
    if config.protocol not in ("", LISTED):
        raise ConfigError(
            f"got --protocol {config.protocol} and --folds {config.folds}; wanted one of both. Leave --protocol out to "
            "use the folds of the file, or give a number of folds."
        )
    listing = read_folds(Path(config.folds))
    seeds = len(listing.seeds)
    if listing.seeds != [""] and config.seeds not in (1, seeds):
        raise ConfigError(
            f"got --seeds {config.seeds} and --folds {config.folds}, which lists the folds of {count(seeds, 'seed')}. "
            "Leave --seeds out, or remove the column seed if the same folds are meant for each seed."
        )
    manifests = load_manifests(artifacts, config.datasets)
    clips = [clip for manifest in manifests for clip in named_clips(manifest, manifest.clips, len(manifests))]
    return FoldChoice(LISTED, max(seeds, config.seeds), listing=listing, clips=clips)


def write_folds(artifacts: Artifacts, config: ProtocolConfig, path: Path, log: Log = no_log) -> None:
    """Write the folds of a protocol on extracted datasets to a file that `--folds` reads; `-` is standard output.

    Needs manifests, but no embeddings. A file of folds is replaced, any other file is refused with a SerError.
    Raises as `choose_folds`, `FoldChoice.splits` and `folds_csv` do.
    """
    listed = LabelledClips.of(artifacts, config.datasets, config.labels, config.same_names)
    task = Task.of_clips(listed, np.empty((len(listed.clips), 0), np.float32), TrainedOn((), (), ()))
    choice = choose_folds(artifacts, config)
    splits = choice.splits(task)
    for line in choice.notes(task, splits):
        log(f"note: {line}")
    text = folds_csv(task, splits, choice.protocol)
    if str(path) == "-":
        sys.stdout.write(text)
        return
    check_replaceable(path, begins_with(FOLDS_HEADER), log, SerError, "--write")
    with atomic_write(path, advice="Choose another file with --write.") as file:
        file.write(text)
    dataset = " --dataset ".join(m.dataset for m in listed.manifests)
    log(f"Next: ser compare --dataset {dataset} --folds {one_line(shlex.quote(str(path)))}")
