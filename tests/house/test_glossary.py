"""The glossary has every protocol, leak and column of the output, and its tables are alphabetical."""

import re

import pytest
from helpers.places import REPOSITORY

from classifiers import PROTOCOLS
from classifiers.evaluation.leaderboard import COLUMNS, METRIC_COLUMNS
from classifiers.inference.output_formats import DISTANCE, FIRST_COLUMNS
from classifiers.protocols.leaks import LEAKS

PAGE = (REPOSITORY / "docs" / "explanation" / "words.md").read_text()
TABLES = [
    [row.split(" | ")[0].strip("|` ") for row in table.splitlines()[2:]]
    for table in re.findall(r"(?:^\|.*\|\n)+", PAGE, re.MULTILINE)
]
WORDS, VIEWS, PROTOCOL_NAMES, LEAK_NAMES, OF_LEADERBOARD, OF_PREDICT = TABLES


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table[0])
def test_it_is_alphabetical(table: list[str]) -> None:
    assert table == sorted(table, key=str.lower)


def test_nothing_that_ser_prints_is_missing() -> None:
    assert set(PROTOCOL_NAMES) == set(PROTOCOLS)
    assert set(LEAK_NAMES) == set(LEAKS)
    assert {"pooled", "layers", "std", "frames:N"} == set(VIEWS)
    assert set(OF_LEADERBOARD) == {*COLUMNS, *METRIC_COLUMNS}
    assert set(OF_PREDICT) == {*FIRST_COLUMNS, "p_<label>", "notes", DISTANCE}


def test_the_words_of_the_design_are_there() -> None:
    wanted = (
        "adaptation, Brier score, checkpoint, clip, confidence, configuration, dataset, ECE, embedding, encoder, "
        "fingerprint, fold, frame, frozen, head, interval, key, label, layer, leaderboard, leak, macro-F1, manifest, "
        "partition, protocol, run, segment, session, shard, span, speaker, speaker-dependent, speaker-independent, "
        "store, UAR, view, WAR"
    )
    assert set(wanted.split(", ")) <= set(WORDS)
