"""The index of keys against a dictionary, which is the plain way to do it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedcache import StoreError
from embedcache.cache.key_index import ABSENT, Index, pack, unpack

LETTERS = "abcdef"
VIEWS = ("pooled", "std")


def key(letter: str) -> str:
    return letter * 64


SHARDS = st.lists(
    st.tuples(st.text(LETTERS, max_size=6), st.lists(st.sampled_from(VIEWS), min_size=1, max_size=2, unique=True)),
    max_size=4,
)


def plain(shards: list[tuple[str, list[str]]]) -> dict[tuple[str, str], tuple[int, int]]:
    """(letter, view) -> place: the first row of the first shard."""
    places: dict[tuple[str, str], tuple[int, int]] = {}
    for number, (letters, views) in enumerate(shards):
        for row, letter in enumerate(letters):
            for view in views:
                places.setdefault((letter, view), (number, row))
    return places


@given(SHARDS, st.text("abcdef09", max_size=8))
def test_every_key_is_found_where_its_first_row_is(shards: list[tuple[str, list[str]]], asked: str) -> None:
    index = Index.of([(pack([key(letter) for letter in letters]), views) for letters, views in shards])
    places = plain(shards)
    assert unpack(index.keys) == sorted({key(letter) for letters, _ in shards for letter in letters})
    for view in VIEWS:
        found = index.find(pack([key(letter) for letter in asked]), view).tolist()
        assert found == [list(places.get((letter, view), (ABSENT, ABSENT))) for letter in asked]


@given(SHARDS)
def test_keys_by_the_views_that_they_have(shards: list[tuple[str, list[str]]]) -> None:
    index = Index.of([(pack([key(letter) for letter in letters]), views) for letters, views in shards])
    places = plain(shards)
    wanted: dict[tuple[str, ...], list[str]] = {}
    for letter in sorted({letter for letters, _ in shards for letter in letters}):
        wanted.setdefault(tuple(view for view in VIEWS if (letter, view) in places), []).append(key(letter))
    assert {views: unpack(keys) for views, keys in index.by_views()} == wanted


@given(st.lists(st.binary(min_size=32, max_size=32)))
def test_keys_are_packed_and_unpacked(raw: list[bytes]) -> None:
    """Zeros at a key's end included, which numpy likes to drop from texts."""
    keys = [part.hex() for part in raw]
    assert unpack(pack(keys)) == keys
    assert pack(keys).dtype == np.dtype("S32")


@pytest.mark.parametrize("wrong", ["", "a" * 63, "a" * 65, "g" * 64, "a" * 62 + "0x", " " * 64])
def test_what_is_no_key_is_named(wrong: str) -> None:
    with pytest.raises(StoreError, match=f"'{wrong}' is not a key; wanted the 64 hexadecimal digits"):
        pack([key("a"), wrong, key("b")])
