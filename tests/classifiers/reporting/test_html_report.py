"""The report: the numbers of a run in figures; nothing that a run says is run; readable on whatever shows it."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from helpers.browser import HOSTILE, Tags, browser, watched
from helpers.places import REPOSITORY
from helpers.sounds import noise, ravdess_tree, write
from markupsafe import Markup

from classifiers import Task, compare, load_predictions, save_predictions
from classifiers.checks import toy_task
from classifiers.evaluation.leaderboard import score
from classifiers.reporting import charts, palette
from classifiers.reporting.charts import Score
from classifiers.reporting.figure_data import Curves, LayerWeights, LearningCurves, Reliability, RiskCoverage
from classifiers.reporting.hardest_clips import clip_audio, clip_facts, vector_map
from classifiers.reporting.html_report import PanelSet, render, write_report
from classifiers.reporting.sections import HARDEST, hardest_clips
from classifiers.reporting.sound_baselines import NOT_FOUND, NOT_MEASURED, baselines_text, measured_levels
from classifiers.reporting.svg import ticks
from classifiers.reporting.terminal_tables import leaks_text
from cli import main
from embedcache import Artifacts, EmbeddingStore, EncoderInfo, Manifest, SerError, UnknownName, add_keys, datasets
from embedcache.audio.decode import Recording
from embedcache.manifest import Clip

SVG = "{http://www.w3.org/2000/svg}"
INFO = EncoderInfo("made-up", "none", "0" * 64, 16_000, 1, 6, "fp32", "none", 1)


def shapes(svg: str, tag: str, class_: str) -> list[ElementTree.Element]:
    """The elements of a figure of one tag and class; the figure must be well-formed."""
    return [e for e in ElementTree.fromstring(svg).iter(tag) if class_ in e.get("class", "").split()]


def label(svg: str) -> str:
    return ElementTree.fromstring(svg).get("aria-label")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """24 clips of 4 actors with made-up vectors, and two runs: with speakers apart, and with them shared."""
    folder = tmp_path_factory.mktemp("report")
    artifacts = Artifacts(folder / "artifacts")
    manifest = add_keys(datasets.get("ravdess").manifest(ravdess_tree(folder / "tree")))
    manifest.to_csv(artifacts.manifest("ravdess"))
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((24, 6)).astype(np.float32)
    vectors[:, 0] += [ord(clip.label[0]) % 7 for clip in manifest.clips]
    EmbeddingStore.of(artifacts.cache, INFO).write(manifest.keys, {"pooled": vectors})
    task = Task.load("ravdess", artifacts=artifacts)
    curve = {"train_loss": [1.5, 0.5], "val_loss": [1.2, 0.9]}
    for protocol in ("speakers", "random"):
        made = compare(task, ["logreg", "svm"], protocol, n_folds=2, seeds=2, jobs=1)
        learnt = [replace(p, histories=(curve,) * 4, chosen=({"C": 1.5},) * 4) for p in made]
        save_predictions(artifacts.runs / f"2-{protocol}", learnt, {"seeds": 2})
    return artifacts


@pytest.fixture
def runs(place: Artifacts) -> list[Path]:
    """The run with speakers apart, and the other."""
    return [place.runs / "2-speakers", place.runs / "2-random"]


def test_duration_and_level_alone_have_a_score(place: Artifacts, runs: list[Path]) -> None:
    """Clips of equal length predict one label: the score is chance. Without durations or clips, nothing is said."""
    p = load_predictions(runs[1])[0]
    facts = clip_facts(place, "ravdess")
    begin = "UAR of a nearest class mean on duration"
    assert baselines_text(p, facts).startswith(f"{begin} 0.333; chance is 0.333. It is fitted on other speakers")
    numbers = {label: 1.0 + n for n, label in enumerate(p.labels)}
    told = {i: replace(clip, seconds=numbers[clip.label]) for i, clip in facts.clips.items()}
    assert f"{begin} 1.000; chance is 0.333" in baselines_text(p, replace(facts, clips=told))
    levels = {clip.key: numbers[clip.label] for clip in facts.clips.values()}
    assert f"{begin} 0.333, level 1.000, both 1.000; chance" in baselines_text(p, facts, levels)
    unknown = {i: replace(clip, seconds=0.0) for i, clip in facts.clips.items()}
    assert baselines_text(p, replace(facts, clips=unknown)) == ""
    assert baselines_text(p, clip_facts(place, "other")) == ""


def test_levels_are_those_of_the_recordings(
    place: Artifacts, runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, p = clip_facts(place, "ravdess"), load_predictions(runs[1])[0]
    levels = measured_levels(facts)
    for clip in list(facts.clips.values())[:3]:
        sound, _ = soundfile.read(clip.path)
        assert levels[clip.key] == pytest.approx(10 * np.log10(np.mean(sound**2)), abs=1e-3)
    assert re.search(r"mean on duration 0\.\d+, level 0\.\d+, both 0\.\d+; chance", render(place, runs[:1]))
    assert "level" not in baselines_text(p, facts)
    assert baselines_text(p, facts, dict(list(levels.items())[1:])).endswith(NOT_FOUND)
    monkeypatch.setattr("classifiers.reporting.sound_baselines.MOST_MEASURED", 20)
    assert measured_levels(facts) == {}
    assert baselines_text(p, facts, {}).endswith(NOT_MEASURED)


def test_whiskers_say_and_show_their_numbers() -> None:
    svg = charts.whiskers([Score("a", 0.5, 0.4, 0.6), Score("b<", 0.2, speaker_dependent=True)], 0.25)
    assert label(svg) == "UAR with its interval: a 0.500 (0.400–0.600), b< 0.200. Chance 0.250."
    first, second = shapes(svg, "circle", "mark")
    left, right = (float(x) for x in re.findall(r"[ML]([\d.]+)", shapes(svg, "path", "whisker")[0].get("d")))
    assert float(first.get("cx")) == pytest.approx((left + right) / 2, abs=0.02)
    chance = float(re.match(r"M([\d.]+)", shapes(svg, "path", "chance")[0].get("d"))[1])
    assert left > chance > float(second.get("cx"))
    assert len(shapes(svg, "path", "whisker")) == 1, "a score without interval has no whisker"
    assert [("hollow" in e.get("class")) for e in (first, second)] == [False, True]


def test_figures_of_one_page_can_share_their_axis() -> None:
    score = Score("a", 0.5, 0.4, 0.55)
    figures = charts.whiskers([score], 0.25), charts.whiskers([score], 0.25, highest=0.79)
    ticks = [[e.text for e in shapes(svg, "text", "tick") if "chance" not in (e.text or "")] for svg in figures]
    assert [texts[-1] for texts in ticks] == ["0.6", "0.8"]


def test_flattery_is_the_difference_in_points() -> None:
    svg = charts.dumbbells([(Score("svm", 0.493), Score("svm", 0.717, speaker_dependent=True))])
    assert "svm 0.493, speaker-dependent 0.717, +22.4 points" in label(svg)
    apart, shared = (float(e.get("cx")) for e in shapes(svg, "circle", "mark"))
    assert shared > apart
    assert charts.flattery(Score("a", 0.5), Score("a", 0.45)) == "-5.0 points"


def test_bars_are_as_long_as_their_numbers() -> None:
    svg = charts.bars([Score("x", 0.25), Score("y", 0.75, note="(6/8)"), Score("none", float("nan"))], "Recall")
    widths = [float(e.get("width")) for e in shapes(svg, "rect", "bar")]
    assert widths[1] == pytest.approx(3 * widths[0], rel=1e-3)
    assert label(svg) == "Recall: x 0.250, y 0.750 (6/8), none –."


def test_speakers_stand_in_order() -> None:
    svg = charts.strip([Score("s2", 0.9), Score("s1", 0.3), Score("s3", 0.6)], 0.6, "UAR by speaker")
    assert label(svg) == "UAR by speaker: s1 0.300, s3 0.600, s2 0.900. Mean 0.600."
    places = [(float(e.get("cx")), float(e.get("cy"))) for e in shapes(svg, "circle", "mark")]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    many = charts.strip([Score(str(n), n / 5000) for n in range(5000)], 0.5, "UAR by speaker")
    assert len(shapes(many, "circle", "mark")) == charts.MAX_SPEAKERS


def test_curves_columns_and_calibration() -> None:
    svg = charts.curves(LearningCurves("loss", Curves.of([[1.0, 0.5], [2.0]]), Curves.of([[0.7, 0.6]])))
    assert (
        label(svg)
        == "loss over 2 epochs, 3 lines: training from 1.500 to 0.500; held-out speakers from 0.700 to 0.600."
    )
    assert len(shapes(svg, "path", "thin")) == 3
    weights = np.array([[0.25, 0.75], [0.75, 0.25]])
    svg = charts.columns(LayerWeights(2, weights.mean(axis=0), weights.min(axis=0), weights.max(axis=0)))
    assert label(svg) == "Mean weight of each layer over 2 folds: 0: 0.500, 1: 0.500."
    bins = np.array([[0, np.nan, np.nan], [4, 0.5, 0.25]])
    svg = charts.reliability_diagram(Reliability(*bins.T, ece=0.25, brier=0.5))
    assert label(svg) == "Reliability, 2 bins: confidence 0.50, accuracy 0.25, 4 clips."
    assert len(shapes(svg, "circle", "mark")) == 1
    svg = charts.risk_curve(RiskCoverage(np.array([0.25, 0.5, 1.0]), np.array([0.0, 0.1, 0.4]), aurc=0.1))
    assert label(svg).endswith("risk 0.10 at 50 % coverage; risk 0.40 at 100 % coverage; risk 0.40 at 100 % coverage.")


def test_a_map_has_a_panel_for_each_group_in_front_of_all_clips() -> None:
    places = np.random.default_rng(0).standard_normal((40, 2))
    hidden, panels = charts.panels(places, [f"g{i % 4}" for i in range(40)], "t-SNE by label", "map-0")
    (whole,) = ElementTree.fromstring(hidden).iter("path")
    assert (whole.get("id"), whole.get("d").count("M")) == ("map-0", 40)
    assert [(panel.name, panel.clips) for panel in panels] == [(f"g{n}", 10) for n in range(4)]
    own = [shapes(panel.svg, "path", "m")[0].get("d") for panel in panels]
    assert all(dots.count("M") == 10 for dots in own)
    dots_of = [set(dots.split("h0")) - {""} for dots in (*own, whole.get("d"))]
    assert set.union(*dots_of[:4]) == dots_of[4]
    assert [use.get("href") for use in shapes(panels[0].svg, "use", "rest")] == ["#map-0"]
    assert label(panels[0].svg) == "t-SNE by label: 10 clips of g0, in front of all 40"
    charts.panels(np.zeros((3, 2)), ["a", "b", "c"], "all in one place", "k")
    _, few = charts.panels(np.zeros((200, 2)), [f"{n:03}" for n in range(100)] * 2, "many", "k")
    assert len(few) == charts.MAX_PANELS


@pytest.mark.parametrize(("panels", "columns"), [(1, 4), (7, 4), (8, 4), (10, 5), (12, 6), (24, 8), (35, 7), (40, 8)])
def test_panels_leave_few_places_empty(panels: int, columns: int) -> None:
    panel = charts.Panel("a", 1, Markup(""))
    assert PanelSet("t", Markup(""), (panel,) * panels, 0).columns == columns


def test_names_are_beside_wide_charts_and_no_line_crosses_them() -> None:
    """In a wide chart, names end before the plot area and numbers begin after it; in a narrow one, lines have gaps."""
    scores = [Score("logreg", 0.5, 0.4, 0.6), Score("knn", 0.2, 0.1, 0.3)]
    wide, narrow = (charts.whiskers(scores, 0.25, width) for width in (charts.WIDE, 340.0))
    lines = [float(x) for e in shapes(wide, "path", "grid") for x in re.findall(r"M([\d.]+)", e.get("d"))]
    names = [e for e in shapes(wide, "text", "name") if e.get("text-anchor") is None]
    assert [e.text for e in names] == ["logreg", "knn"]
    assert all(float(e.get("x")) + charts.LETTER * len(e.text) < min(lines) for e in names)
    for e in shapes(narrow, "path", "chance"):
        pieces = [(float(a), float(b)) for a, b in re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", e.get("d"))]
        bases = [float(t.get("y")) for t in shapes(narrow, "text", "name")]
        assert len(pieces) == 2
        assert not [base for base in bases for low, high in pieces if low < base < high]


@pytest.mark.parametrize("high", [1e-12, 0.03, 0.5, 0.717, 1, 7, 91, 12_345])
def test_ticks_are_few_and_inside(high: float) -> None:
    got = ticks(high)
    assert got[0] == 0
    assert got[-1] <= high * (1 + 1e-9)
    assert 2 <= len(got) <= 8


def test_names_draw_nothing() -> None:
    scores = [Score(HOSTILE, 0.5, 0.4, 0.6), Score("b", 0.4)]
    drawn = [
        charts.whiskers(scores, 0.1),
        charts.dumbbells([(scores[0], scores[1])]),
        charts.bars(scores, HOSTILE),
        charts.strip(scores, 0.5, HOSTILE),
        charts.panels(np.eye(2), [HOSTILE, "b"], HOSTILE, "k")[1][0].svg,
    ]
    allowed = {"svg", "path", "circle", "rect", "text", "title", "use"}
    for svg in drawn:
        assert {e.tag for e in ElementTree.fromstring(svg).iter()} <= allowed
        assert HOSTILE in label(svg)


def test_the_page_of_a_run(place: Artifacts, runs: list[Path]) -> None:
    page = render(place, runs[:1])
    tags = Tags(page)
    assert not tags.crossed
    assert not tags.open
    assert "Speaker-independent: no test speaker occurs in the training clips." in tags.text
    assert "Trained on test speakers" not in tags.text
    assert "Leaks: training and test clips share sentences (text); not all training data" in tags.text
    assert "Training and test clips share sentences (text); not all training data of the encoder are known" in tags.text
    for p in load_predictions(runs[0]):
        assert f"{p.head} on made-up" in tags.text
        assert f"{np.mean([p.matrix()[i, i] / p.matrix()[i].sum() for i in range(3)]):.3f}" in tags.text
        assert p.fingerprint in tags.text
    for text in (
        "2 folds × 2 seeds",
        "Recall by label and gender",
        "t-SNE by speaker",
        "Learning curves: loss",
        "2 folds, repeated with 2 seeds",
    ):
        assert text in tags.text
    assert "Recall by intensity is not shown: the manifest has only the value normal in this column." in tags.text
    assert sum(tag == "audio" for tag, _ in tags.found) == 2 * HARDEST
    assert all(given["aria-label"] for tag, given in tags.found if tag == "svg" and given.get("role") == "img")
    assert all(given.get("scope") for tag, given in tags.found if tag == "th")
    assert page == render(place, runs[:1]), "the same run, the same page"


def test_runs_with_speakers_apart_and_shared_stand_side_by_side(place: Artifacts, runs: list[Path]) -> None:
    tags = Tags(render(place, runs, audio=False))
    assert tags.text.count("Trained on test speakers: these scores do not hold for new speakers.") == 1
    assert "ravdess: protocol speakers compared with random" in tags.text
    scores = {p.head: [] for p in load_predictions(runs[0])}
    for p in (p for run in runs for p in load_predictions(run)):
        scores[p.head].append(score(p).uar)
    for head, (apart, shared) in scores.items():
        assert f"{head}{charts.flattery(Score('', apart), Score('', shared))}" in re.sub(r"\s*\n\s*", "", tags.text)
    assert "audio" not in {tag for tag, _ in tags.found}
    assert "Left out: the report was made without audio." in tags.text


def test_what_has_gone_is_said(place: Artifacts, runs: list[Path], tmp_path: Path) -> None:
    """No output folder at all; then one without vectors, whose recordings are lost or others."""
    run = shutil.copytree(runs[0], tmp_path / "run")
    text = Tags(render(Artifacts(tmp_path / "nowhere"), [run])).text
    assert text.count("The manifest of ravdess was not found") >= 3
    manifest = Manifest.from_csv(place.manifest("ravdess"))
    lost = [str(tmp_path / "lost.wav"), str(write(tmp_path / "other.wav", noise(0.2)))]
    clips = tuple(replace(c, path=lost[i % 2], gender="", extra={}) for i, c in enumerate(manifest.clips))
    Manifest("ravdess", clips).to_csv(tmp_path / "artifacts" / "manifests" / "ravdess.csv")
    text = Tags(render(Artifacts(tmp_path / "artifacts"), [run])).text
    assert "The recording cannot be read: lost.wav: " in text
    assert str(tmp_path) not in text, "where files lie is not for those who read the page"
    assert "The file was changed after its extraction" in text
    assert "The embeddings were not found" in text
    assert "Recall by gender is not shown: the manifest has no value in this column." in text


def test_clips_are_found_by_the_ids_that_runs_give_them(tmp_path: Path) -> None:
    """Of two datasets with their dataset's name in front; of one that is tested on alone, without."""
    artifacts = Artifacts(tmp_path)
    for name in ("a", "b", "c+d"):
        Manifest(name, (Clip(name, "1", "p", "l", "s", key="0" * 64),)).to_csv(artifacts.manifest(name))
    found = {dataset: clip_facts(artifacts, dataset) for dataset in ("a+b", "a->b", "c+d", "a", "../a")}
    assert {dataset: sorted(known.clips) for dataset, known in found.items()} == {
        "a+b": ["a:1", "b:1"],
        "a->b": ["1"],
        "c+d": ["1"],
        "a": ["1"],
        "../a": [],
    }
    assert found["a->b"].clips["1"].dataset == "b"


