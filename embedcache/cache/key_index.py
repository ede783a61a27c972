"""The index of a store: in which shard and row each content key is stored, for tens of millions of keys in memory.

A key is 64 hexadecimal digits for people and 32 bytes here. All keys of a store are one sorted array, so that one
million keys are looked up in half a second. The index takes 32 bytes a key, and 8 bytes a key and view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError

DIGITS, WIDTH = 64, 32  # of a key: hexadecimal digits, and bytes once packed
Keys = NDArray[np.bytes_]  # (n,) keys of 32 bytes; numpy compares them as bytes, zeros at the end included
Places = NDArray[np.int32]  # (n, 2): number of the shard and number of the row in it, or ABSENT twice
ABSENT = -1


def pack(keys: Sequence[str]) -> Keys:
    """Return hexadecimal keys as an array of 32 bytes each. Raises StoreError for a text that is not a key."""
    try:
        if set(map(len, keys)) <= {DIGITS} and len(raw := bytes.fromhex("".join(keys))) == WIDTH * len(keys):
            return np.frombuffer(raw, dtype=f"S{WIDTH}")
    except ValueError:
        pass
    wrong = next(key for key in keys if len(key) != DIGITS or not set(key) <= set("0123456789abcdefABCDEF"))
    raise StoreError(f"'{wrong}' is not a key; wanted the {DIGITS} hexadecimal digits of a file's SHA-256.")


def unpack(keys: Keys) -> list[str]:
    """Return packed keys as hexadecimal texts: the inverse of `pack`."""
    digits = keys.tobytes().hex()
    return [digits[at : at + DIGITS] for at in range(0, len(digits), DIGITS)]


@dataclass(frozen=True)
class Index:
    """The distinct keys of some shards, sorted, and the place of each key for each view."""

    keys: Keys
    views: Mapping[str, Places]  # view -> the place of each of `keys`

    @classmethod
    def of(cls, shards: Sequence[tuple[Keys, Sequence[str]]]) -> Index:
        """Build the index from the keys and view names of each shard.

        If several rows have the same key, the place is the first of these rows in the first of their shards. For
        example, with keys of one letter:

            shard 0: keys b, a, b; views pooled             keys             a       b       c
            shard 1: keys c, b;    views pooled, std        views["pooled"]  (0, 1)  (0, 0)  (1, 0)
                                                            views["std"]     absent  (1, 1)  (1, 0)
        """
        all_keys = np.concatenate([keys for keys, _ in shards]) if shards else np.empty(0, f"S{WIDTH}")
        distinct, slots = np.unique(all_keys, return_inverse=True)  # all_keys[i] is distinct[slots[i]]
        views = {view: np.full((len(distinct), 2), ABSENT, np.int32) for _, names in shards for view in names}
        end = len(all_keys)
        # Later assignments overwrite earlier ones, so shards and rows are assigned last to first: the first row wins.
        for number, (keys, names) in reversed(list(enumerate(shards))):
            begin = end - len(keys)
            rows = np.arange(len(keys), dtype=np.int32)[::-1]
            places = np.stack([np.full_like(rows, number), rows], axis=1)
            for view in names:
                views[view][slots[begin:end][::-1]] = places
            end = begin
        return cls(distinct, views)

    def find(self, keys: Keys, view: str) -> Places:
        """Return the place of each key in a view, in the order of `keys`."""
        places = np.full((len(keys), 2), ABSENT, np.int32)
        if len(self.keys) and view in self.views:
            order = np.argsort(keys)  # neighbours among sorted keys are neighbours in memory, which is faster
            positions = np.searchsorted(self.keys, keys[order])
            positions[positions == len(self.keys)] = 0  # greater than every stored key: any position will not match
            stored = self.keys[positions] == keys[order]
            places[order[stored]] = self.views[view][positions[stored]]
        return places

    def by_views(self) -> Iterator[tuple[tuple[str, ...], Keys]]:
        """Yield each set of views that some keys have, with the keys that have exactly these views."""
        names = sorted(self.views)
        if not names:
            return
        has_view = np.stack([self.views[view][:, 0] != ABSENT for view in names], axis=1)
        for combination in np.unique(has_view, axis=0):
            yield tuple(np.array(names)[combination].tolist()), self.keys[(has_view == combination).all(axis=1)]
