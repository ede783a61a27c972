"""The publications of datasets, encoders, heads and methods: `references.bib`, and `citations.csv` with their keys."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from embedcache import EncoderSpec, encoders
from embedcache.files.tables import read_rows

FOLDER = Path(__file__).parent
ENTRY = re.compile(r"^@\w+\{([\w-]+),\n.*?^\}\n", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^  (\w+) = \{(.*)\},$", re.MULTILINE)


def keys_of(kind: str, name: str) -> tuple[str, ...]:
    """Return the BibTeX keys of a dataset, encoder, head, protocol or method; none if its publication is not known."""
    return _keys().get((kind, name), ())


def encoder_of(name: str) -> EncoderSpec | None:
    """Return the built-in encoder with a name, or with a hub id such as `facebook/wav2vec2-base@main`; else None."""
    name = name.partition("@")[0]
    return next((spec for spec in encoders.all() if name and name in (spec.name, spec.checkpoint)), None)


def bibtex(keys: Iterable[str]) -> str:
    """Return the entries of publications, sorted by key."""
    return "\n".join(entries()[key] for key in sorted(set(keys)))


def author_year(key: str) -> str:
    """Return a publication as `Livingstone and Russo 2018`; three authors or more are `Burkhardt et al. 2005`."""
    fields = dict(FIELD.findall(entries()[key]))
    surnames = [author.partition(",")[0].strip("{}") for author in fields["author"].split(" and ")]
    names = " and ".join(surnames) if len(surnames) < 3 else f"{surnames[0]} et al."
    return f"{names} {fields['year']}"


@functools.cache
def entries() -> Mapping[str, str]:
    """Return the text of each publication by its key."""
    text = (FOLDER / "references.bib").read_text(encoding="utf-8")
    return {found[1]: found[0] for found in ENTRY.finditer(text)}


@functools.cache
def _keys() -> Mapping[tuple[str, str], tuple[str, ...]]:
    rows = read_rows(FOLDER / "citations.csv", ("kind", "name", "keys"))
    return {(row["kind"], row["name"]): tuple(row["keys"].split()) for row in rows}
