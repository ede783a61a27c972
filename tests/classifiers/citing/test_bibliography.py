"""The publications: every key has an entry, every entry is cited, and every built-in thing has a key."""

import csv
import re

import pytest

from classifiers import heads
from classifiers.citing.bibliography import FIELD, FOLDER, author_year, bibtex, encoder_of, entries, keys_of
from embedcache import Dataset, datasets, encoders

WITHOUT = {("dataset", "folder"), ("encoder", "functionals"), ("head", "cnn")}  # no publication is known
CITED = list(csv.DictReader((FOLDER / "citations.csv").open(encoding="utf-8")))
KEYS = {key for row in CITED for key in row["keys"].split()}


def test_every_key_has_an_entry_and_every_entry_is_cited() -> None:
    assert set(entries()) == KEYS
    text = (FOLDER / "references.bib").read_text(encoding="utf-8")
    assert len(entries()) == text.count("@")
    assert text.isascii()


def test_whatever_is_built_in_has_a_key() -> None:
    known = {(row["kind"], row["name"]) for row in CITED}
    built_in = {("dataset", spec.name) for spec in datasets.all()}
    built_in |= {("encoder", spec.name) for spec in encoders.all()} | {("head", spec.name) for spec in heads.all()}
    assert built_in - WITHOUT <= known
    assert {pair for pair in known if pair[0] in ("dataset", "encoder", "head")} <= built_in


@pytest.mark.parametrize("key", sorted(KEYS))
def test_an_entry_has_what_a_reader_needs_to_find_it(key: str) -> None:
    entry = entries()[key]
    fields = dict(FIELD.findall(entry))
    assert {"author", "title", "year"} <= set(fields)
    assert {"journal", "booktitle", "publisher", "howpublished"} & set(fields)
    assert key.startswith(re.sub("[^a-z]", "", fields["author"].partition(",")[0].lower())[:7])
    assert fields["year"] in key
    assert entry.count("{") == entry.count("}")


@pytest.mark.parametrize("spec", [spec for spec in datasets.all() if spec.n_clips], ids=lambda spec: spec.name)
def test_an_entry_agrees_with_the_citation_of_the_dataset(spec: Dataset) -> None:
    (entry,) = (entries()[key] for key in keys_of("dataset", spec.name))
    fields = dict(FIELD.findall(entry))
    assert spec.citation.startswith(fields["author"].partition(",")[0])
    assert f"({fields['year']})" in spec.citation
    if found := re.search(r"doi:(\S+)", spec.citation):
        assert fields["doi"] == found[1].rstrip(".")


def test_names_of_authors() -> None:
    assert author_year("livingstone2018ravdess") == "Livingstone and Russo 2018"
    assert author_year("burkhardt2005emodb") == "Burkhardt et al. 2005"
    assert author_year("wilson1927probable") == "Wilson 1927"
    assert author_year("seamless2023") == "Seamless Communication 2023"
    assert author_year("eyben2010opensmile") == "Eyben et al. 2010"


def test_an_encoder_is_found_by_its_hub_id() -> None:
    found = encoder_of("facebook/wav2vec2-base@main")
    assert found is not None
    assert found.name == "wav2vec2-base"
    assert encoder_of("my_encoder") is None
    assert encoder_of("") is None


def test_an_entry_is_printed_once() -> None:
    assert bibtex(["wilson1927probable", "wilson1927probable"]).count("@article") == 1
