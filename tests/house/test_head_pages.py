"""The page of heads: each registered head has its row in both tables, as its specification says, and a description."""

import re

import pytest
from helpers.places import REPOSITORY

from classifiers import heads

FOLDER = REPOSITORY / "docs" / "heads"
PAGE = (FOLDER / "README.md").read_text()
HEADS = {head.name: head for head in heads.all() if type(head).__module__.startswith("classifiers")}


def rows_of(section: str) -> dict[str, list[str]]:
    """The rows of the first table of a section, by the name of their head."""
    _, _, text = PAGE.partition(section)
    table = re.search(r"(?:^\|.*\|\n)+", text, re.MULTILINE)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    return {re.search(r"`(\w+)`", first)[1]: rest for first, *rest in cells}


def test_each_head_has_a_row_in_alphabetical_order() -> None:
    assert list(rows_of("# Heads")) == sorted(HEADS)


def test_each_head_has_scores_and_a_time() -> None:
    assert set(rows_of("## Scores and times")) == set(HEADS)


@pytest.mark.parametrize("name", HEADS)
def test_its_row_has_the_view_that_it_reads(name: str) -> None:
    assert rows_of("# Heads")[name][1] == f"`{HEADS[name].view}`"


@pytest.mark.parametrize("name", HEADS)
def test_its_description_names_its_source(name: str) -> None:
    own = FOLDER / f"{name}.md"
    text = own.read_text() if own.exists() else re.search(rf"^### {name}\n(.*?)^##", PAGE, re.M | re.S)[1]
    source = " ".join(re.search(r"- Source:(.*?)(?:\n-|\Z)", text, re.S)[1].split())
    for one in HEADS[name].source.split("; "):
        words = set(re.findall(r"[A-Z]\w+|\d{4}", one)) - {"LightGBM"}
        assert words <= set(re.findall(r"\w+", source)), (one, source)
