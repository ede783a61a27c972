"""The head that `ser fit` takes if none is named: the best of the latest comparison of the same data."""

from __future__ import annotations

from dataclasses import replace

from embedcache import Artifacts, DataError, UnknownName
from embedcache.encoder import Log

from ..data.listed_clips import LabelledClips
from ..data.stored_vectors import encoder_name, find_joined_stores
from ..evaluation.metrics import uar
from ..evaluation.predictions import Predictions
from ..evaluation.row_texts import registered_head
from ..evaluation.run_folder import find_runs, load_predictions
from ..protocols.catalogue import adapted_by
from .configurations import ComparisonConfig

FALLBACK = "logreg"  # its strength is chosen in inner folds, it takes seconds, and it can be exported
LEAKS = {"speaker", "audio", "audio~", "encoder"}  # leaks with which a score says little of new speakers


def with_best_head(artifacts: Artifacts, config: ComparisonConfig, log: Log) -> ComparisonConfig:
    """Return a configuration that names a head, which `log` receives a line about.

    It is the head of the first row of the latest comparison, of two heads or more, of the same dataset, labels and
    encoder. Rows with a leak and rows of adapted heads do not count. Without such a comparison, it is `FALLBACK`.
    """
    if config.heads:
        return config
    listed = LabelledClips.of(artifacts, config.datasets, config.labels, config.same_names)
    labels = listed.labels.view
    encoder = _encoder(artifacts, config, listed)
    compared = _latest_comparison(artifacts, listed.name, labels, encoder)
    if not compared:
        log(
            f"note: takes the head {FALLBACK}, because no comparison of {listed.name} on {encoder} has rows without a "
            "leak; it is fast, and chooses its strength itself. `ser compare` finds out which head is best, and "
            "--head names another."
        )
        return replace(config, heads=(FALLBACK,))
    best = max(compared, key=lambda p: float(uar(p.matrix())))
    spec = registered_head(best.head)
    name = spec.name if spec else FALLBACK
    row = best.head if best.head == name else f"{name}, as {best.head},"
    log(
        f"note: takes the head {name}: {row} ranks first of {len(compared)} in the comparison {best.run} (UAR "
        f"{uar(best.matrix()):.3f}, {best.protocol}); --head names another."
    )
    return replace(config, heads=(name,))


def _encoder(artifacts: Artifacts, config: ComparisonConfig, listed: LabelledClips) -> str:
    """Return the name of the encoder of a configuration. Raises as `Task.load` does if it is not clear which."""
    named = next(iter(config.encoders), None)
    keys = [clip.key for clip in listed.clips]
    return "+".join(map(encoder_name, find_joined_stores(artifacts, listed.name, keys, named, "pooled", 0)[0]))


def _latest_comparison(artifacts: Artifacts, dataset: str, labels: str, encoder: str) -> list[Predictions]:
    """Return the rows without a leak of the latest run that compares two heads or more; none if there is no such run.

    Runs that cannot be read are passed over.
    """
    try:
        folders = find_runs(artifacts)
    except (DataError, UnknownName):
        return []
    for folder in reversed(folders):
        try:
            found = load_predictions(folder)
        except DataError:
            continue
        same = [p for p in found if (p.dataset, p.label_view, p.encoder) == (dataset, labels, encoder)]
        rows = [p for p in same if _counts(p)]
        if len({p.head for p in rows}) > 1:
            return [p for p in rows if p.protocol == rows[0].protocol]
    return []


def _counts(p: Predictions) -> bool:
    return LEAKS.isdisjoint(p.leaks.split("+")) and not adapted_by(p.protocol) and registered_head(p.head) is not None
