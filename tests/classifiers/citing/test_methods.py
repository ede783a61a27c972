"""What a paper says about a run: the facts of the run, what ser does not know, and LaTeX that compiles."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.latex import HAS_LATEX, compiled, printed
from helpers.leaderboards import BALANCED, simulated

from classifiers import Predictions, compare, save_predictions
from classifiers.checks import toy_task
from classifiers.citing.methods import cite
from embedcache import Artifacts, UnknownName


@pytest.fixture
def place(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


def saved(place: Artifacts, predictions: list[Predictions], name: str = "run") -> str:
    save_predictions(place.runs / name, predictions, {})
    return name


def named(**fields: object) -> list[Predictions]:
    predictions = simulated(np.random.default_rng(0), 8, BALANCED, [0.7, 0.3])
    heads = ("ridge", "svm-tuned-calibrated")
    return [replace(p, head=head, **fields) for p, head in zip(predictions, heads, strict=True)]


def test_the_facts_of_a_run(place: Artifacts) -> None:
    known = {"dataset": "emodb", "encoder": "facebook/hubert-base-ls960", "protocol": "official", "fold_hash": "abc"}
    ridge, svm = named(**known, leaks="text+encoder?", label_view="emotion4")
    params = {"alpha": "chosen", "class_weight": "balanced"}
    chosen = ({"setting": {"alpha": 300.0}, "tried": 7}, {"setting": {"alpha": 0.000123456}, "tried": 7})
    ridge = replace(ridge, params=params, chosen=chosen)
    svm = replace(svm, params={"estimator__C": 10.0, "n_settings": 20})
    text = cite(place, [saved(place, [ridge, svm])])
    for sentence in (
        "The recordings are those of EMO-DB (Burkhardt et al. 2005).",
        "The labels of EMO-DB are label0, label1, label2 and label3, by the label view emotion4.",
        "checkpoint facebook/hubert-base-ls960 (Hsu et al. 2021).",
        "(alpha = chosen, class_weight = balanced) (Hoerl and Kennard 1970).",
        "ridge chose alpha = 300.0 in 1 fold; alpha = 0.000123 in 1 fold.",
        "temperature-scaled (C = 10.0) (Cortes and Vapnik 1995).",
        "-tuned compare up to 20 settings by UAR in each fold",
        "(Bergstra and Bengio 2012).",
        "(Guo et al. 2017).",
        "320 clips of 8 speakers, 4 labels (label view emotion4), chance UAR 0.250. Protocol official: 1 fold",
        "(hash of the folds abc).",
        "by speaker (8 speakers). The p-values are adjusted for all pairs of rows by step-down max-T",
        "WAR the share of clips whose label is predicted correctly, and macro-F1 the mean F1 over the labels",
        "not all training data of the encoder are known, so test clips may be among them (encoder?)",
        "with scikit-learn and PyTorch (Pedregosa et al. 2011; Paszke et al. 2019).",
        "The libraries are torch 2.",
        "@article{hoerl1970ridge,",
    ):
        assert sentence in text, sentence
    assert "not known to ser" not in text


def test_what_is_not_known_is_said(place: Artifacts) -> None:
    (own, _) = named(dataset="my_corpus+ravdess", encoder="my_ckpt")
    text = cite(place, [saved(place, [replace(own, head="my_head")])])
    for kind, name in (("dataset", "my_corpus"), ("encoder", "my_ckpt"), ("head", "my_head")):
        assert f"What to cite for the {kind} {name} is not known to ser: cite its publication" in text
    assert "Livingstone and Russo 2018" in text
    (cnn, _) = named()
    text = cite(place, [saved(place, [replace(cnn, head="cnn")], "2")])
    assert "its source is: E. J. Lok 2019, Audio Emotion part 6" in text
    assert "Westfall" not in text  # one row is compared with none


@pytest.mark.parametrize("params", [{"n_settings": "x"}, {"n_settings": [1], "C": {"a": 1}}, {}])
@pytest.mark.parametrize("chosen", [(), ({"setting": 3},), ({"setting": {"a": [1, {"b": "\n"}]}},), ({},)])
def test_odd_parameters_are_no_crash(place: Artifacts, params: dict, chosen: tuple) -> None:
    found = named(dataset="ravdess->emodb", protocol="partition:t1")
    odd = [replace(p, params=params, chosen=chosen, folds=np.full(len(p.folds), "t1")) for p in found]
    text = cite(place, [saved(place, odd)])
    assert "-tuned compare up to several settings by UAR" in text
    assert "Protocol partition:t1" in text
    assert "Livingstone and Russo 2018" in text
    assert "Burkhardt et al. 2005" in text


def test_what_a_run_does_not_have_is_not_said(place: Artifacts) -> None:
    """One row was not selected, two speakers give no interval, and a fold without inner folds chose nothing."""
    text = cite(place, [saved(place, named()[:1])])
    assert "Confidence intervals of 95 % are over test speakers" in text
    assert "extended" not in text
    assert "extended downwards, because the row was selected" in cite(place, [saved(place, named(), "2")])
    assert not re.search(r"fingerprint|\(\)|hash of the folds", text)
    few = [replace(p, speakers=np.where(p.speakers == "s0", "s0", "s1")) for p in named()]
    assert "intervals" not in cite(place, [saved(place, few, "3")])
    (ridge, _) = named()
    without = replace(
        ridge, chosen=({"setting": {"alpha": 300.0}, "tried": 0}, {"setting": {"alpha": 1.0}, "tried": 7})
    )
    text = cite(place, [saved(place, [without], "4")])
    assert "ridge chose alpha = 1.0 in 1 fold." in text
    assert "ridge: in 1 of 2 folds the training clips allow no inner folds that keep speakers apart" in text


def test_an_adapted_row_says_by_what(place: Artifacts) -> None:
    task = replace(toy_task(), dataset="emodb")
    predictions = compare(task, ["logreg"], "speakers", n_folds=2, jobs=1, adapt=("0", "5"))
    text = cite(place, [saved(place, predictions)])
    assert "standardised by 5 of the speaker's clips" in text
    assert "(Efron and Morris 1973)" in text


def test_an_earlier_run_says_no_versions(place: Artifacts) -> None:
    path = place.runs / saved(place, named()) / "run.json"
    run = json.loads(path.read_text())
    assert set(run.pop("libraries")) == {"torch", "scikit-learn", "lightgbm", "numpy"}
    path.write_text(json.dumps(run))
    assert "The run does not say which versions of torch and scikit-learn it used." in cite(place)


def test_a_run_that_does_not_exist(place: Artifacts) -> None:
    with pytest.raises(UnknownName, match="no run 'x'"):
        cite(place, ["x"])


@HAS_LATEX
def test_pdflatex_and_bibtex_print_the_methods(place: Artifacts, tmp_path: Path) -> None:
    known = {"dataset": "ravdess+my_corpus#1", "encoder": "mfcc+wav2vec2-base", "protocol": "speakers"}
    run = saved(place, named(**known, leaks="audio~+text?"))
    body = cite(place, [run], "latex") + "\n\\bibliographystyle{plain}\n\\bibliography{references}\n"
    log = compiled(body, tmp_path, cite(place, [run], "bibtex"))
    assert "undefined" not in log
    assert "my corpus#1" in printed(tmp_path)  # the underscore is a line


@HAS_LATEX
def test_bibtex_reads_every_entry(tmp_path: Path) -> None:
    from classifiers.citing.bibliography import bibtex, entries

    body = "\\nocite{*}\\bibliographystyle{plain}\n\\bibliography{references}\n"
    log = compiled(body, tmp_path, bibtex(entries()))
    assert "Error" not in log
