"""IEMOCAP in its four-class convention: ten speakers in five sessions, 5,531 of 10,039 utterances (Busso et al. 2008).

A file name is `<dialogue>_<speaker><number>` (`Ses01F_impro01_M003`: session 1, spoken by the man). The category on
which the annotators agreed is in `SessionN/dialog/EmoEvaluation/<dialogue>.txt`. The convention uses four classes:
neutral, happy (merged with excited), sad and angry. Utterances with another category or without one are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..dataset import Dataset, scan_names
from ..errors import DataError
from ..files.untrusted import check_file
from ..manifest import Clip
from . import _folds

DIALOGUE = r"(Ses0[1-5])[FM]_((?:impro|script)\w+?)"
NAME = re.compile(
    rf"/{DIALOGUE}(?:_([FM])\d{{3}})?$", re.IGNORECASE
)  # a name without the last part is that of a whole dialogue
LINE = re.compile(r"^\[[\d.]+ - [\d.]+\]\t(\w+)\t(\w+)\t", re.MULTILINE)
EMOTIONS = {"neu": "neutral", "hap": "happy", "exc": "happy", "sad": "sad", "ang": "angry"}
GENDERS = {"F": "female", "M": "male"}
EVALUATIONS = "dialog/EmoEvaluation/Ses*.txt"
LARGEST = 1 << 24  # maximum size of an evaluation file, in bytes; the real ones have about 50,000
LAYOUT = (
    "SessionN/sentences/wav/<dialogue>/Ses01F_impro01_F000.wav, with the categories in SessionN/dialog/EmoEvaluation"
)


def scan(root: Path) -> list[Clip]:
    """Return the utterances of the four classes below `root`.

    Raises DataError if the category of an utterance is in no evaluation file.
    """
    categories = {name.casefold(): (name, category) for name, category in _read_categories(root)}

    def clip(match: re.Match[str], path: Path) -> Clip | None:
        session, style, gender = match.groups()
        if gender is None:
            return None
        if path.stem.casefold() not in categories:
            raise ValueError(f"no file {EVALUATIONS} gives its category")
        name, category = categories[path.stem.casefold()]
        session, gender = session.capitalize(), gender.upper()
        extra = {
            "session": session[-1],
            "style": "scripted" if style.lower().startswith("script") else "improvised",
            "category": category,
        }
        label = EMOTIONS.get(category)
        return Clip("iemocap", name, str(path), label, session + gender, GENDERS[gender], extra) if label else None

    return scan_names(root, LAYOUT, NAME, clip)


def _read_categories(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each utterance and its category from the files below `root`, which may be the folder of one session."""
    for path in sorted({*root.glob(f"**/{EVALUATIONS}")}):
        check_file(path, LARGEST, DataError)
        yield from LINE.findall(path.read_text(encoding="utf-8", errors="replace"))


dataset = Dataset(
    name="iemocap",
    title="IEMOCAP, four classes",
    acted=True,
    licence="research only, with a signed release form",
    citation="Busso C et al. (2008). Language Resources and Evaluation 42: 335-359. doi:10.1007/s10579-008-9076-6",
    source="https://sail.usc.edu/iemocap, with a signed release form",
    how_to_apply="Fill in the release form at https://sail.usc.edu/iemocap/iemocap_release.htm. `ser` reads the folder "
    "that contains Session1 to Session5.",
    layout=LAYOUT,
    scan=scan,
    names=re.compile(rf"/{DIALOGUE}_[FM]\d{{3}}$"),
    language="English",
    labels=tuple(sorted(set(EMOTIONS.values()))),
    n_clips=5531,
    n_speakers=10,
    rates=(16_000,),
    official_folds=_folds.official("iemocap"),
    official_source=_folds.source("iemocap"),
    emo_superb_folds=_folds.emo_superb("iemocap"),
)
