"""The audit: a small tree that is sound, then one thing wrong at a time; what it says and how the command ends."""

import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.places import RAVDESS, Ser, needs_ravdess
from helpers.sounds import noise, ravdess_tree, write
from rich.console import Console

from embedcache import Audit, Clip, DataError, Dataset, Recording, audit, datasets, progress
from embedcache.auditing import measure as listening
from embedcache.auditing.measure import longest_clipped_run
from embedcache.auditing.terminal_table import show_audit
from embedcache.dataset import KnownFault

FIRST, SECOND, OTHER = "03-01-01-01-01-01-01", "03-01-01-01-01-02-01", "03-01-02-01-01-01-01"
TWINS = ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")


@pytest.fixture
def spec() -> Dataset:
    """RAVDESS of 24 clips by 4 actors, 0.2 s each."""
    return replace(
        datasets.get("ravdess"),
        n_clips=24,
        n_speakers=4,
        seconds=(0.2, 0.2),
        rates=(),
        known_faults=(),
        checksums=None,
    )


def at(tree: Path, clip_id: str = FIRST) -> Path:
    return tree / f"Actor_{clip_id[-2:]}" / f"{clip_id}.wav"


def kinds(found: Audit) -> dict[str, str]:
    """The kinds of finding, with their severities."""
    return {finding.kind: finding.severity for finding in found.findings}


def only(found: Audit) -> object:
    (finding,) = found.findings
    return finding


def shown(found: Audit, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    show_audit(found, console)
    return console.file.getvalue()


def published(tree: Path) -> dict[str, str]:
    return {path.stem: Recording.load(path).key for path in tree.rglob("*.wav")}


def test_a_sound_tree_has_counts_and_no_findings(spec: Dataset, tree: Path) -> None:
    found = audit(spec, tree)
    assert found.findings == ()
    assert (found.clips, found.published, found.left_out) == (24, 24, 0)
    assert found.hours == pytest.approx(24 * 0.2 / 3600)
    assert found.labels == {label: {"female": 4, "male": 4} for label in ("calm", "happy", "neutral")}
    assert found.speakers == {"01": 6, "02": 6, "03": 6, "04": 6}
    assert (found.genders, found.texts) == ({"female": 12, "male": 12}, {"kids": 24})


HUM = noise(0.2)
LOUD = np.clip(20 * HUM, -1, 1 - 2**-15)
INJECTED = {
    "silent": (lambda p: write(p, 0 * HUM), "fault", "silent", "0.20 s, peak 0.000000"),
    "offset": (lambda p: write(p, 0 * HUM + 0.3), "fault", "silent", "peak 0.299"),
    "quiet": (lambda p: write(p, 0.01 * HUM / abs(HUM).max()), "note", "very quiet", "peak 328 of 32768"),
    "clipped": (lambda p: write(p, LOUD), "note", "clipped", "consecutive samples"),
    "stereo": (lambda p: write(p, noise(0.2, channels=2)), "note", "channels", f"1 stereo, most are mono: {FIRST}"),
    "rate": (lambda p: write(p, noise(0.2, 8000), 8000), "note", "rate", f"1 at 8000 Hz, most have 16000 Hz: {FIRST}"),
    "long": (lambda p: write(p, noise(1.5)), "fault", "duration", "1.50 s, wanted 0.2 to 0.2 s"),
    "short": (lambda p: write(p, noise(0.05)), "fault", "duration", "0.05 s, wanted"),
    "empty": (lambda p: p.write_bytes(b""), "fault", "unreadable", "is empty (0 bytes)"),
    "pointer": (lambda p: p.write_text("version https://git-lfs\n"), "fault", "unreadable", "Run `git lfs pull`"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:3000]), "fault", "unreadable", "declares 0.20 s, it holds"),
    "noise": (lambda p: p.write_bytes(b"RIFF nothing"), "fault", "unreadable", "cannot be decoded"),
    "8 bit": (lambda p: write(p, np.rint(9 * HUM), subtype="FLOAT"), "fault", "unreadable", "unscaled integers"),
    "low": (
        lambda p: soundfile.write(p, np.rint(HUM * 2**15).astype(np.int32), 16_000, subtype="PCM_32"),
        "fault",
        "unreadable",
        "16-bit values in 32 bits, 96 dB too quiet: multiply them by 65536",
    ),
    "peak": (
        lambda p: write(p, np.where(HUM.max() == HUM, 5.5, HUM), subtype="FLOAT"),
        "note",
        "scale",
        "1 with samples above 4, where 1 is full scale",
    ),
    "nan": (lambda p: write(p, HUM * np.nan, subtype="FLOAT"), "fault", "unreadable", "samples are NaN"),
}


