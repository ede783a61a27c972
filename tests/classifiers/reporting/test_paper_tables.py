"""Tables of leaderboards for papers, notebooks and programs: what they say, and that no name breaks them."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.latex import HAS_LATEX, compiled, printed
from helpers.leaderboards import BALANCED, simulated
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from classifiers import Row, leaderboard
from classifiers.evaluation.leaderboard import COLUMNS, NAMES, chosen_columns, to_csv
from classifiers.reporting.paper_tables import TO_TEXT, paper_tables, to_html, to_json, to_latex, to_markdown
from classifiers.reporting.terminal_tables import show_leaderboard
from embedcache import UnknownName

HOSTILE = r"a_b%c&d#e~f^g\h{i}j$k|l<m>n*o`p[q](r)" + "é\n"
ACCENTED = "Łódź_naïve"


@pytest.fixture(scope="module")
def board() -> list[Row]:
    """Three rows that were tested on the clips of eight speakers; the last is significantly lower."""
    predictions = simulated(np.random.default_rng(0), 8, BALANCED, [0.7, 0.65, 0.3])
    return leaderboard([replace(p, dataset="emodb", protocol="official", leaks="text") for p in predictions])


@pytest.fixture(scope="module")
def rows(board: list[Row]) -> list[Row]:
    """The same rows with scores that no processor moves."""
    scores = [(0.7251, 0.61, 0.8, math.nan), (0.6749, 0.55, 0.7, 0.31), (0.3, 0.25, 0.35, 0.0078)]
    fixed = [
        replace(row, uar=uar, uar_low=low, uar_high=high, p_vs_best=p, war=0.5, macro_f1=0.25, smallest_difference=0.1)
        for row, (uar, low, high, p) in zip(board, scores, strict=True)
    ]
    return [replace(row, head=head) for row, head in zip(fixed, ("svm", "my_gradient_svm", "knn"), strict=True)]


MARKDOWN = """\
EMO-DB: 320 clips of 8 speakers, 4 labels, chance UAR 0.250. Protocol official: 1 fold defined by ser, \
speaker-independent.

| Head            | Encoder |            UAR [95 %] |  WAR | Macro-F1 |
| --------------- | ------- | --------------------: | ---: | -------: |
| svm             | e       | **0.73** [0.61, 0.80] | 0.50 |     0.25 |
| my_gradient_svm | e       |    0.67 [0.55, 0.70]† | 0.50 |     0.25 |
| knn             | e       |     0.30 [0.25, 0.35] | 0.50 |     0.25 |

