"""One label space: what each dataset's labels mean, and the views of them that heads are trained on.

    native           as the dataset spells them
    emotion          every emotion, in one spelling
    emotion6         neutral, happy, sad, angry, fear, disgust
    emotion4         neutral, happy, sad, angry
    gender-emotion   14 classes, the speaker's gender and one of seven emotions: those six and surprise; calm is neutral
    FILE.csv         rows `from,to` of one's own; `drop` leaves a label out

Nothing is dropped quietly: what became of every label is counted, shown and saved. A label that no table knows is an
error, for it may be misspelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from embedcache import DataError, UnknownName
from embedcache.errors import complain
from embedcache.manifest import Clip, read_rows

from .csv_text import csv_text

NATIVE = "native"
DROP = "drop"

# Every label of the built-in datasets, and the other words for them that recordings of one's own may use.
WORDS = {
    "neutral": ("neutral",),
    "calm": ("calm",),
    "happy": ("happy", "happiness", "joy"),
    "sad": ("sad", "sadness"),
    "angry": ("angry", "anger"),
    "fear": ("fear", "fearful", "anxiety"),
    "disgust": ("disgust", "disgusted"),
    "surprise": ("surprise", "surprised"),
    "boredom": ("boredom", "bored"),
}
EMOTIONS = {word: emotion for emotion, words in WORDS.items() for word in words}

GENDERS = {"female": "female", "f": "female", "male": "male", "m": "male"}
SIX = ("neutral", "happy", "sad", "angry", "fear", "disgust")
FOUR = SIX[:4]
SEVEN = (*SIX, "surprise")  # those of the systems with gender-emotion classes, which count calm as neutral

LabelRule = Callable[[Clip], str]  # a clip's label in a view; "" leaves it out


@dataclass(frozen=True)
class Change:
    """What became of one label of one dataset."""

    dataset: str
    label: str
    becomes: str  # "" where it is left out
    clips: int


@dataclass(frozen=True)
class Labels:
    """The labels of some clips in a view."""

    view: str
    labels: tuple[str, ...]  # one a clip; "" is left out
    changes: tuple[Change, ...]

    @property
    def dropped(self) -> int:
        """Clips that are left out."""
        return sum(change.clips for change in self.changes if not change.becomes)

    def to_csv(self) -> str:
        """The text of labels.csv: `dataset, label, becomes, clips`, a row for each label of each dataset."""
        return csv_text([(field.name for field in fields(Change)), *map(astuple, self.changes)])


def view_labels(clips: Sequence[Clip], view: str = NATIVE) -> Labels:
    """The labels of clips in a view. Raises UnknownName for a view, DataError for a label, that no table has."""
    table = _table(view, clips)
    labels = tuple(table(clip) for clip in clips)
    counts = Counter((c.dataset, c.label, label) for c, label in zip(clips, labels, strict=True))
    return Labels(view, labels, tuple(Change(*change, counts[change]) for change in sorted(counts)))


def _table(view: str, clips: Sequence[Clip]) -> LabelRule:
    if view == NATIVE:
        return lambda clip: clip.label
    if Path(view).suffix == ".csv":
        return _from_file(Path(view), clips)
    if view not in VIEWS:
        raise UnknownName("label view", view, [NATIVE, *VIEWS], "A CSV file with the columns from,to works too")
    _refuse_unknown(clips, EMOTIONS, f"--labels {view}")
    return VIEWS[view](clips)


def _only(emotions: Sequence[str]) -> Callable[[Sequence[Clip]], LabelRule]:
    kept = {word: emotion for word, emotion in EMOTIONS.items() if emotion in emotions}
    return lambda clips: lambda clip: kept.get(clip.label, "")


def _gendered(clips: Sequence[Clip]) -> LabelRule:
    strange = {(clip.dataset, clip.gender) for clip in clips if clip.gender.lower() not in GENDERS}
    unknown = [f"{dataset}: {repr(gender) if gender else 'no gender given'}" for dataset, gender in sorted(strange)]
    if unknown:
        advice = "Write female or male into the gender column of a CSV, or choose another view."
        raise DataError(complain("--labels gender-emotion needs the gender of every speaker", unknown, advice))
    seven = {word: emotion for word, emotion in EMOTIONS.items() if emotion in SEVEN} | {"calm": "neutral"}
    return lambda clip: f"{GENDERS[clip.gender.lower()]}_{seven[clip.label]}" if clip.label in seven else ""


def _from_file(path: Path, clips: Sequence[Clip]) -> LabelRule:
    rows = list(dict.fromkeys((row["from"].strip(), row["to"].strip()) for row in read_rows(path, ("from", "to"))))
    table = {label: "" if target.lower() == DROP else target for label, target in rows}
    faults = [f"'{label}' has no target" for label, target in rows if label and not target]
    faults += [f"'{label}' has {n} targets" for label, n in Counter(label for label, _ in rows).items() if n > 1]
    if faults:
        raise DataError(complain(f"{path} has faults", faults, "Write one row `from,to` a label, or `from,drop`."))
    _refuse_unknown(clips, table, str(path))
    return lambda clip: table[clip.label]


def _refuse_unknown(clips: Sequence[Clip], table: Mapping[str, str], where: str) -> None:
    if unknown := sorted({f"{clip.label} (of {clip.dataset})" for clip in clips if clip.label not in table}):
        raise DataError(
            f"{where} does not say what becomes of: {', '.join(unknown)}. Use --labels FILE.csv with rows "
            "`from,to`, where the target `drop` leaves a label out; or leave that dataset out."
        )


def synonyms(labels: Labels) -> list[str]:
    """A sentence on each emotion that stands under several words in a view, as in a union of datasets."""
    words: dict[str, set[str]] = {}
    for change in labels.changes:
        words.setdefault(EMOTIONS.get(change.becomes, ""), set()).add(change.becomes)
    several = [sorted(found) for emotion, found in words.items() if emotion and len(found) > 1]
    return [f"{' and '.join(found)} are one emotion in two words; --labels emotion joins them" for found in several]


VIEWS: Mapping[str, Callable[[Sequence[Clip]], LabelRule]] = {
    "emotion": _only(tuple(WORDS)),
    "emotion6": _only(SIX),
    "emotion4": _only(FOUR),
    "gender-emotion": _gendered,
}
