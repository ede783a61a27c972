"""Where the vectors of a key lie: content keys as packed numbers, so that tens of millions fit into memory.

A key, 64 hexadecimal digits to people, is 32 bytes here, and all keys of a store are one sorted array: to look a
million up takes half a second, and the array 32 bytes a key plus 8 bytes a key and view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError

DIGITS, WIDTH = 64, 32
Keys = NDArray[np.bytes_]  # (n,) of 32 bytes; numpy compares them as bytes, zeros at the end included
Places = NDArray[np.int32]  # (n, 2): number of the shard and of the row, or ABSENT twice
ABSENT = -1


def pack(keys: Sequence[str]) -> Keys:
    """Hexadecimal keys as 32 bytes each. Raises StoreError for what is no key."""
    try:
        if set(map(len, keys)) <= {DIGITS} and len(raw := bytes.fromhex("".join(keys))) == WIDTH * len(keys):
            return np.frombuffer(raw, dtype=f"S{WIDTH}")
    except ValueError:
        pass
    wrong = next(key for key in keys if len(key) != DIGITS or not set(key) <= set("0123456789abcdefABCDEF"))
    raise StoreError(f"'{wrong}' is no key; wanted the {DIGITS} hexadecimal digits of a file's SHA-256.")


def unpack(keys: Keys) -> list[str]:
    """The inverse of `pack`."""
    digits = keys.tobytes().hex()
    return [digits[at : at + DIGITS] for at in range(0, len(digits), DIGITS)]


@dataclass(frozen=True)
class Index:
    """The keys of some shards, each once and sorted, and for each view where their rows lie."""

    keys: Keys
    views: Mapping[str, Places]

    @classmethod
    def of(cls, shards: Sequence[tuple[Keys, Sequence[str]]]) -> Index:
        """From the keys and views of each shard. Of a row that several hold, the first shard's is taken."""
        every = np.concatenate([keys for keys, _ in shards]) if shards else np.empty(0, f"S{WIDTH}")
        keys, slots = np.unique(every, return_inverse=True)
        views = {view: np.full((len(keys), 2), ABSENT, np.int32) for _, held in shards for view in held}
        end = len(every)
        for number in reversed(
            range(len(shards))
        ):  # the last to write wins: that is the first shard, and its first row
            held, names = shards[number]
            begin = end - len(held)
            rows = np.arange(len(held), dtype=np.int32)[::-1]
            for view in names:
                views[view][slots[begin:end][::-1]] = np.stack([np.full_like(rows, number), rows], axis=1)
            end = begin
        return cls(keys, views)

    def find(self, keys: Keys, view: str) -> Places:
        """The place of each key, in order."""
        places = np.full((len(keys), 2), ABSENT, np.int32)
        if len(self.keys) and view in self.views:
            order = np.argsort(keys)  # neighbours in the question are neighbours in memory
            at = np.searchsorted(self.keys, keys[order])
            at[at == len(self.keys)] = 0
            known = self.keys[at] == keys[order]
            places[order[known]] = self.views[view][at[known]]
        return places

    def by_views(self) -> Iterator[tuple[tuple[str, ...], Keys]]:
        """The keys that have the same views, for each set of views that there is."""
        names = sorted(self.views)
        if not names:
            return
        has = np.stack([self.views[view][:, 0] != ABSENT for view in names], axis=1)
        for combination in np.unique(has, axis=0):
            yield tuple(np.array(names)[combination].tolist()), self.keys[(has == combination).all(axis=1)]
