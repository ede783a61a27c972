"""MSP-Podcast and MELD: clips with published partitions, tables with faults, files without rows, rows without files."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
from helpers.encoded import encoded
from helpers.sounds import noise, write
from helpers.trees import PODCAST, TREES, UTTERANCES

from embedcache import DataError, Manifest, add_keys, datasets
from embedcache.dataset import comparison_options
from embedcache.manifest import is_unknown


def read(name: str, root: Path) -> Manifest:
    return datasets.get(name).manifest(root)


def podcast(root: Path, *rows: str, table: str = "Labels/labels_consensus.csv", header: str = PODCAST) -> Path:
    """A tree with a recording for each row."""
    (root / table).parent.mkdir(parents=True, exist_ok=True)
    (root / table).write_text(header + "".join(f"{row}\n" for row in rows))
    for number, row in enumerate(rows):
        write(root / "Audios" / row.partition(",")[0], noise(0.1, seed=number))
    return root


def utterances(root: Path, part: str, *rows: str, folder: str = "") -> Path:
    """A partition with a recording for each row `speaker,emotion,dialogue,utterance,text`."""
    lines = []
    for number, row in enumerate(rows):
        speaker, emotion, dialogue, utterance, text = row.split(";")
        cells = ["1", text, speaker, emotion, "neutral", dialogue, utterance, "4", "7", "00:00:01,0", "00:00:02,0"]
        lines.append(cells)
        write(root / (folder or f"{part}_splits") / f"dia{dialogue}_utt{utterance}.wav", noise(0.1, seed=number))
    with (root / f"{part}_sent_emo.csv").open("w", newline="", encoding="utf-8") as file:
        file.write(UTTERANCES)
        csv.writer(file).writerows(lines)
    return root


def test_podcast_reads_partition_podcast_and_attributes(tmp_path: Path) -> None:
    manifest = read("msp-podcast", TREES["msp-podcast"].make(tmp_path / "x"))
    clips = {clip.clip_id: clip for clip in manifest.clips}
    assert dict(clips["MSP-PODCAST_0003_0001_0001"].extra) == {
        "language": "English",
        "partition": "test1",
        "session": "0003",
        "EmoAct": "6.2",
        "EmoVal": "2.0",
        "EmoDom": "5.6",
    }
    assert [clip.extra["partition"] for clip in manifest.clips] == ["train", "train", "dev", "test1", "test2"]
    unknown = clips["MSP-PODCAST_0001_0009"]
    assert (unknown.speaker, unknown.gender, is_unknown(unknown.speaker)) == ("Unknown", "", True)
    assert manifest.notes == (
        "passed over 1 recording of Test3, whose labels are not published.",
        "left out 1 recording: 1 with no agreement (X).",
        "1 clip of unknown speakers.",
    )


def test_times_in_the_table_of_podcasts_cut_no_recording(tmp_path: Path) -> None:
    """A segment is a file of its own; its times in the episode are not a span of this file."""
    header = PODCAST.strip() + ",start,end\n"
    row = "MSP-PODCAST_0001_0008.wav,N,5.2,4,5,127,Male,Train,312.5,315.0"
    (clip,) = read("msp-podcast", podcast(tmp_path, row, header=header)).clips
    assert clip.span is None


def test_podcasts_of_early_releases_are_read_alike(tmp_path: Path) -> None:
    table = "Labels/labels_concensus.csv"
    root = podcast(tmp_path, "MSP-PODCAST_0001_0008.wav,N,2.2,4,2.6,30,Male,Validation", table=table)
    for folder in (root, root / "Audios"):  # the table is also found beside the recordings
        (clip,) = read("msp-podcast", folder).clips
        assert (clip.extra["partition"], clip.speaker) == ("dev", "30")


def test_every_podcast_that_is_left_out_is_counted(tmp_path: Path) -> None:
    rows = [f"MSP-PODCAST_0001_{n:04d}.wav,{letter},1,1,1,30,Male,Train" for n, letter in enumerate("NXXO")]
    rows += ["MSP-PODCAST_0001_0010.wav,,,,,,,Test3", "MSP-PODCAST_0001_0011.wav,S,1,1,1,,Female,Train"]
    root = podcast(tmp_path, *rows)
    (root / "Audios" / "MSP-PODCAST_0001_0000.wav").unlink()
    removed = "Previous_releases_information/files_removed_from_prev_versions/MSP-PODCAST_0009_0001.wav"
    write(root / removed, noise(0.1))
    (root / "Previous_releases_information" / "labels_consensus.csv").write_text(PODCAST + "a.wav,Q,,,,,,\n")
    manifest = read("msp-podcast", root)
    assert [(clip.clip_id, clip.speaker) for clip in manifest.clips] == [("MSP-PODCAST_0001_0011", "Unknown")]
    assert manifest.notes == (
        "passed over 1 recording of earlier releases.",
        "left out 4 recordings: 2 with no agreement (X), 1 with another emotion (O), 1 with no label.",
        "1 row of Labels/labels_consensus.csv without a recording, such as MSP-PODCAST_0001_0000.wav.",
        "1 clip of unknown speakers.",
    )


def test_rows_of_podcasts_that_are_repeated_count_once(tmp_path: Path) -> None:
    row = "MSP-PODCAST_0001_0008.wav,N,2.2,4,2.6,30,Male,Train"
    root = podcast(tmp_path, row, row)
    assert read("msp-podcast", root).notes == ("labels_consensus.csv: each row counts once; 1 repetition.",)
    podcast(root, row, row.replace(",N,", ",A,"))
    with pytest.raises(DataError, match=r"row 3: MSP-PODCAST_0001_0008.wav has another row with other values"):
        read("msp-podcast", root)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("Q,1,1,1,30,Male,Train", "row 2: EmoClass Q, wanted one of A, S, H, U, F, D, C, N, O, X"),
        ("N,1,1,1,30,Male,Holdout", "row 2: Split_Set Holdout, wanted one of train, development, validation, test1"),
        ("N,1,1,1,30,Male,", "row 2: Split_Set is empty, wanted"),
        ("N,1,1,1,30,x,Train", "row 2: Gender x, wanted Female, Male or Unknown"),
        ("N,1,1,1,30,Male", "wanted 8 cells in each row"),
    ],
)
def test_rows_of_podcasts_are_checked(tmp_path: Path, cells: str, said: str) -> None:
    root = podcast(tmp_path, f"MSP-PODCAST_0001_0008.wav,{cells}")
    with pytest.raises(DataError, match=re.escape(said)):
        read("msp-podcast", root)


def test_a_podcast_without_a_row_or_a_table_is_told(tmp_path: Path) -> None:
    root = podcast(tmp_path / "x", "MSP-PODCAST_0001_0008.wav,N,1,1,1,30,Male,Train")
    write(root / "Audios" / "MSP-PODCAST_0001_0009.wav", noise(0.1))
    with pytest.raises(DataError, match=r"0009.wav: is in no row of Labels/labels_consensus.csv"):
        read("msp-podcast", root)
    (root / "Labels" / "labels_consensus.csv").unlink()
    with pytest.raises(DataError, match=r"2 files do not(?s:.*)there is no Labels/labels_consensus.csv that gives its"):
        read("msp-podcast", root)
    (root / "Labels" / "labels_consensus.csv").write_text("FileName,EmoClass\nMSP-PODCAST_0001_0008.wav,N\n")
    with pytest.raises(DataError, match="no column SpkrID, Gender, Split_Set"):
        read("msp-podcast", root)


def test_unknown_speakers_are_not_one_person(tmp_path: Path) -> None:
    """A recording of an unknown speaker may be that of a known one: this is no error. Protocols need known speakers."""
    rows = [f"MSP-PODCAST_0001_{n:04d}.wav,N,1,1,1,{speaker},Male,Train" for n, speaker in enumerate(("30", "Unknown"))]
    root = podcast(tmp_path / "x", *rows)
    for name in ("0000", "0001"):
        write(root / "Audios" / f"MSP-PODCAST_0001_{name}.wav", noise(0.1))
    manifest = add_keys(read("msp-podcast", root)).check()
    assert len({clip.key for clip in manifest.clips}) == 1
    assert comparison_options(manifest) == " --protocol random"


def test_many_podcasts_are_listed_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is looked at more often if there are more files."""
    rows = [f"MSP-PODCAST_{n:04d}_0001.wav,N,1,1,1,{n},Male,Train" for n in range(300)]
    root = podcast(tmp_path / "x")
    (root / "Labels" / "labels_consensus.csv").write_text(PODCAST + "\n".join(rows))
    (root / "Audios").mkdir()
    for row in rows:
        (root / "Audios" / row.partition(",")[0]).touch()
    looked = Counter()
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **how: looked.update([path.name]) or stat(path, **how))
    assert len(read("msp-podcast", root)) == 300
    assert max(n for name, n in looked.items() if name.startswith("MSP")) <= 1


