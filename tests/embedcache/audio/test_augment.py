"""Copies of clips: the same samples whenever they are made, each what its transform says, and never mixed up."""

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from helpers.places import REPOSITORY, Ser
from helpers.sounds import noise, write

from embedcache import (
    Artifacts,
    AudioError,
    Augmentation,
    Clip,
    DataError,
    EmbeddingStore,
    Manifest,
    SerError,
    UnknownName,
    add_keys,
    copies_of,
    datasets,
    extract,
    load_encoder,
    read,
)
from embedcache.audio import augment
from embedcache.audio.augment import TRANSFORMS, transformed
from embedcache.cache.maintenance import RepairResult, clips_to_extract, hours, summarise

RATE = 16_000
ALL = tuple(TRANSFORMS)


def clips(count: int = 1) -> Manifest:
    """So many clips that no file has."""
    made = (
        Clip("d", f"c{n}", f"c{n}.wav", "sad", "ann", "female", {"text": "x"}, f"{n:064x}", 2.0) for n in range(count)
    )
    return Manifest("d", tuple(made))


def copies(*transforms: str, count: int = 8, seed: int = 0) -> tuple[Clip, ...]:
    """Copies of one clip."""
    return copies_of(clips(), Augmentation(transforms, count, seed)).clips


def speech(seconds: float = 1.0) -> np.ndarray:
    """Something that has a pitch, a pause and a noise floor."""
    wave = noise(seconds).astype(np.float32)
    wave[len(wave) // 3 : len(wave) // 2] *= 0.01
    return wave


def keyed(root: Path) -> Manifest:
    return add_keys(datasets.get("ravdess").manifest(root))


def rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(wave.astype(np.float64) ** 2)))


@contextmanager
def restless() -> Iterator[None]:
    """Another thread that draws from both global generators, and seeds them, all the time."""
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            np.random.normal(size=100)  # noqa: NPY002
            np.random.seed(1)  # noqa: NPY002
            random.random()
            random.seed(1)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# What a copy is called, and what its key tells apart.


def test_a_copy_is_its_clip_but_for_name_key_and_length() -> None:
    manifest = clips(2)
    made = copies_of(manifest, Augmentation(("stretch",), 2))
    assert [clip.clip_id for clip in made.clips] == ["c0#1", "c0#2", "c1#1", "c1#2"]
    for copy in made.clips:
        origin = manifest.clips[copy.clip_id.startswith("c1")]
        same = ("dataset", "path", "label", "speaker", "gender")
        assert [getattr(copy, name) for name in same] == [getattr(origin, name) for name in same]
        assert set(copy.extra) == {"copy_of", "transform"}
        assert copy.extra["copy_of"] == origin.key
        assert len(bytes.fromhex(copy.key)) == 32
    assert made.dataset == "d"


def test_a_clip_that_was_set_aside_has_no_copies_and_one_without_a_key_is_refused() -> None:
    first, second = clips(2).clips
    set_aside = replace(first, extra={"skipped": "empty"})
    made = copies_of(Manifest("d", (set_aside, second)), Augmentation(("gain",)))
    assert [clip.clip_id for clip in made.clips] == ["c1#1"]
    with pytest.raises(DataError, match="1 clips of d have no key, such as c0. Run add_keys first"):
        copies_of(Manifest("d", (replace(first, key=""), second)), Augmentation(("gain",)))


def test_keys_tell_apart_clip_transforms_order_seed_and_number_and_nothing_else() -> None:
    recipes = [Augmentation(names, 3, seed) for n in (1, 2, 4) for names in permutations(ALL, n) for seed in (0, 1)]
    keys = [clip.key for recipe in recipes for clip in copies_of(clips(3), recipe).clips]
    assert len(set(keys)) == len(keys) == len(recipes) * 9
    assert not set(keys) & set(clips(3).keys)
    assert copies_of(clips(), Augmentation(ALL, 2)).keys == copies_of(clips(), Augmentation(ALL, 3)).keys[:2]
    elsewhere = Manifest("e", (replace(clips().clips[0], clip_id="other", path="other.wav", label="glad"),))
    assert copies_of(elsewhere, Augmentation(ALL)).keys == copies_of(clips(), Augmentation(ALL)).keys


