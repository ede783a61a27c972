"""Sentences about the methods of runs, for a paper. Every statement follows from the run folders.

What `ser` does not know, such as the publication of a dataset of one's own, is a sentence, too.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from embedcache import Artifacts, DataError, datasets
from embedcache.files.untrusted import read_json
from embedcache.text import count, one_line

from ..data.labels import NATIVE
from ..data.latex_text import latex_text
from ..evaluation.leaderboard import Row, Table, tables
from ..evaluation.predictions import Predictions
from ..evaluation.row_texts import SUFFIXES, registered_head, without_inner_folds
from ..evaluation.run_folder import MAX_BYTES, find_runs, load_predictions
from ..evaluation.statistics import ALPHA
from ..protocols.catalogue import base_name
from ..reporting.paper_tables import dataset_title, title_text
from ..reporting.terminal_tables import (
    adaptation_text,
    enumerated,
    leaks_found,
    smallest_difference_text,
    untested_text,
)
from .bibliography import author_year, bibtex, encoder_of, keys_of

UNKNOWN = "What to cite for the {kind} {name} is not known to ser: cite its publication"
POOLED = (
    "The predictions of all test clips of a table are pooled, and each score is computed once over all of them. UAR is "
    "the mean recall over the labels, WAR the share of clips whose label is predicted correctly, and macro-F1 the mean "
    "F1 over the labels"
)
INTERVALS = (
    "Confidence intervals of 95 % are over test speakers: jackknife over speakers, Student's t and Wilson's bounds"
)
TEST = (
    "Rows are compared with the best row of their table by a paired permutation test that swaps the predictions of two "
    "rows by speaker ({speakers} speakers). The p-values are adjusted for all pairs of rows by step-down max-T, and a "
    f"difference is significant at α = {ALPHA:g}"
)
UNEQUAL = "Rows without a significant difference from the best row need not be equal to it"
SELECTED = "; that of the row ranked first is extended downwards, because the row was selected for its score"
STRENGTHS = (
    "Parameters with the value “chosen” are chosen anew in each fold by the log-loss at its best temperature, with "
    "equal weights of the labels, on inner folds of the training clips that hold out whole speakers, or on development "
    "clips"
)
TUNED = (
    "Heads named -tuned compare up to {n} settings by UAR in each fold, on inner folds of the training clips that hold "
    "out whole speakers, or on development clips"
)
CALIBRATED = (
    "The probabilities of heads named -calibrated are scaled by a temperature, which is fitted in each fold on "
    "held-out training clips or on development clips"
)
LEAKING = "A caution about the scores of {names}: {leaks}"
LIBRARIES_UNKNOWN = "The run does not say which versions of torch and scikit-learn it used"
NETWORKS = {"attention", "cnn", "layer_cnn", "layer_weighted", "mlp"}  # heads that torch fits
OWN = "functionals"  # encoder without a publication of its own
NO_SETTINGS = {"approximate", "calibrate", "n_settings", "groups", "space"}  # parameters that sentences describe


@dataclass(frozen=True)
class Sentence:
    """A sentence without its full stop, and the keys of the publications that it cites."""

    text: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paragraph:
    """Sentences about one subject."""

    heading: str
    sentences: tuple[Sentence, ...]


def cite(artifacts: Artifacts, runs: Sequence[str] = (), form: str = "text") -> str:
    """Return what a paper says and cites about runs, given by name or folder; by default the latest.

    `form` is "text" (sentences, then BibTeX), "latex" (sentences that cite keys) or "bibtex". Raises UnknownName if a
    run does not exist, DataError if it cannot be read.
    """
    folders = find_runs(artifacts, runs) if runs else find_runs(artifacts)[-1:]
    predictions = list(chain.from_iterable(map(load_predictions, folders)))
    paragraphs = describe(predictions, list(map(_libraries, folders)))
    entries = bibtex(key for p in paragraphs for sentence in p.sentences for key in sentence.keys)
    if form == "bibtex":
        return entries
    return latex(paragraphs) if form == "latex" else f"{plain_text(paragraphs)}\n{entries}"


def plain_text(paragraphs: Sequence[Paragraph]) -> str:
    """Return paragraphs as text that names authors and years."""

    def sentence_text(sentence: Sentence) -> str:
        cited = f" ({'; '.join(map(author_year, sentence.keys))})" if sentence.keys else ""
        return f"{one_line(sentence.text)}{cited}."

    return "".join(f"{p.heading}. {' '.join(map(sentence_text, p.sentences))}\n\n" for p in paragraphs)


def latex(paragraphs: Sequence[Paragraph]) -> str:
    """Return paragraphs as LaTeX that cites the keys of the BibTeX entries."""

    def sentence_text(sentence: Sentence) -> str:
        cited = f"~\\cite{{{','.join(sentence.keys)}}}" if sentence.keys else ""
        return f"{latex_text(sentence.text)}{cited}."

    blocks = ["\n".join([f"\\paragraph{{{p.heading}}}", *map(sentence_text, p.sentences)]) for p in paragraphs]
    return "\n\n".join(blocks) + "\n"


def describe(predictions: Sequence[Predictions], libraries: Sequence[Mapping[str, str]]) -> list[Paragraph]:
    """Return the paragraphs about runs. `libraries` are the versions of libraries that each run has recorded."""
    ranked = tables(predictions)
    found = {
        "Data": _data(predictions),
        "Vectors": _vectors(predictions),
        "Classifiers": _classifiers(predictions),
        "Evaluation": _evaluation(ranked),
        "Statistics": _statistics(ranked),
        "Leaks": _leaks(ranked),
        "Software": _software(predictions, libraries),
    }
    return [Paragraph(heading, tuple(sentences)) for heading, sentences in found.items() if sentences]


def _data(predictions: Sequence[Predictions]) -> list[Sentence]:
    names = dict.fromkeys(part for p in predictions for part in re.split(r"\+|->", p.dataset))
    sentences = [_dataset(name) for name in names]
    for dataset, view, labels in dict.fromkeys((p.dataset, p.label_view, p.labels) for p in predictions):
        mapped = f", by the label view {view}" if view != NATIVE else ""
        sentences.append(Sentence(f"The labels of {dataset_title(dataset)} are {enumerated(labels)}{mapped}"))
    for dataset, skipped in dict.fromkeys((p.dataset, len(p.skipped)) for p in predictions if p.skipped):
        sentences.append(
            Sentence(f"Of {dataset_title(dataset)}, {count(skipped, 'clip')} without vectors are left out")
        )
    for copies, how in dict.fromkeys((p.copies, p.augment) for p in predictions if p.copies):
        sentences.append(Sentence(f"Augmented copies of each training clip: {copies} ({how})"))
    return sentences


def _dataset(name: str) -> Sentence:
    spec = datasets.find(name)
    if keys := keys_of("dataset", name):
        return Sentence(f"The recordings are those of {dataset_title(name)}", keys)
    if spec and spec.n_clips:
        return Sentence(f"The recordings are those of {spec.title}, whose package says to cite: {spec.citation}")
    return Sentence(UNKNOWN.format(kind="dataset", name=name))


def _vectors(predictions: Sequence[Predictions]) -> list[Sentence]:
    sentences = []
    for name, fingerprint in dict.fromkeys((p.encoder, p.fingerprint[:12]) for p in predictions):
        parts = _encoder_names(name)
        joined = f", which joins {enumerated(parts)}" if len(parts) > 1 else ""
        known = f" (fingerprint {fingerprint})" if fingerprint else ""
        text = f"The clips are encoded by the frozen encoder {name}{joined}{known}"
        sentences += [Sentence(text), *map(_encoder, parts)]
    return list(dict.fromkeys(sentences))


def _encoder_names(name: str) -> list[str]:
    """Return the encoders that an encoder joins, or itself."""
    return [name] if encoder_of(name) else name.split("+")


def _encoder(name: str) -> Sentence:
    spec = encoder_of(name)
    if spec is None:
        return Sentence(UNKNOWN.format(kind="encoder", name=name))
    checkpoint = f", checkpoint {spec.checkpoint}" if spec.checkpoint else ""
    keys = keys_of("encoder", spec.name)
    if spec.name == OWN:
        return Sentence(f"{name}: {spec.about}; these are part of ser and have no publication of their own")
    unknown = "" if keys else f". {UNKNOWN.format(kind='encoder', name=name)}"
    return Sentence(f"{name}: {spec.about}{checkpoint}{unknown}", keys)


def _classifiers(predictions: Sequence[Predictions]) -> list[Sentence]:
    by_head: dict[str, list[Predictions]] = {}
    for p in predictions:
        by_head.setdefault(p.head, []).append(p)
    sentences = [sentence for some in by_head.values() for sentence in _head(some)]
    if any("chosen" in map(str, p.params.values()) for p in predictions):
        sentences.append(Sentence(STRENGTHS))
    tuned = [p.params.get("n_settings") for p in predictions if SUFFIXES[1] in p.head]
    if tuned:
        most = max((n for n in tuned if isinstance(n, int)), default="several")
        sentences.append(Sentence(TUNED.format(n=most), keys_of("method", "tuning")))
    if any(SUFFIXES[0] in p.head for p in predictions):
        sentences.append(Sentence(CALIBRATED, keys_of("method", "calibration")))
    return [*sentences, *map(Sentence, without_inner_folds(predictions))]


def _head(predictions: Sequence[Predictions]) -> list[Sentence]:
    """Return the sentences on one head: what it is, its parameters, and what it chose."""
    name, params = predictions[0].head, predictions[0].params
    spec = registered_head(name)
    keys = keys_of("head", spec.name) if spec else ()
    about = f"{name}: {spec.about}" if spec else name
    settings = ", ".join(f"{key.rpartition('__')[2]} = {_setting(v)}" for key, v in params.items() if _is_setting(key))
    sentences = [Sentence(f"{about}{f' ({settings})' if settings else ''}", keys)]
    chosen = Counter(text for p in predictions for fold in p.chosen if (text := _chosen_text(fold)))
    if chosen:
        folds = "; ".join(f"{text} in {count(n, 'fold')}" for text, n in chosen.most_common(3))
        more = f"; {count(len(chosen) - 3, 'other setting')}" if len(chosen) > 3 else ""
        sentences.append(Sentence(f"{name} chose {folds}{more}"))
    if not keys:
        source = f"; its source is: {spec.source}" if spec else ""
        sentences.append(Sentence(UNKNOWN.format(kind="head", name=name) + source))
    return sentences


def _is_setting(name: str) -> bool:
    return name.rpartition("__")[2] not in NO_SETTINGS


def _setting(found: Any) -> str:
    return "+".join(map(str, found)) if isinstance(found, list) else str(found)


def _chosen_text(chosen: Mapping[str, Any]) -> str:
    """Return what was chosen in a fold, such as `C = 1.0`; "" if there was nothing to choose from."""
    setting = chosen.get("setting")
    if not isinstance(setting, dict) or not chosen.get("tried", 1):
        return ""
    return " and ".join(f"{key} = {_rounded(found)}" for key, found in setting.items() if not isinstance(found, dict))


def _rounded(found: Any) -> str:
    """Return a setting as text: a number such as gamma, which is computed from the data, has three digits."""
    return f"{found:.3g}" if isinstance(found, float) and found != round(found, 3) else str(found)


def _evaluation(ranked: Sequence[Table]) -> list[Sentence]:
    sentences = []
    for table in ranked:
        first = table.rows[0]
        spec = datasets.find(first.dataset)
        official = spec.official_source if spec and base_name(first.protocol) == "official" else ""
        emobox = keys_of("method", "emobox") if official.startswith("EmoBox") else ()
        keys = (*keys_of("protocol", base_name(first.protocol)), *emobox)
        tested = title_text(table.rows).removesuffix(".")
        known = f" (hash of the folds {first.fold_hash})" if first.fold_hash else ""
        sentences.append(Sentence(f"{tested}{known}", keys))
        for text in adaptation_text(table.rows):
            sentences.append(Sentence(text.removesuffix("."), keys_of("method", "adaptation")))
    return sentences


def _statistics(ranked: Sequence[Table]) -> list[Sentence]:
    sentences = [Sentence(POOLED)]
    compared = [table.rows for table in ranked if len(table.rows) > 1]
    if any(not math.isnan(row.uar_low) for table in ranked for row in table.rows):
        sentences.append(Sentence(INTERVALS + (SELECTED if compared else ""), keys_of("method", "intervals")))
    for reason in dict.fromkeys(filter(None, map(untested_text, compared))):
        sentences.append(Sentence(reason.removesuffix(".")))
    if tested := [rows for rows in compared if not untested_text(rows)]:
        speakers = enumerated([str(n) for n in dict.fromkeys(rows[0].n_speakers for rows in tested)])
        sentences.append(Sentence(TEST.format(speakers=speakers), keys_of("method", "tests")))
        sentences.append(Sentence(UNEQUAL))
        sentences += map(Sentence, filter(None, map(_smallest_difference, tested)))
    return sentences


def _smallest_difference(rows: Sequence[Row]) -> str:
    """Return a sentence on the smallest difference that the test of a table could have found; "" for none."""
    text = smallest_difference_text(rows).removesuffix(".")
    return f"{dataset_title(rows[0].dataset)}, protocol {rows[0].protocol}: {text[0].lower()}{text[1:]}" if text else ""


def _leaks(ranked: Sequence[Table]) -> list[Sentence]:
    found: dict[str, list[str]] = {}
    for row in chain.from_iterable(table.rows for table in ranked):
        found.setdefault(row.leaks, []).append(f"{dataset_title(row.dataset)}, protocol {row.protocol}, {row.encoder}")
    return [
        Sentence(LEAKING.format(names="; ".join(dict.fromkeys(names)), leaks=leaks_found(leaks)))
        for leaks, names in found.items()
        if leaks
    ]


def _software(predictions: Sequence[Predictions], libraries: Sequence[Mapping[str, str]]) -> list[Sentence]:
    versions = enumerated(list(dict.fromkeys(p.version for p in predictions)))
    texts = dict.fromkeys(", ".join(f"{name} {v}" for name, v in some.items()) for some in libraries)
    torch = any(map(_uses_torch, predictions))
    keys = (*keys_of("method", "scikit-learn"), *(keys_of("method", "torch") if torch else ()))
    return [
        Sentence(f"The software is ser {versions}, with scikit-learn{' and PyTorch' if torch else ''}", keys),
        *(Sentence(f"The libraries are {text}" if text else LIBRARIES_UNKNOWN) for text in texts),
    ]


def _uses_torch(p: Predictions) -> bool:
    """Whether torch fitted the head or ran the encoder."""
    head, specs = registered_head(p.head), map(encoder_of, _encoder_names(p.encoder))
    return bool(head and head.name in NETWORKS) or any(spec and spec.checkpoint for spec in specs)


def _libraries(folder: Path) -> Mapping[str, str]:
    """Return the versions of libraries in run.json; empty if an earlier version of ser wrote it."""
    found = read_json(folder / "run.json", MAX_BYTES, DataError).get("libraries")
    return {str(name): str(version) for name, version in found.items()} if isinstance(found, dict) else {}
