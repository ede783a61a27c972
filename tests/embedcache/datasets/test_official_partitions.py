"""A dataset that says it is published with partitions has them, in names that the protocol reads."""

from dataclasses import replace
from pathlib import Path

import pytest

from embedcache import DataError, datasets
from embedcache.checks import check_dataset
from embedcache.dataset import Dataset
from embedcache.manifest import PARTITION


def published(names: list[str]) -> Dataset:
    """RAVDESS as if it were published with partitions, which the clips have in turn."""
    spec = datasets.get("ravdess")

    def scan(root: Path) -> list:
        found = spec.scan(root)
        clips = getattr(found, "clips", found)
        return [replace(c, extra={**c.extra, PARTITION: names[n % len(names)]}) for n, c in enumerate(clips)]

    return replace(spec, scan=scan, official_folds=(), official_partitions=True)


def test_partitions_are_sound(tree: Path) -> None:
    check_dataset(published(["train", "dev", "test1", ""]), tree)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train", "Test"], r"got the partitions 'Test'; wanted names in lower case"),
        (["train", " dev"], r"got the partitions ' dev'; wanted"),
        ([""], "no clip has a partition; wanted train, dev or a test partition"),
    ],
)
def test_partitions_that_the_protocol_would_misread_are_refused(tree: Path, names: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_dataset(published(names), tree)


def test_official_is_one_of_the_two(tree: Path) -> None:
    spec = replace(published(["train", "test"]), official_folds=(("01",), ("02",)))
    with pytest.raises(DataError, match="got official_folds and official_partitions; wanted one of the two"):
        check_dataset(spec, tree)