@pytest.mark.parametrize("name", INJECTED)
def test_one_bad_clip_is_the_one_finding(spec: Dataset, tree: Path, name: str) -> None:
    spoil, severity, kind, said = INJECTED[name]
    spoil(at(tree))
    finding = only(audit(spec, tree))
    assert (finding.severity, finding.kind, finding.clips) == (severity, kind, (FIRST,))
    assert said in finding.lines[0]
    assert FIRST in finding.lines[0]
    assert str(tree) not in finding.lines[0]


def test_two_samples_at_full_scale_are_no_clipping_three_are() -> None:
    sound = np.zeros((9, 2), np.float32)
    sound[[1, 2, 4, 5], 0], sound[3, 1] = 1 - 2**-15, 1
    assert longest_clipped_run(sound) == 2
    sound[3, 0] = -1
    assert longest_clipped_run(sound) == 5
    assert longest_clipped_run(np.zeros((9, 1), np.float32)) == 0


def test_durations_of_a_dataset_that_tells_none(spec: Dataset, tree: Path) -> None:
    finding = only(audit(replace(spec, seconds=None), tree))
    assert (finding.kind, len(finding.clips)) == ("duration", 24)
    assert "0.20 s, wanted 0.25 to 30 s" in finding.lines[0]


def test_a_tree_of_one_rate_is_held_to_the_published_one(spec: Dataset, tree: Path) -> None:
    finding = only(audit(replace(spec, rates=(48_000,)), tree))
    assert (finding.severity, finding.kind, len(finding.clips)) == ("note", "rate", 24)
    assert finding.lines[0].startswith("24 at 16000 Hz, the published rate is 48000 Hz: 03-")


def test_identical_clips_of_one_label_are_a_note(spec: Dataset, tree: Path) -> None:
    shutil.copy(at(tree, FIRST), at(tree, SECOND))
    finding = only(audit(spec, tree))
    assert (finding.severity, finding.kind, finding.clips) == ("note", "identical", (FIRST, SECOND))
    assert finding.lines == (f"{FIRST} (neutral, speaker 01) = {SECOND} (neutral, speaker 01)",)


@pytest.mark.parametrize("other", [OTHER, "03-01-01-01-01-01-02"], ids=["label", "speaker"])
def test_identical_clips_that_contradict_are_a_fault(spec: Dataset, tree: Path, other: str) -> None:
    shutil.copy(at(tree, FIRST), at(tree, other))
    finding = only(audit(spec, tree))
    assert (finding.severity, finding.kind, finding.clips) == ("fault", "contradiction", (FIRST, other))


def collection(root: Path, names: list[str]) -> Path:
    for seed, name in enumerate(names):
        write(root / name, noise(0.3, seed=seed))
    return root


def test_spellings_of_one_speaker_are_a_fault(tmp_path: Path) -> None:
    root = collection(tmp_path / "mine", ["sad/Ann_1.wav", "glad/ann_1.wav", "glad/bob_1.wav"])
    finding = only(audit(datasets.get("folder"), root))
    assert (finding.severity, finding.kind) == ("fault", "speaker names")
    assert finding.lines == ("'ann' (1 clip: glad/ann_1.wav) and 'Ann' (1 clip: sad/Ann_1.wav)",)


