"""Amounts of adaptation: how many clips of each test speaker are used, as `--adapt` and a leaderboard row name them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from embedcache import ConfigError

ALL = "all"
DRAWS = 5  # times that clips are drawn; each draw has predictions of its own
MAX_CLIPS = 1_000_000


@dataclass(frozen=True)
class Amount:
    """The number of clips of each speaker that are used for its statistics; None for all."""

    clips: int | None

    @classmethod
    def of(cls, name: str) -> Amount:
        """Return the amount of a name, such as "10" or "all". Raises ConfigError for another name."""
        if name == ALL:
            return cls(None)
        if re.fullmatch("[0-9]{1,7}", name) and int(name) <= MAX_CLIPS:
            return cls(int(name))
        raise ConfigError(f"got --adapt {name}; wanted numbers of clips, such as 0,5,10,20, or {ALL}.")

    @property
    def name(self) -> str:
        """The name: "10", or "all"; "" for 0 clips, no adaptation."""
        return ALL if self.clips is None else str(self.clips or "")

    @property
    def draws(self) -> int:
        """How many times clips are drawn. All clips are drawn once."""
        return DRAWS if self.clips else 1

    def of_speaker(self, n_clips: int) -> int:
        """Return how many of a speaker's `n_clips` clips are used."""
        return n_clips if self.clips is None else min(self.clips, n_clips)


NO_ADAPTATION = Amount(0)


def parse_amounts(names: Sequence[str]) -> tuple[Amount, ...]:
    """Return the amounts that `--adapt` names, each once, in ascending order; without a name, 0.

    Raises ConfigError as `Amount.of` does.
    """
    amounts = dict.fromkeys(map(Amount.of, names or ["0"]))
    return tuple(sorted(amounts, key=lambda amount: MAX_CLIPS + 1 if amount.clips is None else amount.clips))
