"""Configurations: what a comparison or a cross-corpus run was asked. Each is saved beside its results, in run.json.

The fields are the options of `ser compare`, `ser fit` and `ser cross`; this module imports nothing heavy, so that
`ser --help` is quick.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedcache.configuration import option

ENCODERS = "Extracted encoders, separated by commas or repeated."
HEADS = "Heads, separated by commas or repeated; see `ser heads`."
SEEDS = "Number of seeds; everything is repeated with each."
LABELS = "View of the labels: native, emotion, emotion6, emotion4, gender-emotion, or a CSV with the columns from,to."


@dataclass(frozen=True)
class ComparisonConfig:
    """What a comparison was asked. Left out, datasets, encoders and heads are those that `ser compare` says."""

    datasets: tuple[str, ...] = option(
        (), "Extracted datasets, separated by commas or repeated.", "--dataset", shown="the only one"
    )
    encoders: tuple[str, ...] = option((), ENCODERS, "--encoder", shown="all")
    heads: tuple[str, ...] = option((), HEADS, "--head", shown="all but those over frames")
    protocol: str = option("speakers", "How folds are cut; see `ser protocols`.")
    folds: int = option(5, "Number of folds, for the protocols `speakers` and `random`.", least=2)
    seeds: int = option(1, SEEDS, least=1)
    labels: str = option("native", LABELS)
    copies: int = option(0, "Number of augmented copies of each clip to train on; `ser extract` makes them.", least=0)
    views: tuple[str, ...] = option(
        (), "View that heads read instead of their own: layers+std, frames:6, …", "--view", shown="each head's own"
    )
    frames: int | None = option(
        None, "Number of frames that clips are cut or padded to.", shown="124; 216 for mfcc", least=1
    )
    tune: int = option(0, "Number of settings that each head chooses from, in inner folds; 0: no tuning.", least=0)
    calibrate: bool = option(False, "Calibrate the probabilities of each head, in inner folds.")


@dataclass(frozen=True)
class CrossConfig:
    """What a cross-corpus run was asked. No datasets: all that are extracted."""

    train: tuple[str, ...] = option((), "Datasets to train on, one at a time, separated by commas.")
    test: tuple[str, ...] = option((), "Datasets to test on, one at a time, separated by commas.")
    encoders: tuple[str, ...] = option((), ENCODERS, "--encoder", shown="all")
    heads: tuple[str, ...] = option((), HEADS, "--head", shown="all but those over frames")
    labels: str = option("emotion", LABELS)
    folds: int = option(5, "Number of folds where a dataset is tested on itself.", least=2)
    seeds: int = option(1, SEEDS, least=1)