def test_takes_read_as_speakers_are_a_fault_unless_they_are_meant(tmp_path: Path) -> None:
    root = collection(tmp_path / "mine", [f"{label}/{label}{n}_ann.wav" for label in ("sad", "glad") for n in range(6)])
    finding = only(audit(datasets.get("folder"), root))
    assert (finding.severity, finding.kind) == ("fault", "clips as speakers")
    assert "12 speakers in 12 clips" in finding.lines[0]
    assert "Is 'glad0' the speaker of glad/glad0_ann.wav?" in finding.lines[0]
    assert "--speakers-are-clips" in finding.said
    assert audit(datasets.get("folder"), root, speakers_are_clips=True).findings == ()


def test_the_speakers_of_a_file_that_has_two_are_named(tmp_path: Path) -> None:
    root = collection(tmp_path / "mine", ["a.wav", "b.wav"])
    shutil.copy(root / "a.wav", root / "c.wav")
    rows = [("a.wav", "sad", "ann", "x"), ("c.wav", "sad", "bob", "x"), ("b.wav", "glad", "ann", "y")]
    clips = [Clip("mine", name, str(root / path), label, speaker) for path, label, speaker, name in rows]
    finding = only(audit(replace(datasets.get("folder"), scan=lambda _: clips), root))
    assert finding.kind == "clashing ids"
    assert finding.lines == ("x: a.wav (sad, speaker ann) and c.wav (sad, speaker bob)",)


@pytest.mark.parametrize("keep", [False, True])
def test_the_register_explains_what_was_published_so(spec: Dataset, tree: Path, keep: bool) -> None:
    shutil.copy(at(tree, FIRST), at(tree, OTHER))
    write(at(tree, SECOND), 0 * HUM)
    register = (
        KnownFault((FIRST, OTHER), "one recording under two labels", "its checksums", left_out=True),
        KnownFault((SECOND,), "has no sound", "its README", treatment="used as it is"),
        KnownFault(("03-01-08-02-02-02-24",), "is not here", "nobody"),
    )
    found = audit(replace(spec, known_faults=register), tree, keep_known_faults=keep)
    assert found.faults == ()
    assert found.left_out == (0 if keep else 2)
    pair, silent = found.findings
    assert (pair.kind, pair.clips, pair.source) == ("known fault", (FIRST, OTHER), "its checksums")
    assert pair.lines == (f"{FIRST} and {OTHER}: one recording under two labels",)
    done = "Kept, as requested" if keep else "Left out; --keep-known-faults keeps them"
    assert pair.said == f"{done}. Confirmed in this copy: contradiction."
    assert silent.said == "Used as it is. Confirmed in this copy: silent."


def test_the_register_explains_no_fault_of_this_copy(spec: Dataset, tree: Path) -> None:
    register = (
        KnownFault((FIRST,), "has no sound", "its README", left_out=True),
        KnownFault((SECOND, OTHER), "are one", "its README", treatment="kept together"),
    )
    at(tree, FIRST).write_bytes(b"")
    write(at(tree, SECOND), 0 * HUM)  # one of the two: not what the register says
    found = audit(replace(spec, known_faults=register), tree)
    assert [finding.kind for finding in found.findings] == ["unreadable", "silent", "known fault", "known fault"]


def test_bytes_that_were_not_published(spec: Dataset, tree: Path) -> None:
    sums = published(tree)
    spec = replace(spec, checksums=lambda: sums)
    assert audit(spec, tree).findings == ()
    write(at(tree), noise(0.2, seed=5))
    finding = only(audit(spec, tree))
    assert (finding.severity, finding.kind, finding.clips) == ("fault", "altered", (FIRST,))
    assert f"published {sums[FIRST][:12]}…" in finding.lines[0]


def test_a_converted_copy_is_not_held_to_checksums(spec: Dataset, tree: Path) -> None:
    sums = published(tree)
    sound, rate = soundfile.read(at(tree))
    write(at(tree).with_suffix(".flac"), sound, rate)
    at(tree).unlink()
    finding = only(audit(replace(spec, checksums=lambda: sums), tree))
    assert (finding.severity, finding.kind, finding.lines) == ("note", "not compared", (f"Actor_01/{FIRST}.flac",))


