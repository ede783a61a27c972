"""CREMA-D: 91 actors, twelve sentences, six emotions (Cao et al. 2014).

A name is `<actor>_<sentence>_<emotion>_<level>`; only the sentence IEO was recorded at three levels. The actors' sex
stands in `VideoDemographics.csv`, which is read where it lies beside the recordings; most copies lack it.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ..dataset import Dataset, KnownFault, scan_names
from ..manifest import Clip, read_rows
from . import _folds, _remotes

NAME = re.compile(r"/(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{2})$")
EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": ""}  # XX: not specified
WOMEN = frozenset(
    re.findall(
        r"\d+",
        "1002 1003 1004 1006 1007 1008 1009 1010 1012 1013 1018 1020 1021 1024 1025 1028 1029 1030 1037 1043 1046 1047 "
        "1049 1052 1053 1054 1055 1056 1058 1060 1061 1063 1072 1073 1074 1075 1076 1078 1079 1082 1084 1089 1091",
    )
)
ACTORS = {str(actor): "female" if str(actor) in WOMEN else "male" for actor in range(1001, 1092)}
DEMOGRAPHICS = "VideoDemographics.csv"
LAYOUT = "names like AudioWAV/1001_DFA_ANG_XX.wav (actor_sentence_emotion_level)"
PAIRS = ("1006_TIE_HAP 1006_TIE_NEU", "1013_WSI_DIS 1013_WSI_SAD", "1017_IWW_ANG 1017_IWW_FEA")
FAULTS = (
    KnownFault(("1076_MTI_SAD_XX",), "has no sound", "the dataset's README", left_out=True),
    *(
        KnownFault(
            clips=tuple(f"{clip}_XX" for clip in pair.split()),
            what="one recording, byte for byte, under two labels",
            source="the published checksums, which are equal",
            left_out=True,
        )
        for pair in PAIRS
    ),
)


def clip(match: re.Match[str], path: Path, genders: dict[str, str]) -> Clip | None:
    """The clip that a name describes; None for the repository's MP3s beside it; ValueError for an unknown code."""
    if path.parent.name == "AudioMP3" and path.parent.with_name("AudioWAV").is_dir():
        return None
    actor, sentence, emotion, level = match.groups()
    for code, known in ((actor, genders), (sentence, SENTENCES), (emotion, EMOTIONS), (level, LEVELS)):
        if code not in known:
            raise ValueError(f"code {code}, wanted one of {', '.join(known)}")
    extra = {"text": sentence, "intensity": LEVELS[level]}
    given = {name: value for name, value in extra.items() if value}
    return Clip("cremad", path.stem, str(path), EMOTIONS[emotion], actor, genders[actor], given)


def scan(root: Path) -> list[Clip]:
    """All clips below `root`. Raises DataError for names that are not CREMA-D's."""
    return scan_names(root, LAYOUT, NAME, functools.partial(clip, genders=ACTORS | _demographics(root)))


def _demographics(root: Path) -> dict[str, str]:
    """Actor -> gender, as the dataset's own table says, if it is there: in `root`, or beside it."""
    table = next((place / DEMOGRAPHICS for place in (root, root.parent) if (place / DEMOGRAPHICS).is_file()), None)
    rows = read_rows(table, ("ActorID", "Sex")) if table else []
    said = {row["ActorID"]: row["Sex"].strip().lower() for row in rows}
    return {actor: sex for actor, sex in said.items() if actor in ACTORS and sex in ("female", "male")}


dataset = Dataset(
    name="cremad",
    title="CREMA-D",
    acted=True,
    licence="ODbL 1.0",
    citation="Cao H, Cooper DG, Keutmann MK, Gur RC, Nenkova A, Verma R (2014). IEEE Trans. Affective Computing 5(4): "
    "377-390. doi:10.1109/TAFFC.2014.2336244",
    source="https://github.com/CheyneyComputerScience/CREMA-D, AudioWAV (0.6 GB; a git-LFS repository)",
    layout=LAYOUT,
    scan=scan,
    names=NAME,
    language="English",
    labels=tuple(sorted(EMOTIONS.values())),
    n_clips=7442,
    n_speakers=91,
    seconds=(1.26, 5.01),  # by the published sizes
    rates=(16_000,),
    known_faults=FAULTS,
    official_folds=_folds.official("cremad"),
    official_source=_folds.source("cremad"),
    published_folds=functools.partial(_folds.published, "cremad"),
    remotes=_remotes.cremad,
    checksums=_remotes.cremad_checksums,
)
