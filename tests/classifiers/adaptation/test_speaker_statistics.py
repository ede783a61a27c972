"""Shrunk statistics lie between those of the clips and those of the population, also in degenerate columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classifiers.adaptation.speaker_statistics import (
    LEAST_VARIANCE,
    NONE,
    Population,
    SpeakerStatistics,
    Strength,
    standardised,
)
from embedcache import DataError

NUMBERS = st.floats(-1e3, 1e3, allow_nan=False, width=32)
VECTORS = st.integers(1, 8).flatmap(lambda n: arrays(np.float32, (n, 3), elements=NUMBERS))
POSITIVE = st.floats(0, 1e3)
STRENGTHS = st.builds(Strength, st.floats(0, 100), st.floats(0, 100)) | st.just(NONE)


def columns(elements: st.SearchStrategy[float]) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, 3, elements=elements)


POPULATIONS = st.builds(
    Population, columns(st.floats(-1e3, 1e3)), columns(POSITIVE), columns(POSITIVE), columns(POSITIVE)
)


def between(value: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    margin = 1e-9 * (1 + np.abs(a) + np.abs(b))
    return bool(((np.minimum(a, b) - margin <= value) & (value <= np.maximum(a, b) + margin)).all())


@given(VECTORS, POPULATIONS, STRENGTHS)
def test_shrunk_statistics_lie_between_clips_and_population(
    X: np.ndarray, population: Population, by: Strength
) -> None:
    own = SpeakerStatistics.of(X)
    shrunk = population.shrunk(own, by)
    assert between(shrunk.mean, own.mean, population.mean)
    floor = LEAST_VARIANCE * population.variance
    assert between(shrunk.variance, np.maximum(own.variance, floor), population.variance)
    assert np.isfinite(standardised(X, shrunk)).all()


@given(VECTORS, POPULATIONS, st.floats(0, 100), st.integers(1, 50))
def test_more_clips_with_the_same_statistics_count_more(
    X: np.ndarray, population: Population, k: float, more: int
) -> None:
    own = SpeakerStatistics.of(X)
    few = population.shrunk(own, Strength(k, k))
    many = population.shrunk(SpeakerStatistics(own.mean, own.variance, own.clips + more), Strength(k, k))
    for name in ("mean", "variance"):
        near, far = (np.abs(getattr(s, name) - getattr(population, name)) for s in (few, many))
        assert (far >= near - 1e-9 * (1 + far)).all()


@given(VECTORS, POPULATIONS, st.floats(0, 10), st.floats(0.1, 10))
def test_a_larger_strength_trusts_the_clips_less(X: np.ndarray, population: Population, k: float, more: float) -> None:
    own = SpeakerStatistics.of(X)
    weak, strong = (population.shrunk(own, Strength(s, s)) for s in (k, k + more))
    near, far = (np.abs(s.mean - population.mean) for s in (strong, weak))
    assert (far >= near - 1e-9 * (1 + far)).all()


def population_of(rng: np.random.Generator, n_speakers: int = 6, n: int = 10) -> Population:
    offsets = rng.standard_normal((n_speakers, 1, 4))
    scales = rng.uniform(0.5, 2, (n_speakers, 1, 4))
    return Population.of([SpeakerStatistics.of(X) for X in offsets + scales * rng.standard_normal((n_speakers, n, 4))])


def test_without_shrinking_it_is_a_z_score() -> None:
    rng = np.random.default_rng(0)
    population, X = population_of(rng), (5 + 3 * rng.standard_normal((12, 4))).astype(np.float32)
    by = population.shrunk(SpeakerStatistics.of(X), Strength(0, 0))
    wanted = (X - X.mean(axis=0, dtype=np.float64)) / X.std(axis=0, ddof=1, dtype=np.float64)
    np.testing.assert_allclose(standardised(X, by), wanted, rtol=1e-5, atol=1e-6)
    near, differs = population.shrunk(SpeakerStatistics.of(X), Strength(1e-12, 1e-12)), population.variance_spread > 0
    assert differs.sum() == 2  # in the other columns, the variances differ no more than by chance
    np.testing.assert_allclose(standardised(X, near)[:, differs], wanted[:, differs], rtol=1e-5, atol=1e-6)


def test_no_clips_give_the_population() -> None:
    population = population_of(np.random.default_rng(0))
    nothing = population.shrunk(SpeakerStatistics.of(np.empty((0, 4), np.float32)), Strength(0, 0))
    np.testing.assert_array_equal(nothing.mean, population.mean)
    np.testing.assert_array_equal(nothing.variance, population.variance)


def test_one_clip_moves_the_mean_alone() -> None:
    population = population_of(np.random.default_rng(0))
    one = population.shrunk(SpeakerStatistics.of(np.full((1, 4), 9.0, np.float32)), Strength(0, 0))
    np.testing.assert_allclose(one.mean, 9)
    np.testing.assert_array_equal(one.variance, population.variance)


def test_a_column_in_which_speakers_do_not_differ_is_not_adapted() -> None:
    """The spread between means is due to few clips alone there, so k is large or infinite."""
    rng = np.random.default_rng(1)
    alike = rng.standard_normal((200, 20, 2))
    alike[:, :, 1] += 3 * rng.standard_normal((200, 1))
    population = Population.of([SpeakerStatistics.of(X) for X in alike])
    own = population.shrunk(SpeakerStatistics.of(np.full((5, 2), 4.0)), Strength(1, 1))
    assert own.mean[0] < 0.6
    assert own.mean[1] > 3.5
    np.testing.assert_allclose(population.mean_spread, [0, 9], atol=1.5)


def test_a_constant_column_stays_finite() -> None:
    X = np.zeros((4, 2), np.float32)
    X[:, 1] = np.arange(4)
    population = Population.of([SpeakerStatistics.of(X), SpeakerStatistics.of(X)])
    assert np.isfinite(standardised(X + 7, population.shrunk(SpeakerStatistics.of(X), Strength(0, 0)))).all()


def test_a_column_that_is_constant_but_for_rounding_does_not_become_huge() -> None:
    X = np.full((40, 1), 0.1, np.float32)
    X[::2] = np.nextafter(np.float32(0.1), np.float32(1))
    population = Population.of([SpeakerStatistics.of(X[:20]), SpeakerStatistics.of(X[20:])])
    other = standardised(np.full((1, 1), 0.2, np.float32), population.shrunk(SpeakerStatistics.of(X), Strength(1, 1)))
    assert abs(other[0, 0]) < 1


def test_too_few_training_speakers_are_told() -> None:
    one, two = SpeakerStatistics.of(np.zeros((1, 2))), SpeakerStatistics.of(np.zeros((2, 2)))
    with pytest.raises(DataError, match="got 1 training speakers with two clips or more; wanted at least 2"):
        Population.of([one, one, two])


def test_a_strength_has_a_name() -> None:
    assert Strength(0.25, np.inf).name == "k x 0.25 (means), k x inf (variances)"
    assert NONE.name == "none"
    assert not NONE.adapts