def test_a_register_names_what_is_missing_and_what_is_extra(spec: Dataset, tree: Path) -> None:
    sums = published(tree)
    at(tree).rename(at(tree, "03-01-08-01-01-01-01"))
    missing, extra = audit(replace(spec, checksums=lambda: sums), tree).findings
    assert (missing.severity, missing.kind, missing.clips) == ("fault", "missing", (FIRST,))
    assert (extra.severity, extra.kind, extra.clips) == ("fault", "extra", ("03-01-08-01-01-01-01",))


def test_counts_tell_what_is_missing_and_where(spec: Dataset, tree: Path) -> None:
    at(tree).unlink()
    missing, uneven = audit(spec, tree).findings
    assert (missing.kind, missing.lines) == ("missing", ("1 of 24 clips are missing",))
    assert (uneven.kind, uneven.lines) == ("uneven", ("speaker 01, neutral: has 1, others have 2",))
    shutil.rmtree(tree / "Actor_04")
    missing, _ = audit(spec, tree).findings
    assert missing.lines == ("7 of 24 clips are missing; 1 of 4 speakers have no clips",)


def test_counts_tell_what_is_extra_even_where_another_is_missing(spec: Dataset, tree: Path) -> None:
    write(at(tree, "03-01-01-01-02-01-01"), noise(0.2, seed=7))
    extra, uneven = audit(spec, tree).findings
    assert (extra.kind, extra.lines) == ("extra", ("25 clips, but only 24 were published",))
    at(tree, OTHER).unlink()
    uneven = only(audit(spec, tree))
    assert (uneven.severity, len(uneven.lines)) == ("fault", 2)


def test_a_nested_copy_is_a_note_and_other_bytes_in_it_a_fault(spec: Dataset, tree: Path) -> None:
    shutil.copytree(tree / "Actor_01", tree / "again" / "Actor_01")
    found = audit(spec, tree)
    finding = only(found)
    assert (finding.severity, finding.kind, len(finding.clips)) == ("note", "second copy", 6)
    assert f"again/Actor_01/{FIRST}.wav" in finding.lines
    assert (found.clips, found.speakers["01"]) == (24, 6)
    write(tree / "again" / "Actor_01" / f"{FIRST}.wav", noise(0.2, seed=3))
    found = audit(spec, tree)
    assert kinds(found) == {"clashing ids": "fault", "second copy": "note"}
    assert found.clips == 24
    assert found.faults[0].lines == (
        f"{FIRST}: Actor_01/{FIRST}.wav (neutral) and again/Actor_01/{FIRST}.wav (neutral)",
    )


def test_song_beside_speech_is_counted(spec: Dataset, tree: Path) -> None:
    write(at(tree, "03-02-01-01-01-01-01"), noise(0.2))
    finding = only(audit(spec, tree))
    assert (finding.severity, finding.kind) == ("note", "other audio")
    assert finding.lines == ("Actor_01/03-02-01-01-01-01-01.wav",)


def test_a_csv_and_what_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "wavs" / "1.wav", noise(0.5))
    write(tmp_path / "wavs" / "2.wav", noise(0.5, seed=1))
    (tmp_path / "my.csv").write_text("path,label,speaker\nwavs/1.wav,sad,ann\nwavs/gone.wav,glad,bob\n")
    found = audit(datasets.get("folder"), tmp_path / "my.csv")
    assert kinds(found) == {"unreadable": "fault", "other audio": "note"}
    assert found.findings[0].lines[0].startswith("wavs/gone.wav: cannot be read: No such file")
    assert found.findings[1].lines == ("wavs/2.wav",)
    assert found.genders == {"": 2}


def test_one_label_alone_is_a_fault(tmp_path: Path) -> None:
    for speaker in ("ann", "bob"):
        write(tmp_path / "mine" / "wav" / f"{speaker}_1.wav", noise(0.5, seed=ord(speaker[0])))
    finding = only(audit(datasets.get("folder"), tmp_path / "mine"))
    assert (finding.severity, finding.kind, finding.lines) == (
        "fault",
        "one label",
        ("all 2 clips have the label 'wav'",),
    )


