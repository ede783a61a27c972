"""SAVEE: four men, seven emotions, 480 clips (Haq & Jackson 2009).

A name is `<emotion><number>` in the speaker's folder (`DC/sa01.wav`), or `<speaker>_<emotion><number>` in one folder.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ..dataset import Dataset, scan_names
from ..manifest import Clip
from . import _folds

SPEAKERS = ("DC", "JE", "JK", "KL")
EMOTIONS = {  # the longer codes first: `sa01` is no `s`, and `su01` neither
    "sa": "sad",
    "su": "surprise",
    "a": "angry",
    "d": "disgust",
    "f": "fear",
    "h": "happy",
    "n": "neutral",
}
NAME = re.compile(rf"(?:^|/)({'|'.join(SPEAKERS)})[_/]({'|'.join(EMOTIONS)})(\d\d)$")
LAYOUT = "names like AudioData/DC/sa01.wav, or DC_sa01.wav (speaker, emotion, number)"


def clip(match: re.Match[str], path: Path) -> Clip:
    """The clip that a name describes. Each emotion has sentences of its own, so that a text is emotion and number."""
    speaker, emotion, number = match.groups()
    text = f"{emotion}{number}"
    return Clip("savee", f"{speaker}_{text}", str(path), EMOTIONS[emotion], speaker, "male", {"text": text})


dataset = Dataset(
    name="savee",
    title="SAVEE",
    acted=True,
    licence="research only, on registration",
    citation="Haq S, Jackson PJB (2009). Speaker-dependent audio-visual emotion recognition. AVSP 2009: 53-58",
    source="http://kahlan.eps.surrey.ac.uk/savee, on registration",
    apply="Register at http://kahlan.eps.surrey.ac.uk/savee/Download.html; a password is sent. The folder AudioData, "
    "or a copy with all files in one folder, is what is read.",
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
