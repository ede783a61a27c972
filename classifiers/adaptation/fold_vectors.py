"""The vectors of a fold, standardised speaker by speaker: of the training clips, and of the test clips in each draw.

Every speaker, a training speaker as well as a test speaker, is standardised by the statistics of as many of its own
clips. So a head learns from vectors with the errors that few clips leave, and meets the same errors in the test. The
population is that of all training clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedcache import DataError
from embedcache.manifest import is_unknown

from ..data.memmap import Indices, MappedRows
from ..data.task import Task
from .amounts import Amount
from .drawing import TRAINING, drawn_clips, rows_by_speaker
from .speaker_statistics import Population, SpeakerStatistics, Strength, check_speakers, standardised


@dataclass(frozen=True)
class Adaptation:
    """How the vectors of a fold are adapted."""

    amount: Amount
    strength: Strength
    seed: int  # determines which clips are drawn


@dataclass(frozen=True)
class AdaptedFold:
    """A fold of a task whose speakers are adapted to."""

    task: Task  # with the vectors as they are
    population: Population  # of the training speakers
    adaptation: Adaptation

    @classmethod
    def of(cls, task: Task, train: Indices, adaptation: Adaptation) -> AdaptedFold:
        """Estimate the population from training clips. Raises DataError as `population_of` does."""
        return cls(task, population_of(task, train), adaptation)

    @property
    def _X(self) -> NDArray[np.float32]:
        return np.asarray(self.task.X)  # no copy: `population_of` refuses vectors in a file

    def training_task(self, rows: Indices) -> Task:
        """Return the task with adapted vectors of training and development clips, and of the copies of all of these.

        The vectors of other clips stay as they are.
        """
        if not self.adaptation.strength.adapts:
            return self.task
        statistics = self._statistics(rows, TRAINING)
        X = self._X.copy()
        X[rows] = self._standardised(X[rows], self.task.speakers[rows], statistics)
        copies = self.task.copies
        if copies:
            own = np.flatnonzero(np.isin(copies.clip_rows, rows))
            speakers, copied = self.task.speakers[copies.clip_rows[own]], np.array(copies.X)
            copied[own] = self._standardised(copied[own], speakers, statistics)
            copies = replace(copies, X=copied)
        return replace(self.task, X=X, copies=copies)

    def test_vectors(self, rows: Indices, draw: int | str) -> NDArray[np.float32]:
        """Return the vectors (n, d) of test clips, adapted by the clips of one draw among them."""
        if not self.adaptation.strength.adapts:
            return self._X[rows]
        return self._standardised(self._X[rows], self.task.speakers[rows], self._statistics(rows, str(draw)))

    def _statistics(self, rows: Indices, draw: str) -> dict[str, SpeakerStatistics]:
        """Return the shrunk statistics of each speaker, from the clips that are drawn among selected rows."""
        drawn = drawn_clips(self.task, rows, self.adaptation.amount, self.adaptation.seed, draw)
        return {
            speaker: self.population.shrunk(SpeakerStatistics.of(self._X[own]), self.adaptation.strength)
            for speaker, own in drawn.items()
        }

    @staticmethod
    def _standardised(
        X: NDArray[np.float32], speakers: NDArray[np.str_], statistics: Mapping[str, SpeakerStatistics]
    ) -> NDArray[np.float32]:
        result = np.empty(X.shape, np.float32)
        for speaker in np.unique(speakers):
            result[speakers == speaker] = standardised(X[speakers == speaker], statistics[str(speaker)])
        return result


def population_of(task: Task, train: Indices) -> Population:
    """Return the population of the known speakers of training clips. Raises DataError as `check_training` does."""
    check_training(task, train)
    X, speakers = np.asarray(task.X), _known(task, train)
    return Population.of([SpeakerStatistics.of(X[rows]) for rows in speakers])


def check_training(task: Task, train: Indices) -> None:
    """Raise DataError unless vectors are in memory, and training clips of enough known speakers."""
    if isinstance(task.X, MappedRows):
        raise DataError(
            f"the vectors of {task.dataset} are larger than memory; wanted vectors in memory for --adapt, which "
            "computes with all of them. Leave --adapt out, or choose a view with fewer numbers."
        )
    check_speakers(clips_of_speakers(task, train))


def clips_of_speakers(task: Task, rows: Indices) -> list[int]:
    """Return how many of selected clips each known speaker has."""
    return [len(own) for own in _known(task, rows)]


def _known(task: Task, rows: Indices) -> list[Indices]:
    """Return the rows of each known speaker among selected rows."""
    return [own for name, own in rows_by_speaker(task, rows).items() if not is_unknown(name)]