def test_a_copy_survives_its_csv(tmp_path: Path) -> None:
    made = copies_of(clips(2), Augmentation(ALL, 2, 7))
    made.to_csv(tmp_path / "copies.csv")
    assert Manifest.from_csv(tmp_path / "copies.csv") == made


# The same copy is the same samples.


def test_a_copy_is_the_same_whenever_and_wherever_it_is_made() -> None:
    wave, made = speech(), copies(*ALL)
    before = wave.copy()
    once = [transformed(wave, RATE, copy) for copy in made]
    backwards = [transformed(wave, RATE, copy) for copy in reversed(made)][::-1]
    with restless(), ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda copy: transformed(wave, RATE, copy), made * 5))
    for one, *others in zip(once, backwards, *(beside[begin : begin + 8] for begin in range(0, 40, 8)), strict=True):
        assert all(np.array_equal(one, other) for other in others)
    np.testing.assert_array_equal(wave, before)


def test_a_copy_is_the_same_in_another_process(tmp_path: Path) -> None:
    made, wave = copies_of(clips(2), Augmentation(ALL, 2)), speech()
    made.to_csv(tmp_path / "copies.csv")
    np.save(tmp_path / "wave.npy", wave)
    code = (
        "import sys, numpy, random\nfrom embedcache import Manifest\nfrom embedcache.audio.augment import transformed\n"
        "random.seed(3); numpy.random.seed(3)\nwave = numpy.load('wave.npy')\n"
        "made = [transformed(wave, 16000, clip) for clip in Manifest.from_csv('copies.csv').clips[::-1]]\n"
        "numpy.savez('made.npz', *made[::-1])"
    )
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{code}"], cwd=tmp_path, check=True
    )
    with np.load(tmp_path / "made.npz") as there:
        for number, copy in enumerate(made.clips):
            np.testing.assert_array_equal(there[f"arr_{number}"], transformed(wave, RATE, copy))


def test_nobody_elses_random_numbers_are_touched() -> None:
    random.seed(4)
    np.random.seed(4)  # noqa: NPY002
    python, numpy = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
    for copy in copies(*ALL, count=2):
        transformed(speech(), RATE, copy)
    assert random.getstate() == python
    now = np.random.get_state(legacy=False)  # noqa: NPY002
    assert now["state"]["pos"] == numpy["state"]["pos"]
    np.testing.assert_array_equal(now["state"]["key"], numpy["state"]["key"])


@pytest.mark.parametrize("name", ALL)
def test_copies_differ_from_each_other_and_from_the_clip(name: str) -> None:
    wave = speech()
    made = [transformed(wave, RATE, copy) for copy in copies(name, count=4)]
    assert len({one.tobytes() for one in [wave, *made]}) == 5
    assert all(one.dtype == np.float32 and one.ndim == 1 and np.isfinite(one).all() for one in made)


@pytest.mark.parametrize("samples", [1, 400, 1000])
def test_the_shortest_and_the_silent_are_finite(samples: int) -> None:
    for wave in (speech()[:samples], np.zeros(samples, np.float32)):
        for copy in copies(*ALL, count=3):
            assert np.isfinite(transformed(wave, RATE, copy)).all()


# Each transform does what its name says.


