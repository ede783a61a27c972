"""Enrolled speakers: the vectors that a model reads, adapted to one of them, and sentences that say so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from embedcache import ConfigError

from ..saved.model_folder import ModelCard
from ..saved.speaker_files import load_adaptation, load_speaker

Adapter = Callable[[NDArray[Any]], NDArray[Any]]  # maps vectors (n, d) to those that the head reads


def speaker_adapter(folder: Path, estimator: Any, card: ModelCard, speaker: str = "") -> Adapter:
    """Return what adapts the vectors of a model to a speaker; without a name, to a speaker of whom nothing is known.

    The vectors of a model that was not fitted with --adapt stay as they are. Raises ModelError as `load_adaptation` and
    `load_speaker` do.
    """
    if not card.adapted:
        return lambda X: X
    adaptation = load_adaptation(folder, estimator.n_features_in_)
    known = load_speaker(folder, speaker, estimator.n_features_in_, card.fingerprint) if speaker else None
    return lambda X: adaptation.vectors(X, known)


def check_adapts(cards: Iterable[tuple[str, str]], speaker: str) -> None:
    """Raise ConfigError if a speaker is named and no model is adapted; `cards` are names and amounts of the models."""
    named = list(cards)
    if speaker and not any(adapted for _, adapted in named):
        raise ConfigError(
            f"got the speaker {speaker}, but {', '.join(name for name, _ in named)} is not adapted to speakers; wanted "
            "a model that was fitted with `ser fit --adapt N`. Leave the speaker out, or fit such a model."
        )


def adaptation_note(cards: Iterable[tuple[str, str]], speaker: str) -> str:
    """Return a sentence on the speaker to whom adapted models are adapted; "" if no model is adapted."""
    adapted = [name for name, amount in cards if amount]
    if not adapted:
        return ""
    if speaker:
        return f"{', '.join(adapted)}: adapted to the enrolled speaker {speaker}"
    return (
        f"{', '.join(adapted)}: adapted to no speaker, so expect more errors than with a model that was fitted without "
        "--adapt. Enrol the speaker with `ser enrol`, and name it with --speaker"
    )
