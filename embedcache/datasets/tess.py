"""TESS: two women, 200 words, seven emotions, 2,800 clips (Pichora-Fuller & Dupuis 2020).

A file name is `<speaker>_<word>_<emotion>`. Folder names are ignored, because their spelling varies between copies.
Some copies misspell one clip as `OA_bite_neutral`. The copy on Kaggle holds the tree twice; the second copy of a clip
is recognised when the keys are computed.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ..dataset import Dataset, scan_names
from ..manifest import Clip
from . import _folds, _remotes

EMOTIONS = {
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "surprise",  # pleasant surprise
    "sad": "sad",
}
SPEAKERS = {"OAF": "OAF", "YAF": "YAF", "OA": "OAF"}  # spelling in file names -> speaker
NAME = re.compile(rf"/({'|'.join(SPEAKERS)})_([A-Za-z]+)_({'|'.join(EMOTIONS)})$", re.IGNORECASE)
LAYOUT = "names like OAF_bite_neutral.wav (speaker_word_emotion)"


def clip(match: re.Match[str], path: Path) -> Clip:
    """Return the clip that a file name describes."""
    spelling, word, emotion = match.groups()
    speaker, emotion = SPEAKERS[spelling.upper()], emotion.lower()
    word = word.lower() if word.isupper() else word
    clip_id = f"{speaker}_{word}_{emotion}"
    return Clip("tess", clip_id, str(path), EMOTIONS[emotion], speaker, "female", {"text": word.lower()})


dataset = Dataset(
    name="tess",
    title="TESS",
    acted=True,
    licence="CC BY-NC-ND 4.0",
    citation="Pichora-Fuller MK, Dupuis K (2020). Toronto emotional speech set (TESS). doi:10.5683/SP2/E8H2MF",
    source="https://doi.org/10.5683/SP2/E8H2MF",
    layout=LAYOUT,
    scan=functools.partial(scan_names, layout=LAYOUT, names=NAME, parse=clip),
    names=NAME,
    language="English",
    labels=tuple(sorted(EMOTIONS.values())),
    n_clips=2800,
    n_speakers=2,
    rates=(24_414, 96_000),  # 96 kHz is the rate of one clip, OAF_food_fear
    official_folds=_folds.official("tess"),
    official_source=_folds.source("tess"),
    published_folds=functools.partial(_folds.published, "tess"),
    remotes=_remotes.tess,
)
