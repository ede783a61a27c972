"""What an adaptation needs of heads, vectors and folds, and how many clips of the test speakers it uses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from embedcache import ConfigError, ProtocolError
from embedcache.encoder import is_ragged
from embedcache.manifest import is_unknown
from embedcache.text import count, examples

from ..data.memmap import Indices
from ..data.task import Task
from ..heads import Head
from ..protocols.fold import Fold
from ..protocols.sharing import known_speakers, shared_values
from .amounts import Amount
from .drawing import rows_by_speaker
from .fold_vectors import check_training


def check_adaptation(
    amounts: Iterable[Amount], specs: Sequence[Head], views: Iterable[Task], splits: Sequence[Sequence[Fold]]
) -> None:
    """Raise unless heads, vectors and folds allow adaptations of these amounts. Amounts of 0 are always allowed.

    Raises ConfigError for heads over frames, whose vectors have different lengths; ProtocolError if test speakers are
    among the training clips of a fold, and so are not new; DataError as `check_training` does.
    """
    names = ",".join(amount.name for amount in amounts if amount.name)
    if not names:
        return
    if frames := [spec.name for spec in specs if is_ragged(spec.view)]:
        raise ConfigError(
            f"got --adapt {names} and the heads {', '.join(frames)}, which read frames; wanted heads that read "
            "vectors of one length. Leave these heads or --adapt out."
        )
    for task in views:
        for fold in (fold for split in splits for fold in split):
            _check_new_speakers(task, fold, names)
            check_training(task, fold.train)


def _check_new_speakers(task: Task, fold: Fold, names: str) -> None:
    if shared := sorted(shared_values(known_speakers(task), fold)):
        raise ProtocolError(
            f"got --adapt {names}, but the test speakers {examples(shared)} are also in the training clips of fold "
            f"{fold.name}; wanted new speakers. Use a speaker-independent protocol, such as speakers."
        )


def clips_used(task: Task, folds: Sequence[Fold], amount: Amount) -> int:
    """Return how many test clips one draw in each fold uses for statistics."""
    return sum(_used(task, fold.test, amount) for fold in folds)


def _used(task: Task, rows: Indices, amount: Amount) -> int:
    by_speaker = rows_by_speaker(task, rows)
    return sum(amount.of_speaker(len(own)) for name, own in by_speaker.items() if not is_unknown(name))


def unknown_speakers_note(task: Task, splits: Sequence[Sequence[Fold]]) -> str:
    """Return a sentence on clips of unknown speakers in the folds, which cannot be adapted to; "" for none."""
    rows = {row for split in splits for fold in split for part in (fold.fitted_on, fold.test) for row in part.tolist()}
    unknown = sum(is_unknown(task.speakers[row]) for row in rows)
    if not unknown:
        return ""
    return f"{count(unknown, 'clip')} of unknown speakers: adapted by the mean of the training speakers alone"