UAR: mean recall over the labels; WAR: share of clips predicted correctly; Macro-F1: mean F1 over the labels. In \
brackets: 95 % confidence interval over test speakers. Bold: highest UAR. †: not significantly different from the best \
row (permutation test by speaker, adjusted for all pairs of rows, α = 0.05). Leaks: training and test clips share \
sentences (text).
"""


def test_markdown(rows: list[Row]) -> None:
    assert to_markdown(rows) == MARKDOWN


def marks(rows: list[Row], columns: tuple[str, ...] = ()) -> list[list[tuple[str, bool, str]]]:
    """For each row of all tables, the cells that are marked in any way."""
    cells = [row for table in paper_tables(rows, columns) for row in table.cells]
    return [[(cell.text, cell.bold, cell.mark) for cell in row if cell.bold or cell.mark] for row in cells]


def test_only_the_score_that_ranks_is_marked(rows: list[Row]) -> None:
    assert marks(rows) == [[("0.73", True, "")], [("0.67", False, "†")], []]
    assert marks(rows, ("head", "war")) == [[], [], []]
    (table,) = paper_tables(rows, ("head", "war"))
    assert not re.search("Bold|†|brackets", " ".join(table.notes))


def test_a_table_that_allows_no_test_has_no_dagger_and_says_why(rows: list[Row]) -> None:
    few = [replace(row, n_speakers=4, p_vs_best=1.0) for row in rows]
    assert marks(few) == [[("0.73", True, "")], [], []]
    assert "4 speakers: too few speakers to compare heads" in to_markdown(few)
    untested = [replace(row, p_vs_best=math.nan) for row in rows]
    assert marks(untested) == [[("0.73", True, "")], [], []]
    assert "their differences were not tested" in to_markdown(untested)
    assert marks(rows[:1]) == [[]]


def test_equal_scores_are_both_the_highest(rows: list[Row]) -> None:
    twins = [rows[0], replace(rows[1], uar=rows[0].uar, p_vs_best=1.0)]
    assert marks(twins) == [[("0.73", True, "")], [("0.73", True, "")]]


def test_a_row_without_an_interval_has_none(rows: list[Row]) -> None:
    (table,) = paper_tables([replace(rows[0], uar_low=math.nan, uar_high=math.nan)])
    assert [cell.interval for cell in table.cells[0]] == [""] * 5
    assert "brackets" not in " ".join(table.notes)


def test_rows_that_cannot_be_compared_have_tables_of_their_own(rows: list[Row]) -> None:
    adapted = replace(rows[0], protocol="official/adapted-10", adapted="10", adapt_clips=80, draws=5)
    leaking = replace(rows[0], protocol="random", leaks="speaker+text")
    tables = paper_tables([*rows, adapted, leaking])
    assert [len(table.cells) for table in tables] == [3, 1, 1]
    assert "with adaptation to 10 clips of each test speaker" in tables[1].title
    assert any("Do not compare these scores with unadapted ones as equals." in note for note in tables[1].notes)
    assert "speaker-dependent" in tables[2].title
    assert any("the test speakers also occur in the training clips" in note for note in tables[2].notes)
    labels = re.findall(r"\\label\{(.*)\}", to_latex([*rows, adapted, leaking, *rows]))
    assert labels == [
        *("tab:emodb-official", "tab:emodb-official-adapted-10", "tab:emodb-random", "tab:emodb-official-2"),
    ]
    numbered = replace(rows[0], protocol="official-2", fold_hash="3")  # its own key is that of the second table
    labels = re.findall(r"\\label\{(.*)\}", to_latex([*rows, adapted, *rows, numbered]))
    assert len(set(labels)) == len(labels) == 4


def test_variants_are_explained_and_told_apart(rows: list[Row]) -> None:
    names = ("ridge-tuned-calibrated", "ridge-calibrated", "ridge-calibrated")
    varied = [replace(row, head=head, run=f"run{n}") for n, (row, head) in enumerate(zip(rows, names, strict=True))]
    (table,) = paper_tables(varied)
    assert [cell.text for cell in table.headings][:3] == ["Head", "Encoder", "Run"]
    notes = " ".join(table.notes)
    assert "-tuned: settings chosen by UAR on training speakers" in notes
    assert "-calibrated: probabilities scaled by a temperature" in notes
    (several,) = paper_tables([replace(row, seeds=3, uar_seed_sd=0.01, copies=2) for row in rows])
    assert {"SD of seeds", "Copies"} <= {cell.text for cell in several.headings}


def test_leaks_that_differ_have_a_column(rows: list[Row]) -> None:
    mixed = [rows[0], replace(rows[1], leaks="text+encoder?")]
    (table,) = paper_tables(mixed)
    assert [row[-1].text for row in table.cells] == ["text", "text+encoder?"]
    (table,) = paper_tables(mixed, ("head", "uar"))
    assert any(
        note.startswith("my_gradient_svm: Leaks: training and test clips share sentences (text); ")
        for note in table.notes
    )


def test_another_metric_ranks_and_is_marked() -> None:
    predictions = simulated(np.random.default_rng(0), 8, BALANCED, [0.7, 0.3])
    rows = leaderboard(predictions, "neg_log_loss")
    (table,) = paper_tables(rows)
    assert [cell.text for cell in table.headings][2:4] == ["neg_log_loss", "UAR"]
    assert [[cell.bold for cell in row] for row in table.cells] == [[False, False, True, *[False] * 3], [False] * 6]
    assert table.notes[0].startswith("UAR: ")
    assert any(note.startswith("Ranked by neg_log_loss: log loss in nats, negated.") for note in table.notes)
    assert re.search(r"\\textbf\{\$-\$0\.\d\d\} \[\$-\$", to_latex(rows))


@pytest.mark.parametrize("columns", [(), NAMES, ("vectors", "score", "chance", "p_vs_best", "smallest_difference")])
def test_json_and_csv_hold_the_same_values(rows: list[Row], columns: tuple[str, ...]) -> None:
    rows = [replace(rows[0], smallest_difference=math.inf, notes='a, "b"'), *rows[1:]]
    objects = json.loads(to_json(rows, columns))
    lines = list(csv.DictReader(io.StringIO(to_csv(rows, columns))))
    assert [list(line) for line in lines] == [list(columns or COLUMNS)] * 3 == [list(one) for one in objects]
    for line, one in zip(lines, objects, strict=True):
        for name, found in one.items():
            text = line[name]
            if isinstance(found, float | int):
                assert float(text) == found, name
            else:
                assert (None if text in ("", "inf") and found is None else text) == found, name
    assert objects[0]["p_vs_best"] is None
    assert objects[0]["smallest_difference"] is None
    assert objects[1]["p_vs_best"] == 0.31


def test_names_of_columns() -> None:
    assert chosen_columns(["UAR", "head", "uar"]) == ["uar", "head"]
    with pytest.raises(UnknownName, match=r"no column 'leak'; have .*did you mean 'leaks'"):
        chosen_columns(["head", "leak"])


@pytest.mark.parametrize("form", sorted(TO_TEXT))
def test_every_column_has_a_text(rows: list[Row], form: str) -> None:
    assert TO_TEXT[form](rows, list(NAMES))


@given(st.text())
def test_markdown_shows_any_name_as_it_is(rows: list[Row], name: str) -> None:
    """The renderer of Markdown gives back the name, without links, emphasis, HTML or further cells."""
    from embedcache.text import one_line

    shown = " ".join(one_line(name).split()) or "x"
    text = to_markdown([replace(rows[0], head=shown)], ["head", "uar"])
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    cells = [tokens[n + 1] for n, token in enumerate(tokens) if token.type == "td_open"]
    assert len(cells) == 2
    assert "".join(child.content for child in cells[0].children or []) == shown.strip()
    assert {child.type for child in cells[0].children or []} <= {"text", "text_special"}


def test_html_escapes_names_and_a_notebook_shows_it(rows: list[Row]) -> None:
    hostile = [replace(rows[0], head="<script>alert(1)</script>", dataset="<b>")]
    assert "<script" not in to_html(hostile)
    assert "<b>0.7" not in to_html(hostile)
    shown = leaderboard(simulated(np.random.default_rng(0), 8, BALANCED, [0.7, 0.3]))
    assert isinstance(shown, list)
    assert shown._repr_html_() == to_html(shown)
    assert to_html(rows).count("<tr>") == 4


def test_columns_on_a_terminal(rows: list[Row]) -> None:
    out = io.StringIO()
    show_leaderboard(rows, Console(width=80, file=out, highlight=False), ["head", "uar", "leaks", "folds"])
    lines = out.getvalue().splitlines()
    assert "head              uar leaks folds" in lines
    assert "my_gradient_svm 0.675 text      1" in lines
    assert max(map(len, lines)) <= 80


def labels_in(folder: Path) -> set[str]:
    return set(re.findall(r"\\newlabel\{([^}]+)\}", (folder / "paper.aux").read_text()))


@HAS_LATEX
def test_pdflatex_prints_the_tables(rows: list[Row], tmp_path: Path) -> None:
    named = [replace(rows[0], encoder=HOSTILE), replace(rows[1], encoder=ACCENTED), replace(rows[2], encoder="[x] *")]
    own = [replace(row, dataset="my_corpus_%", head="wav2vec2_base", notes="a # b; c & d") for row in named]
    body = to_latex(named) + to_latex(own) + to_latex(own, ["vectors", "uar", "p_vs_best", "run"])
    compiled(body, tmp_path)
    assert {"tab:emodb-official", "tab:my-corpus-official"} <= labels_in(tmp_path)
    text = printed(tmp_path)
    assert "0.67 [0.55, 0.70]" in text
    assert "mycorpus%" in text.replace(" ", "")  # an underscore is a line
    assert "[x]*" in text.replace(" ", "")


def test_what_the_usual_fonts_lack_is_said_at_the_top(rows: list[Row]) -> None:
    assert "lualatex" not in to_latex([replace(rows[0], encoder=ACCENTED)])
    assert "lualatex and a font" in to_latex([replace(rows[0], encoder="漢")]).splitlines()[1]


@HAS_LATEX
def test_a_table_of_usual_names_fits_the_page(rows: list[Row], tmp_path: Path) -> None:
    names = ("my_gradient_svm", "ridge-tuned-calibrated", "stack")
    named = [replace(row, head=h, encoder="wav2vec2-base-960h") for row, h in zip(rows, names, strict=True)]
    assert "Overfull" not in compiled(to_latex(named), tmp_path)