def test_a_map_shows_the_vectors_and_labels_of_the_run_alone(place: Artifacts, runs: list[Path]) -> None:
    p = load_predictions(runs[0])[0]
    known = clip_facts(place, "ravdess")
    drawn = vector_map(p, known, place)
    assert drawn.labels == tuple(clip.label for clip in known.clips.values())
    assert drawn.points.shape == (24, 2)
    assert re.match(
        r"Of the 10 nearest clips of a clip, \d+ % have its label \(\d+ % of all other clips do\)", drawn.neighbours
    )
    renamed = replace(p, truth=np.char.upper(p.truth), label_view="/etc/passwd")
    assert vector_map(renamed, known, place).labels == tuple(label.upper() for label in drawn.labels)
    assert vector_map(replace(p, fingerprint="0" * 64), known, place).reason.endswith(
        "the cache has none of this encoder."
    )
    few = replace(p, clip_ids=np.full_like(p.clip_ids, p.clip_ids[0]))
    assert vector_map(few, known, place).reason == "Only 1 of the clips have embeddings: too few for a map."


def test_the_recordings_of_a_page_are_bounded(place: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = Manifest.from_csv(place.manifest("ravdess")).clips
    sizes = [len(sound.uri) for sound in clip_audio(clips[:4]).values()]
    monkeypatch.setattr("classifiers.reporting.hardest_clips.MAX_AUDIO", sum(sizes[:2]) + 1)
    assert [bool(sound.uri) for sound in clip_audio(clips[:4]).values()] == [True, True, False, False]
    monkeypatch.setattr("classifiers.reporting.hardest_clips.MAX_AUDIO", 2 * sizes[0] + 1)
    twice = list(clip_audio([*clips[:2], *clips[:2]]).values())
    assert [bool(sound.uri) for sound in twice] == [True, False], "a clip that is listed twice counts twice"


def test_a_recording_becomes_flac_that_browsers_play(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(0.5, 48_000, channels=2) * 3, 48_000)
    (tmp_path / "a.flac").write_bytes(Recording.load(path).flac(longest=0.25))
    sound, rate = soundfile.read(tmp_path / "a.flac")
    assert (sound.shape, rate, soundfile.info(tmp_path / "a.flac").subtype) == ((4000,), 16_000, "PCM_16")
    np.testing.assert_allclose(sound, np.clip(Recording.load(path).waveform(16_000)[:4000], -1, 1), atol=1e-4)


def test_the_hardest_clips_are_those_of_the_lowest_probability() -> None:
    (p,) = compare(toy_task(), ["logreg"], "speakers", n_folds=2, seeds=2, jobs=1)
    own = p.proba[np.arange(len(p.truth)), p.truth_columns]
    means = {clip: own[p.clip_ids == clip].mean() for clip in np.unique(p.clip_ids)}
    expected = sorted(means, key=lambda clip: means[clip])
    got = hardest_clips(p)
    assert [hard.clip_id for hard in got][:3] == [str(clip) for clip in expected[:3]]
    assert got[0].p_label == pytest.approx(means[expected[0]], rel=1e-5)


def hostile_run(folder: Path) -> Path:
    """A run in which every text is an attack, and numbers are none."""
    task = toy_task(n_layers=2, view="layers")
    y = np.where(task.y == "left", HOSTILE, "right")
    speakers = np.char.add(task.speakers, HOSTILE)
    task = Task(
        task.X, y, speakers, np.array([f"{n}{HOSTILE}" for n in range(len(y))]), dataset=f"d{HOSTILE}".replace("/", "")
    )
    (p,) = compare(replace(task, encoder=HOSTILE), ["logreg"], "speakers", n_folds=2, jobs=1)
    odd = {"train_loss": [-1.0], "val_loss": [1.0, float("nan")], "train_accuracy": [0.5, 0.6], HOSTILE: [3.0]}
    told = {
        "histories": (odd, {"train_loss": []}),
        "layer_weights": ([0.5, 0.5], [1.0]),
        "chosen": ({HOSTILE: HOSTILE},),
    }
    p = replace(p, head=HOSTILE, leaks="text", skipped=(HOSTILE, "\ud800"), params={HOSTILE: [HOSTILE]}, **told)
    save_predictions(folder, [p], {HOSTILE: HOSTILE})
    return folder


def test_a_run_from_a_stranger_is_read_and_not_run(tmp_path: Path) -> None:
    run = hostile_run(tmp_path / "run")
    path = write_report(Artifacts(tmp_path / "nowhere"), [str(run)])
    tags = Tags(path.read_text())
    assert not tags.crossed
    assert not {tag for tag, _ in tags.found} & {"script", "img", "iframe", "object", "embed", "form", "base"}
    assert not [name for _, given in tags.found for name in given if name.startswith("on")]
    links = [given[name] for _, given in tags.found for name in ("href", "src") if name in given]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert tags.text.count(HOSTILE) > 10
    assert sum(tag == "style" for tag, _ in tags.found) == 1


def test_a_leak_that_is_not_known_is_named() -> None:
    assert leaks_text("speaker+moon").endswith("; a leak that this version of ser does not know (moon).")


def test_a_run_with_very_many_labels_stays_small(tmp_path: Path) -> None:
    (p,) = compare(toy_task(), ["logreg"], "speakers", n_folds=2, jobs=1)
    labels = (*p.labels, *(f"l{n}" for n in range(60)))
    wide = np.hstack([p.proba, np.zeros((len(p.proba), 60), np.float32)])
    save_predictions(tmp_path / "run", [replace(p, labels=labels, proba=wide)], {})
    page = render(Artifacts(tmp_path), [tmp_path / "run"])
    assert "The confusion matrix of 62 labels is not shown" in page
    assert len(page) < 100_000


def test_colours_can_be_told_from_what_is_behind_them() -> None:
    """WCAG 2.2: 4.5 for text, 3 for marks, in light and in dark."""
    blocks = [palette.LIGHT, palette.DARK, palette.PAPER]
    written = re.findall(r":root \{(.*?)\}", palette.css_variables(), re.DOTALL)
    assert [dict(re.findall(r"--(\w+): (#\w+);", block)) for block in written] == blocks
    for colours in blocks:
        assert set(colours) == set(palette.LIGHT)
        for text in ("ink", "soft", "accent", "warm"):
            assert min(contrast(colours[text], colours[back]) for back in ("bg", "panel", "warn")) >= 4.5, text
        for back in ("shade", "below", "line"):
            assert contrast(colours["ink"], colours[back]) >= 4.5, back
        for mark in ("bar", "train", "held", "accent"):
            assert contrast(colours[mark], colours["bg"]) >= 3, mark


def test_colours_are_in_the_palette_alone(place: Artifacts, runs: list[Path]) -> None:
    folder = REPOSITORY / "classifiers" / "reporting"
    for path in [*folder.glob("*.py"), *folder.glob("*.css"), *folder.glob("*.html")]:
        colours = re.findall(r"#[0-9a-fA-F]{3,8}\b(?!\w)|rgba?\(|hsla?\(", path.read_text())
        assert path.name == "palette.py" or not colours, path.name
    css = (folder / "report.css").read_text()
    used = set(re.findall(r"var\(--(\w+)", css)) - {"s"}  # --s is the shade of a cell
    assert used <= set(palette.LIGHT)
    assert palette.css_variables() in render(place, runs[:1], audio=False)


def contrast(a: str, b: str) -> float:
    low, high = sorted(luminance(colour) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_the_command(
    place: Artifacts,
    runs: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ser(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["ser", "report", *map(str, arguments), "--artifacts", str(place.root)])
        with pytest.raises(SystemExit) as end:
            main()
        return (end.value.code, *capsys.readouterr())

    latest = place.runs / "2-speakers"
    assert ser("--no-audio") == (0, f"{latest / 'report.html'}\n", "")
    both = tmp_path / "both.html"
    assert ser(*(run.name for run in runs), "--out", both) == (0, f"{both}\n", "")
    assert "<h2>Gain from shared speakers</h2>" in both.read_text()
    drawn = []
    figures_of = "classifiers.reporting.paper_figures.files.save_paper_figures"
    monkeypatch.setattr(figures_of, lambda folder, made, progress: drawn.append((folder, len(made))) or [folder])
    code, _, err = ser(*(run.name for run in runs), "--no-audio", "--figures", tmp_path / "figures")
    assert code == 0
    assert err.endswith(f"1 file: {tmp_path / 'figures'}\n")
    assert drawn == [(tmp_path / "figures", 4)]
    code, out, err = ser("nope")
    assert (code, out) == (1, "")
    assert err.startswith("error: no run 'nope'; have 2-random, 2-speakers.")


def test_pages_that_cannot_be_written(place: Artifacts, runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(SerError, match="is a folder; wanted the name of a file"):
        write_report(place, [runs[0].name], tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SerError, match="is a pipe or a device"):
        write_report(place, [runs[0].name], tmp_path / "fifo")
    with pytest.raises(UnknownName):
        write_report(place, ["nope"])
    (tmp_path / "other").mkdir()
    copy = shutil.copytree(runs[0], tmp_path / "other" / runs[0].name)
    with pytest.raises(SerError, match="two runs are called"):
        render(place, [runs[0], copy])


# Names and numbers of rows that overlap each other, or the chance line, in the plots that are shown.
CROSSED = """[...document.querySelectorAll('.broad svg')].filter(s => s.getBoundingClientRect().width).flatMap(svg => {
    const box = e => e.getBoundingClientRect(), names = [...svg.querySelectorAll('.name')];
    const lines = [...svg.querySelectorAll('.chance')].filter(e => svg.clientWidth > 600);
    const cross = (a, b) => a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
    return names.filter((e, i) => names.slice(0, i).concat(lines).some(o => cross(box(o), box(e))))
        .map(e => e.textContent);
})"""
NARROWER = """[...document.querySelectorAll('#leaderboard article')].filter(a => innerWidth > 800 &&
    Math.abs(a.querySelector('.wide svg').clientWidth - a.querySelector('table').clientWidth) > 2)
    .map(a => a.textContent)"""


def test_in_a_browser(place: Artifacts, runs: list[Path], tmp_path: Path) -> None:
    """No errors, no requests, no overflow, light and dark, on paper; and a stranger's run does nothing."""
    path = write_report(place, [run.name for run in runs], tmp_path / "both.html")
    strange = write_report(
        Artifacts(tmp_path / "nowhere"), [str(hostile_run(tmp_path / "run"))], tmp_path / "strange.html"
    )
    with browser() as chromium:
        page, heard = watched(chromium)
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        for width in (390, 768, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(CROSSED) == [], "a name that a line of its plot crosses, or that another name covers"
            assert page.evaluate(NARROWER) == [], "a plot that is not as wide as the table below it"
        page.set_viewport_size({"width": 360, "height": 800})
        looks = []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            looks.append(page.screenshot())
        assert looks[0] != looks[1]
        page.wait_for_function("[...document.querySelectorAll('audio')].every(a => a.duration > 0.1)", timeout=10_000)
        assert page.locator("audio").count() == 4 * HARDEST
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = false)")
        page.emulate_media(media="print")
        assert page.locator(".matrix").last.is_visible(), "paper shows what is closed"
        assert page.pdf(format="A4").startswith(b"%PDF")
        assert heard == [path.as_uri()]
        page, heard = watched(chromium)
        page.goto(strange.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.locator("script, img, [onload], [onerror]").count() == 0
        assert heard == [strange.as_uri()]


def test_run_facts_come_from_the_run_alone(place: Artifacts, runs: list[Path]) -> None:
    run = json.loads((runs[0] / "run.json").read_text())
    text = Tags(render(place, runs[:1], audio=False)).text
    assert f"{run['created']} by version {run['version']}" in text
    assert run["heads"][0]["fold_hash"] in text
