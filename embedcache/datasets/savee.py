"""SAVEE: four men, seven emotions, 480 clips (Haq & Jackson 2009).

A file name is `<emotion><number>` in a folder for each speaker (`DC/sa01.wav`), or `<speaker>_<emotion><number>` if all
files are in one folder (`DC_sa01.wav`).
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ..dataset import Dataset, scan_names
from ..manifest import Clip
from . import _folds

SPEAKERS = ("DC", "JE", "JK", "KL")
EMOTIONS = {  # two-letter codes first, because NAME tries the codes in this order
    "sa": "sad",
    "su": "surprise",
    "a": "angry",
    "d": "disgust",
    "f": "fear",
    "h": "happy",
    "n": "neutral",
}
NAME = re.compile(rf"(?:^|/)({'|'.join(SPEAKERS)})[_/]({'|'.join(EMOTIONS)})(\d\d)$", re.IGNORECASE)
LAYOUT = "names like AudioData/DC/sa01.wav, or DC_sa01.wav (speaker, emotion, number)"


def clip(match: re.Match[str], path: Path) -> Clip:
    """Return the clip that a file name describes.

    Each emotion has its own sentences, so the text is identified by emotion and number.
    """
    speaker, emotion, number = match.groups()
    speaker, emotion = speaker.upper(), emotion.lower()
    text = f"{emotion}{number}"
    return Clip("savee", f"{speaker}_{text}", str(path), EMOTIONS[emotion], speaker, "male", {"text": text})


dataset = Dataset(
    name="savee",
    title="SAVEE",
    acted=True,
    licence="research only, after registration",
    citation="Haq S, Jackson PJB (2009). Speaker-dependent audio-visual emotion recognition. AVSP 2009: 53-58",
    source="http://kahlan.eps.surrey.ac.uk/savee, after registration",
    how_to_apply="Register at http://kahlan.eps.surrey.ac.uk/savee/Download.html to be sent a password. `ser` reads "
    "the folder AudioData, or a copy with all files in one folder.",
    layout=LAYOUT,
    scan=functools.partial(scan_names, layout=LAYOUT, names=NAME, parse=clip),
    names=NAME,
    language="English",
    labels=tuple(sorted(EMOTIONS.values())),
    n_clips=480,
    n_speakers=4,
    rates=(44_100,),
    official_folds=_folds.official("savee"),
    official_source=_folds.source("savee"),
)
