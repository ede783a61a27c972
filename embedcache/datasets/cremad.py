"""CREMA-D: 91 actors, twelve sentences, six emotions (Cao et al. 2014).

A file name is `<actor>_<sentence>_<emotion>_<level>`; only the sentence IEO was recorded at three levels. The sex of
the actors is in `VideoDemographics.csv`, which is read if it is next to the recordings. Most copies lack this table, so
this module has a list of its own.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ..dataset import Dataset, KnownFault, Scanned, scan_names
from ..files.tables import read_rows
from ..manifest import Clip
from . import _folds, _remotes

NAME = re.compile(r"/(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})$", re.IGNORECASE)
EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": ""}  # XX: unspecified
RENAMED = {"X": "XX"}  # 1040_ITH_SAD_X was published first, and is still in most copies; it is 1040_ITH_SAD_XX today
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
            description="the same recording, byte for byte, with two labels",
            source="the published checksums, which are equal",
            left_out=True,
        )
        for pair in PAIRS
    ),
)


def clip(match: re.Match[str], path: Path, genders: dict[str, str]) -> Clip | None:
    """Return the clip that a file name describes. Raises ValueError for an unknown code.

    Returns None for a file in `AudioMP3` if the folder `AudioWAV` is next to it, as in the repository of the dataset,
    which holds each clip in both formats.
    """
    if path.parent.name == "AudioMP3" and path.parent.with_name("AudioWAV").is_dir():
        return None
    actor, sentence, emotion, written = (code.upper() for code in match.groups())
    level = RENAMED.get(written, written)
    for code, codes in ((actor, genders), (sentence, SENTENCES), (emotion, EMOTIONS), (level, LEVELS)):
        if code not in codes:
            raise ValueError(f"code {code}, wanted one of {', '.join(codes)}")
    extra = {"text": sentence} | ({"intensity": LEVELS[level]} if LEVELS[level] else {})
    clip_id = f"{actor}_{sentence}_{emotion}_{level}"
    return Clip("cremad", clip_id, str(path), EMOTIONS[emotion], actor, genders[actor], extra)


def scan(root: Path) -> Scanned:
    """Return all clips below `root`. Raises DataError if a file name is not one of CREMA-D."""
    clips = scan_names(root, LAYOUT, NAME, functools.partial(clip, genders=ACTORS | _read_demographics(root)))
    first_names = {Path(c.path).stem: c.clip_id for c in clips if Path(c.path).stem.upper().endswith("_X")}
    return Scanned(clips, tuple(f"{old} is {new}, as it is called today." for old, new in first_names.items()))


def _read_demographics(root: Path) -> dict[str, str]:
    """Return actor -> gender from the table of the dataset, if it is in `root` or in the folder above; else nothing."""
    table = next((folder / DEMOGRAPHICS for folder in (root, root.parent) if (folder / DEMOGRAPHICS).is_file()), None)
    rows = read_rows(table, ("ActorID", "Sex")) if table else []
    sexes = {row["ActorID"]: row["Sex"].strip().lower() for row in rows}
    return {actor: sex for actor, sex in sexes.items() if actor in ACTORS and sex in ("female", "male")}


dataset = Dataset(
    name="cremad",
    title="CREMA-D",
    acted=True,
    licence="ODbL 1.0",
    citation="Cao H, Cooper DG, Keutmann MK, Gur RC, Nenkova A, Verma R (2014). IEEE Trans. Affective Computing 5(4): "
    "377-390. doi:10.1109/TAFFC.2014.2336244",
    source="https://github.com/CheyneyComputerScience/CREMA-D, AudioWAV (0.6 GB; a Git LFS repository)",
    layout=LAYOUT,
    scan=scan,
    names=NAME,
    language="English",
    labels=tuple(sorted(EMOTIONS.values())),
    n_clips=7442,
    n_speakers=91,
    seconds=(1.26, 5.01),  # computed from the published file sizes
    rates=(16_000,),
    known_faults=FAULTS,
    official_folds=_folds.official("cremad"),
    official_source=_folds.source("cremad"),
    emo_superb_folds=_folds.emo_superb("cremad"),
    published_folds=functools.partial(_folds.published, "cremad"),
    remotes=_remotes.cremad,
    checksums=_remotes.cremad_checksums,
)