def test_a_tree_that_is_no_such_dataset_stops(spec: Dataset, tree: Path) -> None:
    write(tree / "Actor_01" / "hello.wav", noise(0.2))
    with pytest.raises(DataError, match="1 files do not belong to the dataset"):
        audit(spec, tree)


def test_each_file_is_read_once(spec: Dataset, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, decoded = [], []
    load, decode = Recording.load, Recording._decode

    def watch(seen: list, real: Callable) -> Callable:
        def call(this: object, *rest: object) -> object:
            seen.append(this)
            return real(this, *rest)

        return call

    monkeypatch.setattr(Recording, "load", watch(opened, load))
    monkeypatch.setattr(Recording, "_decode", watch(decoded, decode))
    audit(spec, tree)
    assert len(opened) == len(decoded) == 24


def test_progress_through_a_pipe_is_lines(
    spec: Dataset, tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same lines as those of an extraction, here without a pause between them."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    audit(spec, tree, progress.terminal)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"reading: 1/24 clips, [\d.,]+/s, \d+ s left", lines[0])
    assert lines[-1].startswith("reading: 24/24 clips, ")


def test_a_name_of_two_lines_takes_one(tmp_path: Path) -> None:
    for speaker in ("ann", "bob"):
        write(tmp_path / "mine" / "sad" / f"{speaker}_1.wav", noise(0.5, seed=ord(speaker[0])))
    (tmp_path / "mine" / "glad").mkdir()
    (tmp_path / "mine" / "glad" / "ann_2\n\x1b[2J.wav").write_bytes(b"")
    found = audit(datasets.get("folder"), tmp_path / "mine")
    (line,) = [line for line in shown(found, 200).splitlines() if "ann_2" in line]
    assert "glad/ann_2\\n\\x1b[2J.wav: is empty (0 bytes)" in line
    assert json.loads(json.dumps(found.to_dict()))["findings"][0]["clips"] == ["glad/ann_2\n\x1b[2J.wav"]


def test_an_interrupt_does_not_wait_for_the_rest(spec: Dataset, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def slow(clip: object) -> None:
        begun.append(clip)
        time.sleep(0.05)

    @contextmanager
    def interrupted(task: str, total: float, unit: str) -> Iterator[Callable]:
        def advance(step: float) -> None:
            raise KeyboardInterrupt

        yield advance

    monkeypatch.setattr(listening, "measure", slow)
    monkeypatch.setattr(listening.os, "cpu_count", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        audit(spec, tree, interrupted)
    assert len(begun) < 12


@pytest.fixture
def troubled(spec: Dataset, tree: Path) -> Audit:
    """Faults and notes, of one clip and of many, with a register."""
    write(at(tree), 0 * HUM)
    at(tree, SECOND).unlink()
    for path in (tree / "Actor_03").iterdir():
        path.write_bytes(b"")
    shutil.copytree(tree / "Actor_02", tree / "a folder with a rather long name" / "Actor_02")
    known = KnownFault((OTHER,), "is [bold]not[/bold] as it should be", "a paper of many words " * 5, left_out=True)
    return audit(replace(spec, known_faults=(known,), rates=(48_000,)), tree)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_it_fits_the_terminal(troubled: Audit, width: int) -> None:
    text = shown(troubled, width)
    assert max(map(len, text.splitlines())) <= width
    lines = [line.strip() for line in text.splitlines()]
    order = [line.split()[0] for line in lines if line.startswith(("fault", "note"))]
    assert order == ["fault"] * 4 + ["note"] * 3
    assert lines[-1] == "4 faults, 3 notes."
    assert "… and 1 more; --json lists all" in text.replace("\n", " ")  # of six
    assert "[bold]not[/bold]" in text
    assert "4 speakers, 5 to 6 clips each" in text
    assert "1 clip left out because of known faults" in text
    assert "\x1b" not in text


def test_a_terminal_says_that_nothing_is_wrong(spec: Dataset, tree: Path) -> None:
    assert shown(audit(spec, tree), 80).splitlines()[-1].strip() == "No faults were found; 0 notes."


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Six sound clips of one's own."""
    for number, label in enumerate(["sad"] * 3 + ["glad"] * 3):
        write(tmp_path / "my clips" / label / f"ann_{number}.wav", noise(0.5, seed=number))
    return tmp_path / "my clips"


def test_the_command_ends_well_and_says_what_is_next(ser: Ser, mine: Path) -> None:
    done = ser("audit", "--dataset", "folder", "--root", mine)
    assert done.returncode == 0, done.stderr
    assert "Recordings of your own: 6 clips, 1 speaker, 3 s" in done.stdout
    assert "No faults were found; 0 notes." in done.stdout
    assert f"Next: ser extract --dataset folder --root '{mine}'" in done.stderr


def test_the_command_prints_all_then_fails(ser: Ser, mine: Path) -> None:
    (mine / "sad" / "ann_0.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    done = ser("audit", "--dataset", "folder", "--root", mine, env={"NO_COLOR": "1"})
    assert done.returncode == 1
    assert "git lfs pull" in done.stdout.replace("\n", " ")
    assert "1 fault, 0 notes." in done.stdout
    assert done.stderr.startswith("error: 1 fault. ")
    assert "Traceback" not in done.stderr


def test_json_holds_everything_and_nothing_else(ser: Ser, tmp_path: Path) -> None:
    ravdess_tree(tmp_path / "tree")
    for path in (tmp_path / "tree" / "Actor_01").iterdir():
        write(path, 0 * noise(0.1 + len(path.stem) / 100))
    done = ser("audit", "--dataset", "ravdess", "--root", "tree", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["clips"], told["published"], told["labels"]["calm"]) == (24, 1440, {"female": 4, "male": 4})
    silent = next(finding for finding in told["findings"] if finding["kind"] == "silent")
    assert len(silent["clips"]) == len(silent["lines"]) == 6
    assert set(silent) == {"severity", "kind", "clips", "said", "lines", "source"}


def test_a_wrong_folder_is_one_message(ser: Ser, tmp_path: Path) -> None:
    done = ser("audit", "--dataset", "ravdess", "--root", "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no ravdess recordings: nowhere does not exist.")


@needs_ravdess
def test_ravdess_as_it_is() -> None:
    register = KnownFault(TWINS, "one recording, byte for byte", "its archive", treatment="kept together in one fold")
    spec = replace(datasets.get("ravdess"), known_faults=(register,), seconds=(2.9, 5.3), rates=())
    found = audit(spec, RAVDESS)
    assert found.faults == ()
    assert (found.clips, set(found.speakers.values()), found.genders) == (1440, {60}, {"female": 720, "male": 720})
    assert found.texts == {"dogs": 720, "kids": 720}
    assert found.hours == pytest.approx(1.48, abs=0.01)
    known = next(finding for finding in found.findings if finding.kind == "known fault")
    assert known.clips == TWINS
    assert known.said == "Kept together in one fold. Confirmed in this copy: identical."
    quiet = next(finding for finding in found.findings if finding.kind == "very quiet")
    assert len(quiet.clips) >= 20
    found = audit(replace(spec, known_faults=()), RAVDESS)
    assert found.faults == ()
    assert next(finding for finding in found.findings if finding.kind == "identical").clips == TWINS


def test_spans_of_two_labels_that_overlap_are_a_fault(tmp_path: Path) -> None:
    """As for `ser extract`, which refuses them."""
    write(tmp_path / "a.wav", noise(4))
    rows = ["sad,ann,0,1", "glad,ann,0.5,1.5", "glad,ann,1.4,2", "glad,ann,2.5,3.5", "sad,ann,3.45,4"]
    (tmp_path / "t.csv").write_text("path,label,speaker,start,end\n" + "".join(f"a.wav,{row}\n" for row in rows))
    found = audit(datasets.get("folder"), tmp_path / "t.csv")
    (overlap,) = [finding for finding in found.findings if finding.kind == "overlap"]
    assert overlap.severity == "fault"
    assert overlap.lines == ("a.wav@0-1 (sad) and a.wav@0.5-1.5 (glad): 0.50 s",)
