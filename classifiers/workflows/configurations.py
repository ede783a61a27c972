"""Configurations: the options of a comparison or a cross-corpus run, saved with its results in run.json.

The fields are the options of `ser compare`, `ser fit`, `ser cross` and `ser protocols`; this module imports nothing
heavy, so that `ser --help` is quick.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedcache.configuration import option

ENCODERS = "Extracted encoders, separated by commas or repeated; a+b joins the vectors of two, side by side."
HEADS = "Heads, separated by commas or repeated; see `ser heads`."
SEEDS = "Number of random seeds; folds and fits are repeated with each seed."
LABELS = "Label view: native, emotion, emotion6, emotion4, gender-emotion, or a CSV with the columns from,to."
N_FOLDS = 5
FOLDS = (
    "Number of folds, for protocols that let you choose it; or a CSV with clip_id,fold or speaker,fold; or EmoBox's."
)
DATASETS = "Extracted datasets, separated by commas or repeated."
ADAPT = "Clips of each test speaker to adapt to, without labels: 0,5,10,20,all; each makes rows of its own."
SAME_NAMES = "Whether equal names of speakers in two datasets of your own are `one` person or `two`."


@dataclass(frozen=True)
class ComparisonConfig:
    """The options of a comparison. An empty tuple stands for the default that the help of the option shows."""

    datasets: tuple[str, ...] = option((), DATASETS, "--dataset", shown="the only one")
    encoders: tuple[str, ...] = option((), ENCODERS, "--encoder", shown="all")
    heads: tuple[str, ...] = option((), HEADS, "--head", shown="all but those over frames")
    protocol: str = option("", "Protocol that splits the clips into folds; see `ser protocols`.", shown="speakers")
    folds: int | str = option(N_FOLDS, FOLDS, least=2)
    seeds: int = option(1, SEEDS, least=1)
    labels: str = option("native", LABELS)
    copies: int = option(0, "Number of augmented copies of each clip to train on; `ser extract` makes them.", least=0)
    views: tuple[str, ...] = option(
        (), "View that heads read instead of their own: layers+std, frames:6, …", "--view", shown="each head's own"
    )
    frames: int | None = option(
        None, "Number of frames to which each clip is cut or padded.", shown="124; mfcc 216, functionals 300", least=1
    )
    tune: int = option(
        0, "Number of settings to try for each head, in inner folds or on dev; 0 for no tuning.", least=0
    )
    calibrate: bool = option(False, "Calibrate the probabilities of each head, in inner folds or on dev.")
    same_names: str = option("", SAME_NAMES, shown="an error if there are any")
    adapt: tuple[str, ...] = option((), ADAPT, shown="0")


@dataclass(frozen=True)
class CrossConfig:
    """The options of a cross-corpus run. An empty `train` or `test` stands for all extracted datasets."""

    train: tuple[str, ...] = option((), "Datasets to train on, one at a time, separated by commas.")
    test: tuple[str, ...] = option((), "Datasets to test on, one at a time, separated by commas.")
    encoders: tuple[str, ...] = option((), ENCODERS, "--encoder", shown="all")
    heads: tuple[str, ...] = option((), HEADS, "--head", shown="all but those over frames")
    labels: str = option("emotion", LABELS)
    folds: int = option(N_FOLDS, "Number of folds if a dataset is both trained and tested on.", least=2)
    seeds: int = option(1, SEEDS, least=1)
    same_names: str = option("", SAME_NAMES, shown="an error if there are any")


@dataclass(frozen=True)
class ProtocolConfig:
    """The options that determine folds which are written to a file. Empty values mean what they mean above."""

    datasets: tuple[str, ...] = option((), DATASETS, "--dataset", shown="the only one")
    protocol: str = option("", "Protocol whose folds are written.", shown="speakers")
    folds: int | str = option(N_FOLDS, FOLDS, least=2)
    seeds: int = option(1, "Number of random seeds whose folds are written.", least=1)
    labels: str = option("native", LABELS)
    same_names: str = option("", SAME_NAMES, shown="an error if there are any")
