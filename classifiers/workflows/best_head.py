"""The latest comparison of the data that a model is fitted on.

From it are the head that `ser fit` takes if none is named, and the rivals that the head ranked first was selected from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from embedcache import Artifacts, DataError, UnknownName
from embedcache.encoder import Log
from embedcache.files.untrusted import read_json

from ..data.labels import NATIVE
from ..data.listed_clips import LabelledClips
from ..data.stored_vectors import encoder_name, find_joined_stores
from ..evaluation.metrics import uar
from ..evaluation.predictions import Predictions
from ..evaluation.row_texts import registered_head
from ..evaluation.run_folder import MAX_BYTES, find_runs, load_predictions
from ..protocols.catalogue import adapted_by
from .configurations import ComparisonConfig

FALLBACK = "logreg"  # its strength is chosen in inner folds, it takes seconds, and it can be exported
LEAKS = {"speaker", "audio", "audio~", "encoder"}  # leaks with which a score says little of new speakers


def with_best_head(artifacts: Artifacts, config: ComparisonConfig, log: Log) -> ComparisonConfig:
    """Return a configuration that names a head, which `log` receives a line about.

    It is the head of the first row of the latest comparison, of two heads or more, of the same dataset, labels,
    encoder and copies. Rows with a leak and rows of adapted heads do not count. Without such a comparison, it is
    `FALLBACK`.
    """
    if config.heads:
        return config
    listed = LabelledClips.of(artifacts, config.datasets, config.labels, config.same_names)
    encoder = _encoder(artifacts, config, listed)
    compared = _latest_comparison(artifacts, (listed.name, listed.labels.view, encoder), config.copies)
    if not compared:
        log(
            f"note: takes the head {FALLBACK}, because no comparison of {listed.name} on {encoder} has rows without a "
            "leak; it is fast, and chooses its strength itself. `ser compare` finds out which head is best, and "
            "--head names another."
        )
        return replace(config, heads=(FALLBACK,))
    best = _first(compared)
    name = _base_name(best)
    row = name if best.head == name else f"{name}, as {best.head},"
    log(
        f"note: takes the head {name}: {row} ranks first of {len(compared)} in the comparison {best.run} (UAR "
        f"{uar(best.matrix()):.3f}, {best.protocol}); --head names another."
    )
    return replace(config, heads=(name,))


def rivals_of(artifacts: Artifacts, p: Predictions) -> list[Predictions]:
    """Return the other heads of the latest comparison of the same data, if the head of `p` ranks first there.

    It was then probably selected for this, also if it was named.
    """
    compared = _latest_comparison(artifacts, (p.dataset, p.label_view, p.encoder), p.copies)
    is_first = bool(compared) and _base_name(_first(compared)) == _base_name(p)
    return [other for other in compared if _base_name(other) != _base_name(p)] if is_first else []


def _first(compared: Sequence[Predictions]) -> Predictions:
    """Return the row that the leaderboard ranks first: of equal scores, the first by name."""
    return min(compared, key=lambda p: (-float(uar(p.matrix())), p.head))


def _base_name(p: Predictions) -> str:
    """Return the name of a head without its variant: `svm` for `svm-tuned`; "" for a head that is not registered."""
    spec = registered_head(p.head)
    return spec.name if spec else ""


def _encoder(artifacts: Artifacts, config: ComparisonConfig, listed: LabelledClips) -> str:
    """Return the name of the encoder of a configuration. Raises as `Task.load` does if it is not clear which."""
    named = next(iter(config.encoders), None)
    keys = [clip.key for clip in listed.clips]
    return "+".join(map(encoder_name, find_joined_stores(artifacts, listed.name, keys, named, "pooled", 0)[0]))


def _latest_comparison(artifacts: Artifacts, data: tuple[str, str, str], copies: int) -> list[Predictions]:
    """Return the rows without a leak of the latest run that compares two heads or more; none if there is no such run.

    `data` are the dataset, the label view and the encoder. Runs that cannot be read are passed over.
    """
    try:
        folders = find_runs(artifacts)
    except (DataError, UnknownName):
        return []
    for folder in reversed(folders):
        try:
            rows = [p for p in load_predictions(folder) if _counts(p, data, copies)] if _names(folder, data) else []
        except DataError:
            continue
        rows = [p for p in rows if p.protocol == rows[0].protocol]
        if len(set(map(_base_name, rows))) > 1:
            return rows
    return []


def _names(folder: Path, data: tuple[str, str, str]) -> bool:
    """Whether run.json names two rows of these data or more, so that the predictions are worth reading."""
    try:
        rows = read_json(folder / "run.json", MAX_BYTES, DataError)["heads"]
        found = [(row["dataset"], row.get("label_view", NATIVE), row["encoder"]) for row in rows]
    except (KeyError, TypeError, AttributeError):
        return False
    return sum(one == data for one in found) > 1


def _counts(p: Predictions, data: tuple[str, str, str], copies: int) -> bool:
    same = ((p.dataset, p.label_view, p.encoder), p.copies) == (data, copies)
    return same and LEAKS.isdisjoint(p.leaks.split("+")) and not adapted_by(p.protocol) and _base_name(p) != ""
