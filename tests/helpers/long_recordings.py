"""Long recordings made of clips laid end to end with pauses, and the table of their spans."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers.encoded import encoded
from helpers.sounds import noise, write

RATE = 22_050  # another rate than the encoders', so that spans are cut before they are resampled
LABELS = ("angry", "happy", "sad")


@dataclass(frozen=True)
class LongRecordings:
    """A folder with a table of spans, and one of the same clips as files of their own."""

    spans: Path
    files: Path


def lay_end_to_end(
    folder: Path, speakers: int = 4, takes: int = 2, stereo: bool = False, kind: str = ""
) -> LongRecordings:
    """Lay the clips of every two speakers into a recording: on one channel each if `stereo`, else one after another.

    `kind` is a kind of file of `helpers.encoded`; by default WAV.
    """
    spans, files = [], []
    for pair in range(0, speakers, 2):
        tracks: list[list[np.ndarray]] = [[], []]
        for number, (speaker, label, take) in enumerate(
            (s, label, t) for s in (pair, pair + 1) for label in LABELS for t in range(takes)
        ):
            track = tracks[speaker - pair if stereo else 0]
            sound = np.round(noise(0.4 + 0.02 * number, RATE, seed=10 * speaker + number) * 16_384) / 32_768
            track += [np.zeros(int(RATE * 0.11) + number), sound]
            end = sum(map(len, track))
            name = f"s{speaker}_{label}_{take}"
            write(folder / "clips" / f"{name}.wav", sound, RATE)
            channel = ["left", "right"][speaker - pair] if stereo else ""
            begin = end - len(sound)
            spans.append([f"rec{pair}.wav", begin / RATE, end / RATE, label, f"s{speaker}", name, channel])
            files.append([f"clips/{name}.wav", label, f"s{speaker}", name])
        joined = [np.concatenate(track) for track in tracks if track]
        length = max(map(len, joined))
        sound = np.squeeze(np.stack([np.pad(track, (0, length - len(track))) for track in joined], 1))
        if kind:
            (folder / f"rec{pair}.wav").write_bytes(encoded(sound, kind, RATE))
        else:
            write(folder / f"rec{pair}.wav", sound, RATE)
    _write(folder / "spans.csv", ["path", "start", "end", "label", "speaker", "clip_id", "channel"], spans[::-1])
    _write(folder / "files.csv", ["path", "label", "speaker", "clip_id"], files)
    return LongRecordings(folder / "spans.csv", folder / "files.csv")


def _write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
