"""Figures for papers: their size, fonts and bytes; colours that colour-blind readers can tell."""

import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties

from classifiers import Predictions, compare
from classifiers.checks import toy_task
from classifiers.evaluation.leaderboard import leaderboard
from classifiers.reporting import palette
from classifiers.reporting.figures import calibration_figure, confusion_figure, cross_figure, curves_figure
from classifiers.reporting.paper_figures.files import save_paper_figures
from classifiers.reporting.paper_figures.scores import adaptation_figure, intervals_figure, speakers_figure
from classifiers.reporting.paper_figures.style import COLUMN, PAGE, PAPER, SCREEN, save
from embedcache import SerError

# What a dichromat sees, in linear RGB: Machado, Oliveira and Fernandes 2009, table 1, severity 1.0.
SEEN_BY = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "all colours": np.eye(3),
}
TOLD_APART = [("train", "held"), ("accent", "warm"), ("bar", "warm"), ("shade", "below"), ("panel", "shade")]
FAR = 20.0  # distance in CIELAB; 2.3 is just noticeable side by side


@pytest.fixture(scope="module")
def made() -> list[Predictions]:
    task = toy_task(seed=1)
    noisy = replace(task, X=task.X + 5 * np.random.default_rng(0).standard_normal(task.X.shape).astype(np.float32))
    found = compare(noisy, ["logreg", "knn"], "speakers", n_folds=2, jobs=1, adapt=["0", "5"])
    return [replace(p, histories=({"train_loss": [1.0, 0.5]},) if p.head == "logreg" else ()) for p in found]


@pytest.fixture(scope="module")
def folder(made: list[Predictions], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    save_paper_figures(folder, made, jobs=1)
    return folder


def test_every_figure_is_there_in_three_formats(folder: Path) -> None:
    names = {path.stem for path in folder.iterdir()}
    place = "toy-speakers"
    assert {f"intervals-{place}", f"adaptation-{place}", f"intervals-{place}-adapted-5"} <= names
    assert {f"{kind}-knn-toy-{place}" for kind in ("confusion", "calibration", "speakers")} <= names
    assert f"curves-logreg-toy-{place}" in names
    assert f"curves-knn-toy-{place}" not in names
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.{kind}" for name in names for kind in ("pdf", "png", "svg")
    )


def test_files_are_as_wide_as_a_column_or_a_page(folder: Path) -> None:
    for path in folder.glob("*.svg"):
        width = float(re.search(r'<svg [^>]*width="([\d.]+)pt"', path.read_text())[1]) / 72 * 25.4
        assert min(abs(width - COLUMN), abs(width - PAGE)) < 0.1, path.name


def test_fonts_are_embedded_as_truetype_and_svg_needs_none(folder: Path) -> None:
    for path in folder.glob("*.pdf"):
        content = path.read_bytes()
        content += b"".join(map(_inflated, re.findall(rb"stream\r?\n(.*?)endstream", content, re.S)))
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
    for path in folder.glob("*.svg"):
        assert "<text" not in path.read_text()


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(stream)
    except zlib.error:
        return b""


def test_the_same_predictions_give_the_same_bytes(made: list[Predictions], folder: Path, tmp_path: Path) -> None:
    for path in save_paper_figures(tmp_path, made[:1], jobs=1):
        if path.stem.startswith("intervals"):
            continue  # the interval of the best row depends on its rivals
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name
    for path in folder.iterdir():
        assert not re.search(rb"CreationDate|<dc:date>|tIME", path.read_bytes()), path.name


def test_titles_are_drawn_only_where_they_are_asked_for(made: list[Predictions]) -> None:
    rows = leaderboard(made)
    scores = {("a", "b"): (0.5, 0.25), ("b", "b"): (0.6, 0.25)}
    drawn = [(draw, (made[0],)) for draw in (confusion_figure, calibration_figure, curves_figure, speakers_figure)]
    drawn += [(intervals_figure, (rows[:2],)), (adaptation_figure, (rows,)), (cross_figure, ("title", scores))]
    for draw, arguments in drawn:
        assert draw(*arguments, PAPER).get_suptitle() == ""
        assert draw(*arguments, SCREEN).get_suptitle() != ""
        assert draw(*arguments, replace(PAPER, titled=True)).get_suptitle() != ""


def test_nothing_is_cut_off_at_the_width_of_a_column(made: list[Predictions]) -> None:
    name = "an_emotion_of_a_long_name"
    columns = {key: np.where(getattr(made[0], key) == "left", name, "right") for key in ("truth", "predicted")}
    long = replace(made[0], labels=(name, "right"), **columns)
    rows = [replace(row, head=f"{row.head}_with_a_name_that_is_long") for row in leaderboard(made)[:2]]
    with PAPER.settings():
        for figure in (confusion_figure(long, PAPER), intervals_figure(rows, PAPER), speakers_figure(long, PAPER)):
            figure.draw_without_rendering()
            width, height = figure.get_size_inches() * figure.dpi
            box = figure.axes[0].get_tightbbox()
            assert -1 <= box.x0 < box.x1 <= width + 1
            assert -1 <= box.y0 < box.y1 <= height + 1
            assert FontProperties(size="small").get_size_in_points() >= 6.5


def test_a_file_in_place_of_the_folder_is_named(made: list[Predictions], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(SerError, match=r"taken: cannot be made \(File exists\); wanted a folder"):
        save_paper_figures(tmp_path / "taken", made)


def test_a_name_with_a_dollar_is_no_formula(made: list[Predictions], tmp_path: Path) -> None:
    (path, *_) = save(confusion_figure(replace(made[0], head="$x^"), SCREEN), tmp_path / "a")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("seen", SEEN_BY)
@pytest.mark.parametrize("colours", ["LIGHT", "DARK", "PAPER"])
def test_colour_blind_readers_can_tell_the_colours_apart(seen: str, colours: str) -> None:
    found = getattr(palette, colours)
    for a, b in TOLD_APART:
        distance = np.linalg.norm(lab(found[a], SEEN_BY[seen]) - lab(found[b], SEEN_BY[seen]))
        assert distance >= FAR, f"{a} and {b}: {distance:.1f}"


def lab(colour: str, seen: object) -> np.ndarray:
    """The colour in CIELAB, D65, as somebody sees it."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(seen) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    x, y, z = np.cbrt(np.maximum(np.array(to_xyz) @ linear / [0.95047, 1, 1.08883], 1e-4))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