def test_meld_reads_partition_dialogue_and_text(tmp_path: Path) -> None:
    manifest = read("meld", TREES["meld"].make(tmp_path / "x"))
    clips = {clip.clip_id: clip for clip in manifest.clips}
    assert list(clips) == ["dev/dia0_utt0", "test/dia0_utt0", "test/dia0_utt1", "train/dia0_utt0", "train/dia0_utt1"]
    assert dict(clips["train/dia0_utt0"].extra) == {
        "language": "English",
        "partition": "train",
        "session": "train-dia0",
        "text": "Oh my God, he\u2019s lost it.",
        "sentiment": "negative",
        "season": "4",
        "episode": "7",
    }
    together = clips["train/dia0_utt1"]
    assert (together.speaker, together.extra["spoken_by"]) == ("Unknown", "All")
    assert manifest.notes == ("1 clip of several people (All): the speaker is unknown.",)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_published_videos_of_meld_are_read_by_their_sound(tmp_path: Path, channels: int) -> None:
    root = utterances(tmp_path, "test", "Ross;joy;0;0;Hi.", folder="MELD.Raw/test/output_repeated_splits_test")
    folder = root / "MELD.Raw" / "test" / "output_repeated_splits_test"
    (folder / "dia0_utt0.wav").unlink()
    (folder / "dia0_utt0.mp4").write_bytes(encoded(noise(0.5, channels=channels), "mp4"))
    for name in ("._dia0_utt0.mp4", ".DS_Store"):
        (folder / name).write_bytes(b"macOS")
    (clip,) = add_keys(read("meld", root)).check().clips
    assert (clip.clip_id, clip.label, clip.speaker, clip.gender) == ("test/dia0_utt0", "joy", "Ross", "male")
    assert clip.key
    for name in ("msp-podcast", "folder"):
        with pytest.raises(DataError, match=r"this looks like MELD.*Use --dataset meld"):
            read(name, root)


