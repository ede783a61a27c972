"""A folder of folds in EmoBox's layout, with the fields of its entries (github.com/emo-box/EmoBox, data/ravdess)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def emobox_tree(
    folder: Path, dataset: str, wavs: Iterable[str], tested: Sequence[Iterable[str]], also: Mapping[str, str] = {}
) -> Path:
    """Write `fold_1`, `fold_2`, … below a folder: `tested` are the paths, below the dataset, that each fold tests."""
    wavs = list(wavs)
    for number, fold in enumerate(map(set, tested), start=1):
        parts = {"test": [w for w in wavs if w in fold], "train": [w for w in wavs if w not in fold]}
        for part, clips in parts.items():
            write_part(folder / f"fold_{number}", dataset, part, number, clips)
    for name, text in also.items():
        (folder / name).write_text(text)
    return folder


def write_part(folder: Path, dataset: str, part: str, number: int, wavs: Sequence[str]) -> None:
    """Write both files of one part of a fold."""
    entries = {f"{dataset}-{Path(wav).stem}": _entry(dataset, wav) for wav in wavs}
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{dataset}_{part}_fold_{number}"
    lines = [json.dumps({"key": key, **entry}) + "\n" for key, entry in entries.items()]
    stem.with_suffix(".jsonl").write_text("".join(lines))
    stem.with_suffix(".json").write_text(json.dumps(entries, indent=4))


def _entry(dataset: str, wav: str) -> dict[str, object]:
    where = {"dataset": dataset, "wav": f"downloads/{dataset}/{wav}", "type": "raw"}
    return {**where, "sample_rate": 48000, "task": "category", "length": 3.7, "emo": "Disgust", "channel": 1}
