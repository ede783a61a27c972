"""MSP-Podcast: segments of podcasts, eight emotions, with published partitions (Lotfian & Busso 2019).

Each recording has a row in `Labels/labels_consensus.csv`, which releases up to 1.8 call `labels_concensus.csv`:
FileName, EmoClass (a letter, the emotion that most listeners chose), EmoAct, EmoVal, EmoDom (1 to 7), SpkrID, Gender
and Split_Set. As in the challenges on this corpus and in EMO-SUPERB, eight emotions are labels; segments without
agreement (X) and with another emotion (O) are left out, and a note counts them.

- Many segments of the training partition have the speaker `Unknown`. They are clips of an unknown speaker, not of one.
- Releases from 1.11 on have a partition Test3, whose labels are not published: a note counts its recordings.
- Recordings below `Previous_releases_information`, which later releases no longer count, are passed over with a note.
- The transcripts are not read, so `leaks` says `text?`.

The layout was read from public sources, not from a copy of the corpus: the readme of release 1.12, which is attached to
openreview.net/forum?id=6p9n68cxGM; the corpus's page at UT Dallas, for Test3, unknown speakers and the partitions; and
data/msp-podcast/process_database.py in felixbur/nkululeko, for release 1.8 (`Validation`, `labels_concensus.csv`).
Unverified: that the digits after `MSP-PODCAST_` number the podcasts, which are the sessions here; the names of Test3
(`MSP-PODCAST_test3_0001`); in which release the table was renamed. Releases differ in size, so no number of clips is
published here: 151,654 recordings in 1.11 and 207,136 in 1.12.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..dataset import Dataset, KnownFault, Scanned, scan_names
from ..errors import DataError, complain
from ..files.tables import read_table
from ..manifest import CHANNEL, COLUMNS, COPY_OF, END, PARTITION, SKIPPED, START, UNKNOWN, Clip, is_unknown
from ..text import count, examples

NAME = re.compile(r"/MSP-PODCAST_(\d+|test3)_\w+$", re.IGNORECASE)
EMOTIONS = {
    "A": "angry",
    "S": "sad",
    "H": "happy",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
}
LEFT_OUT = {"X": "no agreement (X)", "O": "another emotion (O)", "": "no label"}
PARTITIONS = {"train": "train", "development": "dev", "validation": "dev"} | {f"test{n}": f"test{n}" for n in (1, 2, 3)}
GENDERS = {"female": "female", "male": "male", "unknown": "", "": ""}
USED = ("FileName", "EmoClass", "SpkrID", "Gender", "Split_Set")
RESERVED = frozenset(
    {*USED, *COLUMNS, SKIPPED, COPY_OF, CHANNEL, PARTITION, START, END}
)  # names that other columns must not have
TABLES = "labels_con[cs]ensus.csv"
TABLE = "Labels/labels_consensus.csv"
EARLIER = "previous_releases"  # start of the name of the folder with recordings and labels of earlier releases
LAYOUT = f"Audios/MSP-PODCAST_0001_0008.wav, with {TABLE}"

Row = Mapping[str, str]


def scan(root: Path) -> Scanned:
    """Return the clips below `root` that have one of the eight emotions, and notes on those that are left out.

    Raises DataError if a recording has no row in the table, or if the table has rows that cannot be used.
    """
    rows, notes = _read_rows(_find_tables(root))
    passed: defaultdict[str, set[str]] = defaultdict(set)  # reason -> names of the recordings that are passed over
    present = set()

    def clip(match: re.Match[str], path: Path) -> Clip | None:
        name = path.stem.casefold()
        row = rows.get(name)
        if _is_of_earlier_release(path, root):
            passed["of earlier releases"].add(name)
        elif row is None and match[1].casefold() == "test3":
            passed["of Test3, whose labels are not published"].add(name)
        elif row is None:
            raise ValueError(f"is in no row of {TABLE}" if rows else f"there is no {TABLE} that gives its emotion")
        else:
            present.add(name)
            return _make_clip(row, path, match[1])
        return None

    clips = scan_names(root, LAYOUT, NAME, clip)
    notes += [f"passed over {count(len(names), 'recording')} {reason}." for reason, names in passed.items()]
    notes += _left_out_notes(rows[name] for name in present)
    notes += _absent_notes([row["FileName"] for name, row in rows.items() if name not in present])
    notes += _speaker_notes(clips)
    return Scanned(clips, tuple(notes))


def _find_tables(root: Path) -> list[Path]:
    """Return the tables in `root`, or else beside it, if it is the folder Audios."""
    for folder in (root, root.parent):
        found = {*folder.glob(TABLES), *folder.glob(f"Labels/{TABLES}")}  # also where Labels is a link
        found |= {*root.glob(f"**/{TABLES}")} if folder == root else set()
        if tables := sorted(path for path in found if not _is_of_earlier_release(path, root)):
            return tables
    return []


def _is_of_earlier_release(path: Path, root: Path) -> bool:
    """Whether a file is in the folder of earlier releases, or in its folder of removed recordings."""
    text = str(path)[len(str(root)) :].casefold()
    return f"/{EARLIER}" in text or "/files_removed_from" in text


def _read_rows(tables: Sequence[Path]) -> tuple[dict[str, Row], list[str]]:
    """Return name of a recording in lower case -> its row, and notes. Raises DataError for rows that cannot be used."""
    rows: dict[str, Row] = {}
    faults: list[str] = []
    notes: list[str] = []
    for path in tables:
        table = read_table(path, {}, USED)
        notes += table.notes
        repeated = 0
        for row in table.rows:
            name = row.cells["FileName"].casefold().removesuffix(".wav")
            known = rows.setdefault(name, row.cells)
            faults += [f"{path.name}, row {row.line}: {fault}" for fault in _row_faults(row.cells, known)]
            repeated += known == row.cells and known is not row.cells and len(tables) == 1
        notes += [f"{path.name}: each row counts once; {count(repeated, 'repetition')}."] if repeated else []
    if faults:
        advice = f"Correct these rows, or copy the table of your release again. Wanted {LAYOUT}."
        raise DataError(*complain("rows of MSP-Podcast's labels cannot be used", faults, advice))
    return rows, notes


def _row_faults(row: Row, known: Row) -> Iterator[str]:
    """Yield what is wrong with a row; `known` is the first row of the same recording."""
    emotion, part, gender = row["EmoClass"].upper(), row["Split_Set"].casefold(), row["Gender"].casefold()
    if not row["FileName"]:
        yield "no FileName"
    if row != known:
        yield f"{row['FileName']} has another row with other values"
    if emotion not in EMOTIONS and emotion not in LEFT_OUT:
        yield f"EmoClass {row['EmoClass']}, wanted one of {', '.join((*EMOTIONS, 'O', 'X'))}"
    if part not in PARTITIONS:
        yield f"Split_Set {row['Split_Set'] or 'is empty'}, wanted one of {', '.join(PARTITIONS)}"
    if gender not in GENDERS:
        yield f"Gender {row['Gender']}, wanted Female, Male or Unknown"


def _left_out_notes(rows: Iterable[Row]) -> list[str]:
    """Return a note that counts the recordings without one of the eight emotions, if there are any."""
    counts = dict.fromkeys(LEFT_OUT, 0)
    for row in rows:
        if (emotion := row["EmoClass"].upper()) in counts:
            counts[emotion] += 1
    parts = [f"{n} with {LEFT_OUT[emotion]}" for emotion, n in counts.items() if n]
    return [f"left out {count(sum(counts.values()), 'recording')}: {examples(parts)}."] if parts else []


def _absent_notes(names: Sequence[str]) -> list[str]:
    return [f"{count(len(names), 'row')} of {TABLE} without a recording, such as {names[0]}."] if names else []


def _speaker_notes(clips: Sequence[Clip]) -> list[str]:
    unknown = len({clip.clip_id for clip in clips if is_unknown(clip.speaker)})
    return [f"{count(unknown, 'clip')} of unknown speakers."] if unknown else []


def _make_clip(row: Row, path: Path, podcast: str) -> Clip | None:
    """Return the clip of a recording, or None if it has none of the eight emotions."""
    label = EMOTIONS.get(row["EmoClass"].upper())
    if label is None:
        return None
    name = row["FileName"]
    clip_id = name[:-4] if name.casefold().endswith(".wav") else name
    extra = {name: cell for name, cell in row.items() if cell and name not in RESERVED}
    extra |= {PARTITION: PARTITIONS[row["Split_Set"].casefold()]} | ({"session": podcast} if podcast.isdigit() else {})
    gender = GENDERS[row["Gender"].casefold()]
    return Clip("msp-podcast", clip_id, str(path), label, row["SpkrID"] or UNKNOWN, gender, extra)


dataset = Dataset(
    name="msp-podcast",
    title="MSP-Podcast",
    licence="research only, with an agreement that the institution signs",
    citation="Lotfian R, Busso C (2019). IEEE Trans. Affective Computing 10(4): 471-483. "
    "doi:10.1109/TAFFC.2017.2736999",
    source="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html, with a signed agreement",
    how_to_apply="Your institution signs the agreement at "
    "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html. `ser` reads the folder that contains "
    "Audios and Labels.",
    layout=LAYOUT,
    scan=scan,
    names=NAME,
    language="English",
    labels=tuple(sorted(EMOTIONS.values())),
    rates=(16_000,),
    official_partitions=True,
    known_faults=(
        KnownFault(
            clips=("MSP-PODCAST_1023_0235",),
            description="stereo at 44.1 kHz, in release 1.8",
            source="data/msp-podcast/process_database.py in felixbur/nkululeko",
            treatment="kept: it is mixed and resampled like any recording",
        ),
    ),
)
