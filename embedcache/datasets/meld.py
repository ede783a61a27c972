"""MELD: dialogues of a television series, seven emotions, 13,708 utterances, published partitions (Poria et al. 2019).

A clip is a video `dia<dialogue>_utt<utterance>.mp4` in the folder of its partition, or an audio file of the same name
in a copy; its row in `train_sent_emo.csv`, `dev_sent_emo.csv` or `test_sent_emo.csv` gives emotion, speaker and text.
Dialogues are numbered from 0 in each partition, so the ids of clips and sessions begin with the partition.

- Six main characters speak in all three partitions: the published split is not speaker-independent.
- Clips of several people at once (`All`, `Both`, `Joey and Ross`) have no speaker of their own: they are clips of an
  unknown speaker, and the column `spoken_by` has the published name. Roles such as `Woman` may be another person in
  each dialogue. They keep their name, so that folds by speaker never part what may be one person.
- Videos without a row are passed over with a note, as the authors advise (declare-lab/MELD, issue 22): among them the
  `final_videos_test…` beside the test clips, which may be second cuts of them (unverified), and a few more utterances.
- Texts of some copies have characters of Windows-1252 as control characters, which are put right.
- StartTime and EndTime are times in the episode, not in the clip, and are not kept.

The layout was read from public sources, not from a copy of the videos: the tables, read in part, and issues 9, 20, 22
and 39 of declare-lab/MELD; data/meld/process_database.py in felixbur/nkululeko, for the folders and for spellings of
one speaker; scripts/MELD_download.bat in iosonopersia/Multimodal-Emotion-Recognition, for the archives in the archive.
Unverified: the lists of names that stand for several people, and whether two clips are equal byte for byte.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..dataset import Dataset, KnownFault, Scanned, parse_files
from ..errors import DataError, complain
from ..files.tables import read_table
from ..manifest import PARTITION, UNKNOWN, Clip
from ..text import common_spellings, count, examples, quoted

NAME = re.compile(r"/(final_videos_test)?dia(\d+)_utt(\d+)$", re.IGNORECASE)
FOLDER = re.compile(
    r"(?:output_repeated_splits_)?(train|dev|test)(?:_splits)?(?:_complete)?(?:_(?:wavs?|audio|videos?))?",
    re.IGNORECASE,
)
EMOTIONS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
GENDERS = dict.fromkeys(("Monica", "Phoebe", "Rachel"), "female") | dict.fromkeys(("Chandler", "Joey", "Ross"), "male")
MAIN = {name.casefold(): name for name in GENDERS}
SPELLINGS = {"Dr. Leedbetter": "Dr. Ledbetter", "Phoebe Sr": "Phoebe Sr."}  # two spellings of one speaker
SEVERAL = re.compile(
    r"all\b.*|both|everyone|everybody|(the )?(guys|girls|crowd|group|others)|.*( and | & |/|, ).*", re.IGNORECASE
)
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
KEPT = ("Sentiment", "Season", "Episode")  # further columns, kept in lower case
TABLE = "_sent_emo.csv"
LAYOUT = (
    "train_splits/dia0_utt0.mp4, dev_splits_complete/… and output_repeated_splits_test/…, with train_sent_emo.csv, …"
)
ISSUES = "https://github.com/declare-lab/MELD/issues"
FAULTS = (
    KnownFault(("train/dia125_utt3",), "cannot be decoded: its index is missing", f"{ISSUES}/39", left_out=True),
    KnownFault(("dev/dia110_utt7",), "missing in the published archive", f"{ISSUES}/22", treatment="absent"),
    KnownFault(
        clips=("test/dia38_utt4", "test/dia220_utt0"),
        description="minutes long: the utterance was cut wrongly",
        source=f"{ISSUES}/20",
        treatment="kept, as in published scores",
    ),
    KnownFault(
        clips=(
            *("train/dia793_utt0", "train/dia164_utt5", "train/dia682_utt1"),
            *("train/dia529_utt2", "train/dia1029_utt1", "train/dia1008_utt1"),
        ),
        description="disturbed sound",
        source=f"{ISSUES}/9",
        treatment="kept, as in published scores",
    ),
)

Cells = Mapping[str, str]


def scan(root: Path) -> Scanned:
    """Return the clips below `root`, and notes on files without a row and rows without a file.

    Raises DataError if a file is in the folder of no partition or has another name, if the table of its partition is
    missing, or if a table has rows that cannot be used.
    """
    rows, notes = _read_tables(root)
    speakers, spelling_notes = _speakers(rows.values())
    partitions = {name.partition("/")[0] for name in rows}
    passed: dict[str, set[str]] = {"named final_videos_test…": set(), "without a row in the tables": set()}

    def clip(path: Path) -> Clip | None:
        match = NAME.search(f"/{path.stem}")
        if match is None:
            raise ValueError("the name does not match the dataset's file names")
        second_cut, dialogue, utterance = match.groups()
        part = _partition(path, root)
        if part not in partitions:
            raise ValueError(f"no {part}{TABLE} gives its emotion")
        clip_id = f"{part}/dia{int(dialogue)}_utt{int(utterance)}"
        if second_cut:
            passed["named final_videos_test…"].add(clip_id)
        elif clip_id not in rows:
            passed["without a row in the tables"].add(clip_id)
        else:
            return _make_clip(rows[clip_id], clip_id, path, speakers)
        return None

    clips = parse_files(root, LAYOUT, clip, videos=True)
    absent = sorted(set(rows) - {clip.clip_id for clip in clips})
    several = Counter(clip.extra["spoken_by"] for clip in clips if "spoken_by" in clip.extra)
    notes += spelling_notes
    notes += [f"passed over {count(len(ids), 'file')} {reason}." for reason, ids in passed.items() if ids]
    notes += [f"{count(len(absent), 'row')} of the tables without a file: {examples(absent)}."] if absent else []
    if several:
        names = examples([name for name, _ in several.most_common()])
        notes.append(f"{count(several.total(), 'clip')} of several people ({names}): the speaker is unknown.")
    return Scanned(clips, tuple(notes))


def _partition(path: Path, root: Path) -> str:
    """Return the partition of a file by the nearest folder whose name tells one. Raises ValueError if none does."""
    for folder in reversed((root.name, *path.relative_to(root).parts[:-1])):
        if match := FOLDER.fullmatch(folder):
            return match[1].lower()
    raise ValueError("is in the folder of no partition; wanted train_splits, dev_splits_complete or another such name")


def _read_tables(root: Path) -> tuple[dict[str, Cells], list[str]]:
    """Return clip id -> row, and notes, from the tables below `root`. Raises DataError for rows that cannot be used."""
    rows: dict[str, Cells] = {}
    faults: list[str] = []
    notes: list[str] = []
    mended = 0
    for path in sorted(root.glob(f"**/*{TABLE}")):
        part = path.name.removesuffix(TABLE).lower()
        if part not in ("train", "dev", "test"):
            continue
        table = read_table(path, {}, COLUMNS)
        notes += table.notes
        for row in table.rows:
            cells = {name: _mend(cell) for name, cell in row.cells.items()}
            mended += cells != row.cells
            dialogue, utterance = (cells[name].lstrip("0") or "0" for name in ("Dialogue_ID", "Utterance_ID"))
            known = rows.setdefault(f"{part}/dia{dialogue}_utt{utterance}", cells)
            faults += [f"{path.name}, row {row.line}: {fault}" for fault in _row_faults(cells, known)]
    if faults:
        advice = f"Correct these rows, or copy the tables again. Wanted {LAYOUT}."
        raise DataError(*complain("rows of MELD's tables cannot be used", faults, advice))
    notes += [f"put right {count(mended, 'row')} with characters of Windows-1252."] if mended else []
    return rows, notes


def _mend(text: str) -> str:
    """Return a text in which the control characters U+0080 to U+009F are what they are in Windows-1252."""
    return re.sub("[\x80-\x9f]+", lambda part: part[0].encode("latin-1").decode("cp1252", "ignore"), text)


def _row_faults(row: Cells, known: Cells) -> Iterator[str]:
    """Yield what is wrong with a row; `known` is the first row of the same clip."""
    if not (row["Dialogue_ID"].isdecimal() and row["Utterance_ID"].isdecimal()):
        yield f"dialogue '{row['Dialogue_ID']}' and utterance '{row['Utterance_ID']}', wanted numbers"
    if row["Emotion"].lower() not in EMOTIONS:
        yield f"emotion '{row['Emotion']}', wanted one of {', '.join(EMOTIONS)}"
    if any(row[name] != known[name] for name in COLUMNS):
        yield f"dialogue {row['Dialogue_ID']}, utterance {row['Utterance_ID']} has another row with other values"


def _speakers(rows: Iterable[Cells]) -> tuple[dict[str, str], list[str]]:
    """Return name as written -> name of the speaker, and a note on names that count as one."""
    written = [row["Speaker"] for row in rows]
    right = {name: MAIN.get(name.casefold()) or SPELLINGS.get(name, name) for name in written}
    spellings = common_spellings([right[name] for name in written if name])
    same = {name: spellings.get(speaker, speaker) for name, speaker in right.items()}
    changed = sorted(name for name, speaker in same.items() if name != speaker and not SEVERAL.fullmatch(name))
    notes = [f"reads the speaker {quoted(name)} as {quoted(same[name])}." for name in changed]
    return {name: UNKNOWN if not name or SEVERAL.fullmatch(name) else same[name] for name in same}, notes


def _make_clip(row: Cells, clip_id: str, path: Path, speakers: Mapping[str, str]) -> Clip:
    part, dialogue = clip_id.rpartition("_")[0].split("/")
    speaker = speakers[row["Speaker"]]
    extra = {PARTITION: part, "session": f"{part}-{dialogue}", "text": row["Utterance"]}
    extra |= {name.lower(): row.get(name, "") for name in KEPT}
    extra |= {"spoken_by": row["Speaker"]} if speaker == UNKNOWN else {}
    kept = {name: text for name, text in extra.items() if text}
    return Clip("meld", clip_id, str(path), row["Emotion"].lower(), speaker, GENDERS.get(speaker, ""), kept)


dataset = Dataset(
    name="meld",
    title="MELD",
    acted=True,
    licence="GPL-3.0 for tables and code; the clips are of a television series, whose rights are with its owners",
    citation="Poria S, Hazarika D, Majumder N, Naik G, Cambria E, Mihalcea R (2019). MELD. ACL 2019: 527-536. "
    "arXiv:1810.02508",
    source="https://github.com/declare-lab/MELD, MELD.Raw.tar.gz (11 GB)",
    how_to_apply="Fetch MELD.Raw.tar.gz as https://github.com/declare-lab/MELD says, and unpack it and the three "
    "archives in it. `ser` reads the folder that contains the folders of the clips and the three tables.",
    layout=LAYOUT,
    scan=scan,
    names=NAME,
    videos=True,
    language="English",
    labels=EMOTIONS,
    n_clips=13_708,
    official_partitions=True,
    known_faults=FAULTS,
)
