"""Types of what JSON holds: one check for every dataclass that is read from a file."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedcache.files.untrusted import build, has_type, wrong_types


@dataclass(frozen=True)
class Inner:
    names: tuple[str, ...]
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    inner: Inner
    facts: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    grid: tuple[tuple[int, ...], ...] = ()


SOUND = {"name": "a", "count": 2, "inner": {"names": ["x", "y"]}}


@given(
    st.builds(
        Outer,
        name=st.text(),
        count=st.integers(),
        inner=st.builds(Inner, st.lists(st.text()).map(tuple), st.floats(allow_nan=False, allow_infinity=False)),
        facts=st.dictionaries(st.text(), st.one_of(st.none(), st.booleans(), st.text())),
        seed=st.none() | st.integers(),
        grid=st.lists(st.lists(st.integers()).map(tuple)).map(tuple),
    )
)
def test_what_was_written_is_built_again(value: Outer) -> None:
    assert build(Outer, json.loads(json.dumps(asdict(value)))) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": "2"}, "wrong type of count"),
        ({"count": True}, "wrong type of count"),
        ({"count": 2.5}, "wrong type of count"),
        ({"name": None, "seed": "s"}, "wrong type of name, seed"),
        ({"inner": ["x"]}, "wrong type of inner"),
        ({"inner": {"names": "xy"}}, "wrong type of names"),
        ({"inner": {"names": [1]}}, "wrong type of names"),
        ({"inner": {"names": [], "share": "half"}}, "wrong type of share"),
        ({"facts": []}, "wrong type of facts"),
        ({"grid": [[1], ["a"]]}, "wrong type of grid"),
        ({"more": 1}, "unknown or missing fields: more"),
    ],
)
def test_what_is_of_another_type_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(Outer, {**SOUND, **change})


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_what_is_no_object_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match="wanted an object with the fields of Outer"):
        build(Outer, content)


def test_a_field_without_default_is_wanted() -> None:
    with pytest.raises(ValueError, match="unknown or missing fields: count"):
        build(Outer, {key: value for key, value in SOUND.items() if key != "count"})
    assert build(Outer, SOUND) == Outer("a", 2, Inner(("x", "y")))


def test_whole_numbers_are_numbers_and_truths_are_none() -> None:
    assert has_type(1, float)
    assert not has_type(True, float)
    assert not has_type(1.0, int)
    assert wrong_types({"a": 1, "b": "x", "c": None}, {"a": str, "b": str, "c": str | None}) == ["a"]