def test_noise_is_white_and_as_loud_as_said() -> None:
    wave, found = speech(2.0), []
    for copy in copies("noise", count=20):
        added = transformed(wave, RATE, copy) - wave
        found.append(20 * np.log10(rms(wave) / rms(added)))
        spectrum = np.abs(np.fft.rfft(added)) ** 2
        assert spectrum[: len(spectrum) // 2].mean() == pytest.approx(spectrum[len(spectrum) // 2 :].mean(), rel=0.1)
    assert min(found) > 9.9
    assert max(found) < 30.1
    assert np.ptp(found) > 10


def test_gain_multiplies() -> None:
    wave, found = speech(), []
    for copy in copies("gain", count=20):
        made = transformed(wave, RATE, copy)
        found.append(20 * np.log10(rms(made) / rms(wave)))
        np.testing.assert_allclose(made, wave * (rms(made) / rms(wave)), rtol=1e-5, atol=1e-7)
    assert -6.01 < min(found) < 0 < max(found) < 6.01
    assert np.ptp(found) > 6


def test_stretch_changes_the_length_and_not_the_pitch() -> None:
    sine = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)
    found = []
    for copy in copies("stretch", count=20):
        made = transformed(sine, RATE, copy)
        found.append(len(sine) / len(made))
        assert len(made) / RATE == pytest.approx(copy.seconds, abs=2 / RATE), "the manifest knows how long it is"
        assert rms(made[-RATE // 10 :]) > 0.5, "sound to its end, no padding"
        assert peak(made) == pytest.approx(440, abs=2)
    assert 0.8999 < min(found) < 1 < max(found) < 1.1001
    assert np.ptp(found) > 0.1


def test_pitch_moves_a_tone_and_not_its_length() -> None:
    sine = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)
    found = []
    for copy in copies("pitch", count=20):
        made = transformed(sine, RATE, copy)
        assert len(made) == len(sine)
        assert copy.seconds == 2.0
        found.append(12 * np.log2(peak(made) / 440))
    assert -2.05 < min(found) < 0 < max(found) < 2.05
    assert np.ptp(found) > 2


def peak(wave: np.ndarray) -> float:
    """The strongest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 18))
    return float(spectrum.argmax() * RATE / (1 << 18))


def test_transforms_are_applied_in_the_order_asked_for() -> None:
    """Gain after noise changes both; the noise that comes last is told by the level of what it is added to."""
    wave = speech()
    for copy in copies("gain", "noise"):
        gain, snr = augment._values(copy.extra["transform"], copy.key).values()
        added = transformed(wave, RATE, copy) - wave * 10 ** (gain / 20)
        assert 20 * np.log10(rms(wave) / rms(added)) == pytest.approx(snr - gain, abs=0.3)
    for copy in copies("noise", "gain"):
        snr, gain = augment._values(copy.extra["transform"], copy.key).values()
        added = transformed(wave, RATE, copy) / 10 ** (gain / 20) - wave
        assert 20 * np.log10(rms(wave) / rms(added)) == pytest.approx(snr, abs=0.3)


# What cannot be made is refused.


@pytest.mark.parametrize(
    ("transforms", "count", "error", "said"),
    [
        (("pich",), 1, UnknownName, r"no transform 'pich'; have gain, noise, pitch, stretch \(did you mean 'pitch'"),
        (
            ("noise", "noise"),
            1,
            SerError,
            "got noise, noise; wanted one or more of noise, pitch, stretch, gain, each once",
        ),
        ((), 1, SerError, "got none; wanted one or more of"),
        (("noise",), 0, SerError, "copies: got 0; wanted 1 or more"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(transforms: tuple, count: int, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        Augmentation(transforms, count)


def test_without_audiomentations_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "find_spec", lambda name: None)
    with pytest.raises(SerError, match=r"needs audiomentations. Install it with `.*\[augment\]"):
        Augmentation(("noise",))


def test_a_copy_of_other_versions_ranges_or_clips_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (copy,) = copies("gain", count=1)
    for wrong in (
        replace(copy, key="0" * 64),
        replace(copy, extra={**copy.extra, "copy_of": "1" * 64}),
        replace(copy, extra={"copy_of": copy.extra["copy_of"]}),
        described(copy, copy.extra["transform"].replace("6.0", "60.0")),
        described(copy, copy.extra["transform"].replace("gain", "echo")),
        *(
            described(copy, text)
            for text in ("{}", "[]", "1", "[" * 5000, '{"transforms": [[1]], "seed": 0, "copy": 1}')
        ),
    ):
        with pytest.raises(DataError, match=r"c0#1: the copy cannot be made here"):
            transformed(speech(), RATE, wrong)
    versions = json.loads(copy.extra["transform"])["made with"]
    assert set(versions) == {"recipe", "audiomentations", "python-stretch"}
    monkeypatch.setattr(augment, "_made_with", lambda: {**versions, "audiomentations": "9.9"})
    with pytest.raises(DataError, match=r'wanted \{.*"audiomentations": "9.9".*use the same versions everywhere'):
        transformed(speech(), RATE, copy)


def described(copy: Clip, how: str) -> Clip:
    """A copy with another description, and the key that belongs to it."""
    return replace(copy, key=augment._key(copy.extra["copy_of"], how), extra={**copy.extra, "transform": how})


def test_a_table_of_ones_own_declares_no_copies(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", noise(0.2))
    (tmp_path / "clips.csv").write_text(f"path,label,speaker,copy_of\na.wav,sad,ann,{'0' * 64}\n")
    (clip,) = datasets.get("folder").manifest(tmp_path / "clips.csv").clips
    assert not clip.extra


# Copies go through the loop as clips do.


def test_rows_are_those_of_the_transformed_waveforms_and_are_made_once(tree: Path, tmp_path: Path) -> None:
    encoder = load_encoder("mfcc")
    store = EmbeddingStore.of(tmp_path / "cache", encoder.info)
    made, report = extract(copies_of(keyed(tree), Augmentation(ALL, 2)), encoder, store)
    assert (report.clips, report.encoded) == (48, 48)
    waves = [transformed(read(clip.path, RATE), RATE, clip) for clip in made.clips]
    rows = np.concatenate([encoder.encode([wave], ["pooled"])["pooled"] for wave in waves])
    np.testing.assert_array_equal(store.read(made.keys, "pooled"), rows)
    assert len(np.unique(rows, axis=0)) == 48
    _, again = extract(made, encoder, EmbeddingStore(store.folder))
    assert (again.encoded, again.cached) == (0, 48)
    _, more = extract(copies_of(keyed(tree), Augmentation(ALL, 3)), encoder, EmbeddingStore(store.folder))
    assert (more.encoded, more.cached) == (24, 48)


def test_identical_recordings_have_identical_copies(tree: Path, tmp_path: Path) -> None:
    for name in ("03-01-01-01-01-01-01", "03-01-02-01-01-01-01"):
        write(tree / "Actor_01" / f"{name}.wav", noise(0.2))
    encoder = load_encoder("mfcc")
    made, report = extract(
        copies_of(keyed(tree), Augmentation(ALL)), encoder, EmbeddingStore.of(tmp_path, encoder.info)
    )
    assert (report.clips, report.encoded, len(made)) == (24, 23, 24)


def test_audio_that_changed_since_its_copies_were_listed_is_refused(tree: Path, tmp_path: Path) -> None:
    made = copies_of(keyed(tree), Augmentation(("noise",)))
    write(tree / "Actor_04" / "03-01-01-01-01-01-04.wav", noise(0.2, seed=5))
    encoder = load_encoder("mfcc")
    with pytest.raises(AudioError, match=r"04.wav: changed during the extraction"):
        extract(made, encoder, EmbeddingStore.of(tmp_path, encoder.info))


def test_a_copy_that_gets_too_long_for_the_encoder_is_set_aside(tree: Path, tmp_path: Path) -> None:
    made = copies_of(keyed(tree), Augmentation(("stretch",), 4))
    longest = sorted(clip.seconds for clip in made.clips)[-10]
    encoder = replace(load_encoder("mfcc"), longest=longest)
    manifest, report = extract(made, encoder, EmbeddingStore.of(tmp_path, encoder.info), skip_bad=True)
    assert (report.clips, len(manifest.skipped)) == (87, 9)


def test_the_cache_knows_copies(tree: Path, tmp_path: Path) -> None:
    place, encoder, manifest = Artifacts(tmp_path), load_encoder("mfcc"), keyed(tree)
    store = EmbeddingStore.of(place.cache, encoder.info)
    made = copies_of(manifest, Augmentation(("noise",)))
    for listed, path in ((manifest, place.manifest("ravdess")), (made, place.copies("ravdess"))):
        extract(listed, encoder, store)
        listed.to_csv(path)
    assert place.manifest_paths == [place.manifest("ravdess"), place.copies("ravdess")]
    listed = [Manifest.from_csv(path) for path in place.manifest_paths]
    assert hours(summarise(store.folder), listed) == pytest.approx(48 * 0.2 / 3600)
    gone = [manifest.clips[3], made.clips[5]]
    empty = EmbeddingStore.of(tmp_path / "other", encoder.info)
    extract(Manifest("ravdess", (manifest.clips[0], made.clips[0])), encoder, empty)
    mended = RepairResult({"pooled": [clip.key for clip in gone]}, (), 0)
    assert clips_to_extract(empty.folder, mended, listed) == {"ravdess": [clip.clip_id for clip in gone]}


# The command line.


def test_extract_stores_copies_beside_the_clips(ser: Ser, tree: Path, tmp_path: Path) -> None:
    command = ["extract", "--dataset", "ravdess", "--root", tree, "--encoder", "mfcc"]
    asked = ["--augment", "noise,gain", "--copies", 2, "--seed", 5]
    first = ser(*command, *asked)
    assert first.returncode == 0, first.stderr
    assert "ravdess: 24 clips have mfcc vectors" in first.stdout
    assert "ravdess: 48 copies (noise,gain) have mfcc vectors\nencoded now: 48; in the cache before: 0" in first.stdout
    place = Artifacts(tmp_path / "artifacts")
    clips, made = (Manifest.from_csv(path) for path in place.manifest_paths)
    assert (len(clips), len(made), clips.dataset, made.dataset) == (24, 48, "ravdess", "ravdess")
    assert not any("copy_of" in clip.extra for clip in clips.clips)
    (folder,) = place.cache.glob("mfcc-*")
    assert EmbeddingStore(folder).missing([*clips.keys, *made.keys], ["pooled", "layers"]) == []
    second = ser(*command, *asked)
    assert "encoded now: 0; in the cache before: 24" in second.stdout
    assert "encoded now: 0; in the cache before: 48" in second.stdout
    compared = ser("compare", "--head", "logreg", "--folds", 2, "--jobs", 1)
    assert compared.returncode == 0, compared.stderr
    assert ser("cache", "ls").stdout.split("\n")[1].split("\t")[2] == "72"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--copies", 2], "--copies and --seed need --augment, which takes one or more of noise, pitch, stretch, gain"),
        (["--seed", 0], "--copies and --seed need --augment"),
        (["--augment", "echo"], "no transform 'echo'; have gain, noise, pitch, stretch"),
        (["--augment", ""], "transforms: got none; wanted one or more"),
    ],
)
def test_a_wrong_request_is_answered_before_anything_is_encoded(
    ser: Ser, tree: Path, tmp_path: Path, asked: list, said: str
) -> None:
    done = ser("extract", "--dataset", "ravdess", "--root", tree, "--encoder", "mfcc", *asked)
    assert (done.returncode, done.stdout) == (1 if "echo" in asked else 2, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert not (tmp_path / "artifacts").exists()


def test_the_list_of_copies_is_written_when_all_are_stored(ser: Ser, tree: Path, tmp_path: Path) -> None:
    """One clip lasts 25.5 ms, and some of its copies less than the 25 ms that the encoder needs."""
    write(tree / "Actor_01" / "03-01-01-01-01-01-01.wav", noise(0.0255))
    command = ["extract", "--dataset", "ravdess", "--root", tree, "--encoder", "mfcc", "--augment", "stretch"]
    done = ser(*command, "--copies", 8)
    assert done.returncode == 1
    assert "copies" not in done.stdout
    place = Artifacts(tmp_path / "artifacts")
    assert place.manifest_paths == [place.manifest("ravdess")]
    done = ser(*command, "--copies", 8, "--skip-bad")
    assert done.returncode == 0
    assert "augmented clips skipped, without a vector; artifacts/skipped/ravdess.csv lists all:" in done.stderr
    assert "03-01-01-01-01-01-01#" in place.skipped("ravdess").read_text()
    assert place.copies("ravdess").exists()
