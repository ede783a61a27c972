"""Published partitions: trained on train, chosen on dev, tested on each other partition; what they share is said."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers import Task, make_folds
from classifiers.protocols.catalogue import PROTOCOLS, check_folds, partition_of, protocol_of, rows_by_name
from classifiers.protocols.fold import Fold, fitted_together, fold_hash, in_no_fold
from classifiers.protocols.leaks import leaks
from classifiers.protocols.sharing import are_split
from embedcache import ProtocolError, datasets

NAMES = ("train", "dev", "test", "test1", "test2", "podcast", "")


def partitioned(parts: list[str], labels: list[str], speakers: list[str]) -> Task:
    n = len(parts)
    texts = np.array([f"sentence {row}" for row in range(n)])
    columns = (np.array(column) for column in (labels, speakers))
    return Task(
        np.zeros((n, 2), np.float32),
        *columns,
        texts=texts,
        partitions=np.array(parts),
        training_known=True,
        dataset="toy",
    )


ROWS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from("ab"), st.sampled_from("stuv")), max_size=40)
ENOUGH = [("train", "a", "x"), ("train", "b", "x"), ("test", "a", "y")]  # what the smallest task has


@settings(deadline=None)
@given(ROWS)
def test_each_test_partition_is_a_fold_and_every_clip_of_a_partition_has_its_part(
    rows: list[tuple[str, str, str]],
) -> None:
    t = partitioned(*map(list, zip(*ENOUGH, *rows, strict=True)))
    folds = make_folds(t, "partition", n_folds=7, seed=3)
    assert [fold.name for fold in folds] == sorted(set(t.partitions.tolist()) - {"", "train", "dev"})
    for fold in folds:
        assert set(t.partitions[fold.train]) == {"train"}
        assert set(t.partitions[fold.dev]) <= {"dev"}
        assert set(t.partitions[fold.test]) == {fold.name}
    used = np.concatenate([folds[0].train, folds[0].dev, *(fold.test for fold in folds)])
    np.testing.assert_array_equal(np.sort(used), np.flatnonzero(t.partitions != ""))
    np.testing.assert_array_equal(in_no_fold(t, folds), np.flatnonzero(t.partitions == ""))
    assert fitted_together(folds) == [tuple(folds)], "one fit serves all test partitions"
    for fold in folds:
        chosen_by, tested = (set(t.speakers[part].tolist()) for part in (fold.fitted_on, fold.test))
        assert ("speaker" in leaks(t, [fold], "partition").split("+")) == bool(chosen_by & tested)


def one_speaker_each(shared: tuple[str, str] | None) -> tuple[Task, list[Fold]]:
    """Four speakers a partition, of whom two partitions share one."""
    parts = np.repeat(["train", "dev", "test"], 8)
    speakers = np.array([f"{part}{row // 2}" for row, part in enumerate(parts)])
    if shared:
        first, second = (np.flatnonzero(parts == part)[0] for part in shared)
        speakers[second : second + 2] = speakers[first]
    t = partitioned(parts.tolist(), ["a", "b"] * 12, speakers.tolist())
    return t, make_folds(t, "partition")


@pytest.mark.parametrize(
    ("shared", "found"),
    [(None, ""), (("train", "test"), "speaker"), (("dev", "test"), "speaker"), (("train", "dev"), "")],
)
def test_a_shared_speaker_is_a_leak_only_if_it_is_tested(shared: tuple[str, str] | None, found: str) -> None:
    t, folds = one_speaker_each(shared)
    assert leaks(t, folds, "partition") == found
    check_folds(t, folds, "partition")  # said, not refused: publishers did it


def test_a_development_clip_counts_as_a_training_clip_for_copies_and_promises() -> None:
    t, (fold,) = one_speaker_each(("dev", "test"))
    pairs = np.array([[fold.dev[0], fold.test[0]], [fold.train[0], fold.dev[0]], [fold.train[0], fold.test[0]]])
    assert are_split(pairs, [fold]).tolist() == [True, False, True]
    with pytest.raises(ProtocolError, match="fold test: speakers dev4 are in training and test"):
        check_folds(t, [fold], "speakers")


def test_the_hash_of_folds_tells_development_from_training_and_nothing() -> None:
    t, (fold,) = one_speaker_each(None)
    none = fold.dev[:0]
    others = [replace(fold, dev=none), replace(fold, train=fold.fitted_on, dev=none)]
    hashes = {fold_hash(t, [each]) for each in (fold, *others)}
    assert len(hashes) == 3
    assert fold_hash(t, [Fold("test", fold.train, fold.test)]) == fold_hash(t, [others[0]])


BAD = {
    "none at all": ([""] * 4, "abab", "wxyz", r"none 4\): no clip has a partition"),
    "no train": (["dev", "dev", "test", "test"], "abab", "wxyz", r"dev 2, test 2\): there is no partition train"),
    "no test": (["train", "train", "dev", ""], "abab", "wxyz", r"train 2, dev 1, none 1\): there is no test part"),
    "no speaker": (["train", "train", "dev", "test"], "abab", ["w", "x", "", ""], "1 clip of dev without a speaker; 1"),
    "a label": (
        ["train", "train", "test2", "test1"],
        "abcd",
        "wxyz",
        r"test1 has labels that train lacks \(d\); test2",
    ),
    "a label of dev": (["train", "train", "dev", "test"], "abca", "wxyz", r"dev has labels that train lacks \(c\)"),
    "one label": (["train", "train", "test", "test"], "aaab", "wxyz", "all clips of train have the label a; test has"),
}


@pytest.mark.parametrize("case", BAD)
def test_partitions_that_are_not_enough_are_told_with_their_counts(case: str) -> None:
    parts, labels, speakers, said = BAD[case]
    t = partitioned(parts, list(labels), list(speakers))
    with pytest.raises(
        ProtocolError, match=rf"^protocol 'partition' cannot be used on toy \(.*{said}.*--protocol spea"
    ):
        make_folds(t, "partition")


def test_a_task_without_the_column_is_one_without_partitions() -> None:
    t = replace(partitioned(["train"] * 4, list("abab"), list("wxyz")), partitions=None)
    with pytest.raises(ProtocolError, match="no clip has a partition"):
        make_folds(t, "partition")


def test_clips_without_a_speaker_may_be_in_no_partition() -> None:
    t = partitioned(["train", "train", "test", ""], list("abab"), ["x", "x", "y", ""])
    assert in_no_fold(t, make_folds(t, "partition")).tolist() == [3]


@pytest.fixture
def publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset `toy` that is published with partitions."""
    spec, find = replace(datasets.get("tess"), name="toy", official_folds=(), official_partitions=True), datasets.find
    monkeypatch.setattr(datasets, "find", lambda name: spec if name == "toy" else find(name))