def test_files_of_meld_without_a_row_and_rows_without_a_file_are_counted(tmp_path: Path) -> None:
    root = utterances(tmp_path, "dev", "Ross;joy;110;6;Hi.", "Ross;joy;110;7;Bye.", folder="dev/dev_splits_complete")
    folder = root / "dev" / "dev_splits_complete"
    (folder / "dia110_utt7.wav").unlink()
    for name in ("final_videos_testdia110_utt6", "dia66_utt9"):
        write(folder / f"{name}.wav", noise(0.1))
    manifest = read("meld", root)
    assert [clip.clip_id for clip in manifest.clips] == ["dev/dia110_utt6"]
    assert manifest.notes == (
        "passed over 1 file named final_videos_test….",
        "passed over 1 file without a row in the tables.",
        "1 row of the tables without a file: dev/dia110_utt7.",
    )


def test_the_broken_clip_of_meld_is_left_out_and_said(tmp_path: Path) -> None:
    root = utterances(tmp_path, "train", "Ross;joy;125;2;Hi.", "Ross;joy;125;3;Bye.")
    manifest = read("meld", root)
    assert [clip.clip_id for clip in manifest.usable] == ["train/dia125_utt2"]
    assert [clip.extra["skipped"] for clip in manifest.skipped] == [
        "known fault: cannot be decoded: its index is missing"
    ]


