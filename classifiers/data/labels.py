"""Label views: how the labels of all datasets are mapped to the labels that heads are trained on.

    native           the labels as each dataset spells them
    emotion          all emotions, each with one spelling
    emotion6         neutral, happy, sad, angry, fear, disgust
    emotion4         neutral, happy, sad, angry
    gender-emotion   14 labels: the speaker's gender combined with one of seven emotions, which are the six of
                     `emotion6` and surprise; calm counts as neutral
    FILE.csv         a mapping of your own, with rows `from,to`; the target `drop` leaves a label out

No clip is dropped without notice: the target of every label is counted, shown and saved. A label without a target is an
error, because it may be misspelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from embedcache import DataError, UnknownName
from embedcache.errors import complain
from embedcache.files.tables import read_table
from embedcache.manifest import Clip
from embedcache.text import common_spellings, normal_name

from .csv_text import csv_text

NATIVE = "native"
DROP = "drop"

# The emotions of the built-in datasets, each with its accepted spellings.
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
    "contempt": ("contempt",),
}
EMOTIONS = {word: emotion for emotion, words in WORDS.items() for word in words}

GENDERS = {"female": "female", "f": "female", "male": "male", "m": "male"}
SIX = ("neutral", "happy", "sad", "angry", "fear", "disgust")
FOUR = SIX[:4]
SEVEN = (*SIX, "surprise")  # the emotions of published systems with gender-emotion labels, which count calm as neutral

LabelRule = Callable[[Clip], str]  # maps a clip to its label in a view; "" leaves the clip out


@dataclass(frozen=True)
class Change:
    """How a view maps one label of one dataset."""

    dataset: str
    label: str
    becomes: str  # label in the view; "" if the label is left out
    clips: int  # number of clips with this label


@dataclass(frozen=True)
class Labels:
    """The labels of a list of clips in a view."""

    view: str
    labels: tuple[str, ...]  # one label per clip; "" if the clip is left out
    changes: tuple[Change, ...]

    @property
    def dropped(self) -> int:
        """The number of clips that the view leaves out."""
        return sum(change.clips for change in self.changes if not change.becomes)

    def to_csv(self) -> str:
        """Return the text of labels.csv: `dataset, label, becomes, clips`, one row per label of each dataset."""
        return csv_text([(field.name for field in fields(Change)), *map(astuple, self.changes)])


def view_labels(clips: Sequence[Clip], view: str = NATIVE) -> Labels:
    """Return the labels of clips in a view.

    Raises UnknownName if there is no such view, DataError if the view has no target for a label.
    """
    rule = _rule_of_view(view, clips)
    labels = tuple(rule(clip) for clip in clips)
    counts = Counter((c.dataset, c.label, label) for c, label in zip(clips, labels, strict=True))
    return Labels(view, labels, tuple(Change(*change, counts[change]) for change in sorted(counts)))


def _rule_of_view(view: str, clips: Sequence[Clip]) -> LabelRule:
    if view == NATIVE:
        return lambda clip: clip.label
    if Path(view).suffix == ".csv":
        return _read_rule(Path(view), clips)
    if view not in VIEWS:
        raise UnknownName("label view", view, [NATIVE, *VIEWS], "A CSV file with the columns from,to works too")
    _require_targets(clips, EMOTIONS, f"--labels {view}", str.lower)
    return VIEWS[view](clips)


def _keep_emotions(emotions: Sequence[str]) -> Callable[[Sequence[Clip]], LabelRule]:
    targets = {word: emotion for word, emotion in EMOTIONS.items() if emotion in emotions}
    return lambda clips: lambda clip: targets.get(clip.label.lower(), "")


def _combine_gender_and_emotion(clips: Sequence[Clip]) -> LabelRule:
    unknown = {(clip.dataset, clip.gender) for clip in clips if clip.gender.lower() not in GENDERS}
    complaints = [f"{dataset}: {repr(gender) if gender else 'no gender given'}" for dataset, gender in sorted(unknown)]
    if complaints:
        advice = "Write female or male into the gender column of a CSV, or choose another label view."
        raise DataError(*complain("--labels gender-emotion needs the gender of every speaker", complaints, advice))
    targets = {word: emotion for word, emotion in EMOTIONS.items() if emotion in SEVEN} | {"calm": "neutral"}

    def combine(clip: Clip) -> str:
        emotion = targets.get(clip.label.lower())
        return f"{GENDERS[clip.gender.lower()]}_{emotion}" if emotion else ""

    return combine


def _read_rule(path: Path, clips: Sequence[Clip]) -> LabelRule:
    table = read_table(path, {}, ("from", "to"))
    rows = list(dict.fromkeys((row.cells["from"], row.cells["to"]) for row in table.rows))
    spellings = common_spellings([target for _, target in rows])
    targets = {normal_name(a): "" if b.lower() == DROP else spellings.get(b, b) for a, b in rows}
    faults = [f"'{label}' has no target" for label, target in rows if label and not target]
    times = Counter(normal_name(label) for label, _ in rows)
    faults += [f"'{label}' has {n} targets" for label, n in times.items() if n > 1]
    if faults:
        advice = "Write one row `from,to` for each label, or `from,drop` to leave a label out."
        raise DataError(*complain(f"{path} has faults", faults, advice))
    _require_targets(clips, targets, str(path), normal_name)
    return lambda clip: targets[normal_name(clip.label)]


def _require_targets(
    clips: Sequence[Clip], targets: Mapping[str, str], source: str, form: Callable[[str], str] = str
) -> None:
    """Raise DataError if a label, in the given form, has no target."""
    missing = sorted(
        {f"'{clip.label}' (dataset '{clip.dataset}')" for clip in clips if form(clip.label) not in targets}
    )
    if missing:
        raise DataError(
            f"{source} has no target for: {', '.join(missing)}. Use --labels FILE.csv with rows `from,to`, where the "
            "target `drop` leaves a label out; or leave that dataset out."
        )


def synonyms(labels: Labels) -> list[str]:
    """Return a note for each emotion that has several spellings in a view, as in a union of datasets."""
    spellings: dict[str, set[str]] = {}
    for change in labels.changes:
        spellings.setdefault(EMOTIONS.get(change.becomes.lower(), ""), set()).add(change.becomes)
    several = [sorted(words) for emotion, words in spellings.items() if emotion and len(words) > 1]
    quoted = [" and ".join(f"'{word}'" for word in words) for words in several]
    return [f"the labels {words} name one emotion; use --labels emotion to join them" for words in quoted]


VIEWS: Mapping[str, Callable[[Sequence[Clip]], LabelRule]] = {
    "emotion": _keep_emotions(tuple(WORDS)),
    "emotion6": _keep_emotions(SIX),
    "emotion4": _keep_emotions(FOUR),
    "gender-emotion": _combine_gender_and_emotion,
}