@pytest.mark.usefixtures("publishes")
def test_official_takes_the_partitions_of_a_dataset_that_publishes_them() -> None:
    t, wanted = one_speaker_each(("train", "test"))
    (fold,) = make_folds(t, "official")
    np.testing.assert_array_equal(fold.dev, wanted[0].dev)
    assert leaks(t, [fold], "official") == "speaker"
    assert protocol_of("official:test1", "toy") is PROTOCOLS["partition"]
    assert protocol_of("official:1", "ravdess") is PROTOCOLS["official"]
    with pytest.raises(ProtocolError, match=r"official.*cannot be used on ravdess\+toy: toy is published with partit"):
        make_folds(replace(t, dataset="ravdess+toy"), "official")


@pytest.mark.parametrize("protocol", ["official", "speakers", "partition"])
def test_a_dataset_without_partitions_has_one_row_however_many_folds(protocol: str) -> None:
    t, (fold,) = one_speaker_each(None)
    assert rows_by_name(t, [[fold], [fold]], protocol) == {protocol: [[fold], [fold]]}
    folds = [replace(fold, name="test1"), replace(fold, name="test2")]
    made = rows_by_name(t, [folds, folds], protocol)
    assert list(made) == (["partition:test1", "partition:test2"] if protocol == "partition" else [protocol])
    assert [partition_of(name) for name in made] == (["test1", "test2"] if protocol == "partition" else [""])
