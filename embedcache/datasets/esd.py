"""ESD: ten speakers of Mandarin and ten of English, 350 sentences each in five emotions (Zhou et al. 2022).

A file name is `<speaker>_<number>`. The number gives the emotion: 350 clips of each, always in the order of `EMOTIONS`.
Copies of the dataset have a folder for each emotion, and some have `train`, `evaluation` and `test` inside it. These
inner folders are ignored.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ..dataset import Dataset, scan_names
from ..manifest import Clip
from . import _folds

NAME = re.compile(r"/(\d{4})_(\d{6})$")
EMOTIONS = ("neutral", "angry", "happy", "sad", "surprise")
SENTENCES = 350
MEN = frozenset(["0004", "0005", "0006", "0008", "0010", "0011", "0012", "0013", "0014", "0020"])
SPEAKERS = {f"{n:04d}": "male" if f"{n:04d}" in MEN else "female" for n in range(1, 21)}
LAYOUT = "names like 0011/Angry/0011_000351.wav (speaker_number)"


def clip(match: re.Match[str], path: Path) -> Clip:
    """Return the clip that a file name describes.

    The numbers of each speaker are 1 to 350 neutral, 351 to 700 angry, and so on: number 351 is sentence 1, angry.
    Raises ValueError for an unknown speaker or number, or if number and folder give different emotions.
    """
    speaker, number = match[1], int(match[2])
    if speaker not in SPEAKERS:
        raise ValueError(f"speaker {speaker}, wanted 0001 to 0020")
    if not 1 <= number <= SENTENCES * len(EMOTIONS):
        raise ValueError(f"number {match[2]}, wanted 000001 to 001750")
    emotion, sentence = EMOTIONS[(number - 1) // SENTENCES], (number - 1) % SENTENCES + 1
    folders = {part.lower() for part in path.parts[-3:-1]} & set(EMOTIONS)
    if folders - {emotion}:
        raise ValueError(f"is in the folder of {', '.join(folders)}, but its number belongs to {emotion}")
    language = "Mandarin" if speaker <= "0010" else "English"
    extra = {"language": language, "text": f"{language.lower()}-{sentence:03d}"}
    return Clip("esd", path.stem, str(path), emotion, speaker, SPEAKERS[speaker], extra)


dataset = Dataset(
    name="esd",
    title="ESD",
    acted=True,
    licence="research only, with a signed agreement",
    citation="Zhou K, Sisman B, Liu R, Li H (2022). Speech Communication 137: 1-18. doi:10.1016/j.specom.2021.11.006",
    source="https://github.com/HLTSingapore/Emotional-Speech-Data, with a signed agreement",
    how_to_apply="Fill in the agreement at https://github.com/HLTSingapore/Emotional-Speech-Data and send it as "
    "described on that page. `ser` reads the folder that contains 0001 to 0020.",
    layout=LAYOUT,
    scan=functools.partial(scan_names, layout=LAYOUT, names=NAME, parse=clip),
    names=NAME,
    labels=tuple(sorted(EMOTIONS)),
    n_clips=35_000,
    n_speakers=20,
    rates=(16_000,),
    official_folds=_folds.official("esd"),
    official_source=_folds.source("esd"),
)
