"""RAVDESS, speech and song: 24 actors, two sentences, up to eight emotions (Livingstone & Russo 2018).

A file name is seven numbers, `MM-CC-EE-II-SS-RR-AA`: modality (03 is audio only), vocal channel (01 speech, 02 song),
emotion, intensity, statement, repetition, actor (odd: male, even: female). Folder names are ignored. The copy on Kaggle
holds the tree twice; the second copy of a clip is recognised by name and content when the keys are computed.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ..dataset import Dataset, KnownFault, scan_names
from ..manifest import Clip
from . import _folds, _remotes

NAME = re.compile(r"/(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)$")
CHANNELS = {"01": "speech", "02": "song"}
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
INTENSITIES = {"01": "normal", "02": "strong"}
STATEMENTS = {"01": "kids", "02": "dogs"}  # "Kids are talking by the door", "Dogs are sitting by the door"
REPETITIONS = {"01": "1", "02": "2"}
ACTORS = {f"{n:02d}": "male" if n % 2 else "female" for n in range(1, 25)}
LAYOUT = "names like 03-01-05-02-01-01-12.wav (modality-channel-emotion-intensity-statement-repetition-actor)"
TWINS = KnownFault(
    clips=("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"),
    description="the two repetitions are the same recording, byte for byte",
    source="the checksums of the files in the published archive, which are equal",
    treatment="kept together in one fold",
)


def clip(match: re.Match[str], path: Path, dataset: str, vocal_channel: str) -> Clip | None:
    """Return the clip that a file name describes, or None for the other vocal channel.

    `vocal_channel` is "speech" or "song". Raises ValueError for an unknown code.
    """
    modality, *codes = match.groups()
    if modality != "03":
        raise ValueError(f"modality {modality}, wanted 03 (audio only)")
    tables = (CHANNELS, EMOTIONS, INTENSITIES, STATEMENTS, REPETITIONS, ACTORS)
    for code, table in zip(codes, tables, strict=True):
        if code not in table:
            raise ValueError(f"code {code}, wanted one of {', '.join(table)}")
    channel, emotion, intensity, statement, repetition, actor = codes
    if CHANNELS[channel] != vocal_channel:
        return None
    extra = {
        "intensity": INTENSITIES[intensity],
        "text": STATEMENTS[statement],
        "repetition": REPETITIONS[repetition],
    }
    return Clip(dataset, path.stem, str(path), EMOTIONS[emotion], actor, ACTORS[actor], extra)


def _make_scan(dataset: str, vocal_channel: str) -> functools.partial[list[Clip]]:
    """Return a function that scans a tree for one vocal channel."""
    parse = functools.partial(clip, dataset=dataset, vocal_channel=vocal_channel)
    return functools.partial(scan_names, layout=LAYOUT, names=NAME, parse=parse)


Ravdess = functools.partial(
    Dataset,
    acted=True,
    licence="CC BY-NC-SA 4.0",
    citation="Livingstone SR, Russo FA (2018). PLoS ONE 13(5): e0196391. doi:10.1371/journal.pone.0196391",
    layout=LAYOUT,
    corpus="ravdess",  # speech and song share actors and sentences
    language="English",
    rates=(48_000,),
)

dataset = (
    Ravdess(
        name="ravdess",
        title="RAVDESS, speech",
        source="https://zenodo.org/records/1188976, Audio_Speech_Actors_01-24.zip (208 MB)",
        scan=_make_scan("ravdess", "speech"),
        names=re.compile(r"/03-01(-\d\d){5}$"),
        remotes=_remotes.ravdess_speech,
        labels=tuple(sorted(EMOTIONS.values())),
        n_clips=1440,
        n_speakers=24,
        seconds=(2.9, 5.3),
        known_faults=(TWINS,),
        official_folds=_folds.official("ravdess"),
        official_source=_folds.source("ravdess"),
    ),
    Ravdess(
        name="ravdess-song",
        title="RAVDESS, song",
        source="https://zenodo.org/records/1188976, Audio_Song_Actors_01-24.zip (226 MB)",
        scan=_make_scan("ravdess-song", "song"),
        names=re.compile(r"/03-02(-\d\d){5}$"),
        remotes=_remotes.ravdess_song,
        labels=tuple(sorted(list(EMOTIONS.values())[:6])),
        n_clips=1012,
        n_speakers=23,
    ),
)
