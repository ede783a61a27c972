"""EMO-DB, the Berlin database: ten speakers, ten German sentences, seven emotions, 535 clips (Burkhardt et al. 2005).

A file name is `<speaker><text><emotion><version>`: `03a01Fa` is speaker 03, sentence a01, Freude (joy), version a.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ..dataset import Dataset, scan_names
from ..manifest import Clip
from . import _folds, _remotes

EMOTIONS = {  # initials of the German words Wut, Langeweile, Ekel, Angst, Freude, Trauer and neutral
    "W": "angry",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
MEN = frozenset(("03", "10", "11", "12", "15"))
SPEAKERS = {s: "male" if s in MEN else "female" for s in ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"]}
NAME = re.compile(rf"/(\d\d)([ab]\d\d)([{''.join(EMOTIONS)}])([a-z]?)$", re.IGNORECASE)
LAYOUT = "names like wav/03a01Fa.wav (speaker, text, emotion, version)"


def clip(match: re.Match[str], path: Path) -> Clip:
    """Return the clip that a file name describes. Raises ValueError for an unknown speaker."""
    speaker, text, emotion, version = match.groups()
    if speaker not in SPEAKERS:
        raise ValueError(f"speaker {speaker}, wanted one of {', '.join(SPEAKERS)}")
    text, emotion, version = text.lower(), emotion.upper(), version.lower()
    extra = {"text": text, "version": version} if version else {"text": text}
    return Clip(
        "emodb", f"{speaker}{text}{emotion}{version}", str(path), EMOTIONS[emotion], speaker, SPEAKERS[speaker], extra
    )


dataset = Dataset(
    name="emodb",
    title="EMO-DB",
    acted=True,
    licence="free for research if cited",
    citation="Burkhardt F, Paeschke A, Rolfes M, Sendlmeier W, Weiss B (2005). A database of German emotional speech. "
    "Interspeech 2005: 1517-1520",
    source="http://emodb.bilderbar.info",
    layout=LAYOUT,
    scan=functools.partial(scan_names, layout=LAYOUT, names=NAME, parse=clip),
    names=NAME,
    language="German",
    labels=tuple(sorted(EMOTIONS.values())),
    n_clips=535,
    n_speakers=10,
    rates=(16_000,),
    official_folds=_folds.official("emodb"),
    official_source=_folds.source("emodb"),
    published_folds=functools.partial(_folds.published, "emodb"),
    remotes=_remotes.emodb,
)