def test_texts_of_meld_are_put_right(tmp_path: Path) -> None:
    """Control characters that are quotation marks of Windows-1252; U+0085, an ellipsis there, ends no row."""
    text = "Oh my God, he\x92s lost it\x85, he, is, so, very, totally, really, quite, lost, it."
    root = utterances(tmp_path, "train", f"Ross;joy;0;0;{text}", "Joey;joy;0;1;Hi.")
    manifest = read("meld", root)
    assert manifest.clips[0].extra["text"] == text.replace("\x92", "\u2019").replace("\x85", "\u2026")
    assert manifest.notes == ("put right 1 row with characters of Windows-1252.",)


def test_names_of_melds_speakers_are_people(tmp_path: Path) -> None:
    names = ("Phoebe Sr", "Phoebe Sr.", "rachel", "Rachel", "Both", "Joey and Ross", "Rachel/Phoebe", "Mr. Geller")
    root = utterances(tmp_path, "train", *(f"{name};joy;0;{n};Hi." for n, name in enumerate(names)))
    manifest = add_keys(read("meld", root)).check()
    assert [clip.speaker for clip in manifest.clips] == [
        *("Phoebe Sr.", "Phoebe Sr.", "Rachel", "Rachel", "Unknown", "Unknown", "Unknown", "Mr. Geller"),
    ]
    assert [clip.gender for clip in manifest.clips][2:4] == ["female", "female"]
    assert [clip.extra.get("spoken_by", "") for clip in manifest.clips][4:] == [*names[4:7], ""]
    assert "reads the speaker 'Phoebe Sr' as 'Phoebe Sr.'." in manifest.notes


def test_several_people_of_meld_have_no_name(tmp_path: Path) -> None:
    names = ("All", "All but Ross", "Joey and Ross", "JOEY AND ROSS", "Allesandro", "Andy")
    manifest = read("meld", utterances(tmp_path, "train", *(f"{name};joy;0;{n};Hi." for n, name in enumerate(names))))
    assert [clip.speaker for clip in manifest.clips] == [*["Unknown"] * 4, "Allesandro", "Andy"]
    assert not [note for note in manifest.notes if note.startswith("reads the speaker")]


def test_numbers_of_meld_may_have_leading_zeros(tmp_path: Path) -> None:
    manifest = read("meld", utterances(tmp_path, "train", "Ross;joy;000;07;Hi."))
    assert ([clip.clip_id for clip in manifest.clips], manifest.notes) == (["train/dia0_utt7"], ())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("Ross;bored;0;0;Hi.", "train_sent_emo.csv, row 2: emotion 'bored', wanted one of anger, disgust"),
        ("Ross;joy;x;0;Hi.", "row 2: dialogue 'x' and utterance '0', wanted numbers"),
    ],
)
def test_rows_of_meld_are_checked(tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        read("meld", utterances(tmp_path, "train", row))


def test_a_clip_of_meld_has_one_row(tmp_path: Path) -> None:
    root = utterances(tmp_path, "train", "Ross;joy;0;0;Hi.", "Ross;joy;0;0;Hi.")
    assert len(read("meld", root)) == 1
    with pytest.raises(DataError, match="dialogue 0, utterance 0 has another row with other values"):
        read("meld", utterances(tmp_path, "train", "Ross;joy;0;0;Hi.", "Ross;anger;0;0;Hi."))


def test_a_clip_of_meld_needs_a_partition_and_its_table(tmp_path: Path) -> None:
    root = utterances(tmp_path, "train", "Ross;joy;0;0;Hi.")
    write(root / "test_splits" / "dia0_utt0.wav", noise(0.1, seed=5))
    with pytest.raises(DataError, match="no test_sent_emo.csv gives its emotion"):
        read("meld", root)
    (root / "test_splits").rename(root / "clips")
    with pytest.raises(DataError, match="is in the folder of no partition; wanted train_splits"):
        read("meld", root)
