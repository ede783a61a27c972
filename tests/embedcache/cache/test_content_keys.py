"""Content keys: remembered while nothing about a file changes, never longer."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.sounds import noise, ravdess_tree, write

from embedcache import (
    Artifacts,
    AudioError,
    Clip,
    DataError,
    KeyMemo,
    Manifest,
    Recording,
    UnknownName,
    add_keys,
    dataset_manifest,
    datasets,
    keyed_manifest,
)
from embedcache.cache.content_keys import listed_recording
from embedcache.cache.dataset_extraction import extract_dataset
from embedcache.files import stamps
from embedcache.manifest import KNOWN_FAULT, SKIPPED


@pytest.fixture
def old_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every file had been written long ago."""
    monkeypatch.setattr(stamps, "GRAIN_NS", -(10**18))


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, *_: object) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(Recording, "load", refuse)


@pytest.mark.usefixtures("old_clock")
def test_a_warm_run_reads_no_audio(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = datasets.get("ravdess").manifest(tree)
    cold = add_keys(manifest, KeyMemo(tmp_path / "keys.json"))
    forbid_reading(monkeypatch)
    assert add_keys(manifest, KeyMemo(tmp_path / "keys.json")) == cold
    assert all(len(clip.key) == 64 and clip.seconds == pytest.approx(0.2) for clip in cold.clips)


@pytest.mark.usefixtures("old_clock")
def test_a_file_of_equal_size_and_forged_date_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(0.1))
    before, memo = path.stat(), KeyMemo()
    first = memo.look_up(str(path))
    time.sleep(0.02)
    write(path, noise(0.1, seed=1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert memo.look_up(str(path)).key == Recording.load(path).key != first.key


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, memo = write(tmp_path / "a.wav", noise(0.1)), KeyMemo()
    memo.look_up(str(path))
    forbid_reading(monkeypatch)
    with pytest.raises(AssertionError, match="was read"):
        memo.look_up(str(path))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"/a.wav": 3}', '{"/a.wav": [1, 2]}'])
def test_a_memo_that_is_damaged_costs_time_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    path = write(tmp_path / "a.wav", noise(0.1))
    assert KeyMemo(tmp_path / "keys.json").look_up(str(path)).key == Recording.load(path).key


def test_a_faulty_file_is_kept_in_the_manifest_with_its_fault(tree: Path) -> None:
    bad = tree / "Actor_01" / "03-01-01-01-01-01-01.wav"
    bad.write_bytes(b"")
    keyed = add_keys(datasets.get("ravdess").manifest(tree))
    assert len(keyed) == 24
    (clip,) = [clip for clip in keyed.clips if "skipped" in clip.extra]
    assert clip.extra["skipped"] == f"{bad}: is empty (0 bytes). Copy or download it again, or remove it."


def test_a_key_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    """Of nothing else: another name, another place, another time are the same key."""
    path = write(tmp_path / "a.wav", noise(0.25))
    twin = tmp_path / "elsewhere" / "b.wav"
    twin.parent.mkdir()
    twin.write_bytes(path.read_bytes())
    wanted = hashlib.sha256(path.read_bytes()).hexdigest()
    assert [KeyMemo().look_up(str(one)).key for one in (path, twin)] == [wanted] * 2
    assert KeyMemo().look_up(str(path)).seconds == pytest.approx(0.25)


def test_what_cannot_be_read_is_said_and_has_no_key(tmp_path: Path) -> None:
    facts = KeyMemo().look_up(str(tmp_path / "gone.wav"))
    assert (facts.key, facts.seconds) == ("", 0.0)
    assert (
        facts.fault
        == f"{tmp_path / 'gone.wav'}: cannot be read: No such file or directory. Check the path and its permissions."
    )


@pytest.mark.usefixtures("old_clock")
def test_a_memo_is_a_line_a_file(tmp_path: Path) -> None:
    path, bad = write(tmp_path / "a.wav", noise(0.1)), tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    memo = KeyMemo(tmp_path / "keys.json")
    for one in (path, bad):
        memo.look_up(str(one))
    memo.save()
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    key = hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads((tmp_path / "keys.json").read_text()) == {str(path): [*stamp, key, 0.1, "", ""]}
    KeyMemo().save()  # nowhere


def clips(tree: Path) -> Manifest:
    return datasets.get("ravdess").manifest(tree)


def test_progress_counts_every_file_once(tree: Path) -> None:
    steps: list[float] = []
    told: list[tuple[str, float, str]] = []

    @contextmanager
    def progress(task: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
        told.append((task, total, unit))
        yield steps.append

    add_keys(clips(tree), progress=progress)
    assert (told, steps) == ([("reading", 24, "clips")], [1] * 24)


def test_a_second_copy_is_left_out_and_another_recording_of_the_same_name_is_not(tree: Path) -> None:
    manifest = clips(tree)
    twice = Manifest("ravdess", (*manifest.clips, *manifest.clips[:3]))
    assert add_keys(twice) == add_keys(manifest)
    first, second = manifest.clips[:2]
    for change in ({"path": second.path}, {"label": "other"}, {"speaker": "99"}):
        clash = Manifest("ravdess", (*manifest.clips, replace(first, **change)))
        with pytest.raises(DataError, match=f"the same clip id:\n  {first.clip_id}: .*\nRemove one file of each pair"):
            add_keys(clash)


def test_a_file_listed_under_two_speakers_is_named_with_both(tree: Path) -> None:
    manifest = clips(tree)
    clash = Manifest("ravdess", (*manifest.clips, replace(manifest.clips[0], speaker="99")))
    with pytest.raises(DataError, match=r"\(neutral, speaker 01\) and .*\(neutral, speaker 99\)"):
        add_keys(clash)


def own(root: Path, names: Sequence[str]) -> Path:
    """A folder of one's own: a recording for each name."""
    for seed, name in enumerate(names):
        write(root / name, noise(0.3, seed=seed))
    return root


def test_takes_that_are_read_as_speakers_are_asked_about(tmp_path: Path) -> None:
    """`<label>/<take>_<speaker>.wav`, and a CSV whose column speaker holds the names of the clips."""
    place, names = (
        Artifacts(tmp_path / "artifacts"),
        [f"{'sad' if n % 2 else 'glad'}/{n:02d}_ann.wav" for n in range(12)],
    )
    root = own(tmp_path / "takes", names)
    (root / "list.csv").write_text("path,label,speaker\n" + "".join(f"{n},{n[:3]},{n[-10:-4]}\n" for n in names))
    for source, said in (
        (root, "'00' the speaker of glad/00_ann.wav"),
        (root / "list.csv", "'00_ann' the speaker of glad"),
    ):
        question = f"has 12 speakers in 12 clips: .*Is {said}.*\nIf not, .*<speaker>_<anything>.*--speakers-are-clips"
        for refused in (
            lambda source=source: extract_dataset(place, "folder", source, "mfcc"),
            lambda source=source: dataset_manifest("folder", place, source),
        ):
            with pytest.raises(DataError, match=question):
                refused()
        done = extract_dataset(place, "folder", source, "mfcc", speakers_are_clips=True)
        assert len(done.manifest.speakers) == 12
    assert len(dataset_manifest("folder-takes", place)) == 12  # what was said once is not asked again


def test_a_recording_under_two_speakers_is_refused_at_extraction_until_it_is_corrected(tmp_path: Path) -> None:
    place, root = Artifacts(tmp_path / "artifacts"), own(tmp_path / "mine", ["sad/ann_1.wav", "glad/ann_1.wav"])
    shutil.copy(root / "sad" / "ann_1.wav", root / "sad" / "bob_1.wav")
    with pytest.raises(DataError, match=r"  sad/ann_1.wav \(speaker ann\) and sad/bob_1.wav \(speaker bob\)"):
        extract_dataset(place, "folder", root, "mfcc")
    add_keys(datasets.get("folder").manifest(root)).to_csv(place.manifest("folder-mine"))  # by an earlier version
    with pytest.raises(DataError, match="under two speakers"):
        dataset_manifest("folder-mine", place)
    (root / "sad" / "bob_1.wav").unlink()
    done = extract_dataset(place, "folder", root, "mfcc")  # an old manifest with the fault is no obstacle
    assert done.manifest.speakers == ("ann",)
    assert Manifest.from_csv(place.manifest("folder-mine")) == done.manifest


def test_a_clip_that_was_skipped_stays_skipped(tree: Path, tmp_path: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    keyed = keyed_manifest(clips(tree), place)
    assert keyed == add_keys(clips(tree))
    first = replace(keyed.clips[0], extra={**keyed.clips[0].extra, "skipped": "too short"})
    Manifest("ravdess", (first, *keyed.clips[1:])).to_csv(place.manifest("ravdess"))
    again = keyed_manifest(clips(tree), place)
    assert [clip.clip_id for clip in again.skipped] == [first.clip_id]
    assert place.keys("ravdess").exists()


def test_a_stored_manifest_is_taken_and_scanned_again_on_request(tree: Path, tmp_path: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    first = dataset_manifest("ravdess", place, tree)
    assert Manifest.from_csv(place.manifest("ravdess")) == first
    ravdess_tree(tree, actors=5)
    assert len(dataset_manifest("ravdess", place)) == 24
    assert len(dataset_manifest("ravdess", place, tree)) == 30
    with pytest.raises(UnknownName, match="no dataset 'nothing'"):
        dataset_manifest("nothing", place)


def test_the_only_folder_of_ones_own_is_called_folder(tmp_path: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    for name in ("one", "two"):
        for speaker in ("ann", "bob"):
            write(tmp_path / name / "sad" / f"{speaker}_1.wav", noise(0.1, seed=len(name) + ord(speaker[0])))
    assert dataset_manifest("folder", place, tmp_path / "one").dataset == "folder-one"
    assert dataset_manifest("folder", place).dataset == "folder-one"
    assert dataset_manifest("folder", place, tmp_path / "two").dataset == "folder-two"
    with pytest.raises(DataError):
        dataset_manifest("folder", place)  # which of the two?
    assert dataset_manifest("folder-one", place).dataset == "folder-one"


def test_a_listed_recording_has_the_listed_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(0.1))
    key = hashlib.sha256(path.read_bytes()).hexdigest()
    assert listed_recording(Clip("d", "a", str(path), "sad", "ann", key=key)).key == key
    with pytest.raises(
        AudioError, match=r"a.wav: differs from the file that the manifest lists. Run again with --root"
    ):
        listed_recording(Clip("d", "a", str(path), "sad", "ann", key="0" * 64))


def test_silent_clips_are_noted_also_from_the_memo_but_not_those_that_are_left_out(tmp_path: Path) -> None:
    own(tmp_path / "data", ["happy/a_1.wav", "happy/b_1.wav", "sad/a_2.wav", "sad/b_2.wav"])
    for name in ("happy/b_1.wav", "sad/b_2.wav"):
        write(tmp_path / "data" / name, 1e-30 * noise(0.3), subtype="FLOAT")
    manifest = datasets.get("folder").manifest(tmp_path / "data")
    said = "silence: a signal that varies by less than 0.0001 of full scale, in {}. Leave them out, or write them again"
    for _ in range(2):
        (found,) = [note for note in add_keys(manifest, KeyMemo(tmp_path / "m.json")).notes if "silence" in note]
        assert found.startswith(said.format("2 clips: happy/b_1.wav, sad/b_2.wav"))
    known = [
        replace(clip, extra={SKIPPED: f"{KNOWN_FAULT}: no sound"}) if "b_1" in clip.path else clip
        for clip in manifest.clips
    ]
    (found,) = [note for note in add_keys(replace(manifest, clips=tuple(known))).notes if "silence" in note]
    assert found.startswith(said.format("1 clip: sad/b_2.wav"))
