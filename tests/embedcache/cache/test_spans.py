"""Clips that are spans of long recordings: the same vectors as files of their own, and each recording decoded once."""

import csv
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.long_recordings import RATE, LongRecordings, lay_end_to_end
from helpers.sounds import noise, write
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache import (
    Artifacts,
    AudioError,
    Clip,
    EmbeddingStore,
    Manifest,
    Recording,
    add_keys,
    audit,
    datasets,
    extract,
    load_encoder,
)
from embedcache.audio.clip_recordings import load_part, recording_of
from embedcache.audio.spans import overlaps
from embedcache.cache.content_keys import KeyMemo
from embedcache.cache.extract import packs
from embedcache.manifest import Span

FOLDER = datasets.get("folder")
SOUND = np.round(noise(1, RATE, channels=2)[:1000] * 16_384).astype(np.float32) / 32_768


def keyed(table: Path) -> Manifest:
    return add_keys(FOLDER.manifest(table))


def vectors(table: Path, cache: Path) -> dict[str, np.ndarray]:
    encoder = load_encoder("mfcc")
    store = EmbeddingStore.of(cache, encoder.info)
    manifest, _ = extract(keyed(table), encoder, store, ["pooled"])
    return dict(zip([c.clip_id for c in manifest.clips], store.read(manifest.keys, "pooled"), strict=True))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The recordings that were decoded whole, in order."""
    paths: list[Path] = []
    decode = Recording.decode_whole
    monkeypatch.setattr(Recording, "decode_whole", lambda self: paths.append(self.path) or decode(self))
    return paths


@pytest.mark.parametrize("kind", ["", "flac"])
@pytest.mark.parametrize("stereo", [False, True])
def test_spans_have_the_vectors_of_files_of_their_own(tmp_path: Path, stereo: bool, kind: str) -> None:
    tables = lay_end_to_end(tmp_path, stereo=stereo, kind=kind)
    whole, spans = vectors(tables.files, tmp_path / "a"), vectors(tables.spans, tmp_path / "b")
    assert whole.keys() == spans.keys()
    for name in whole:
        np.testing.assert_array_equal(spans[name], whole[name])


def test_each_recording_is_decoded_once_for_all_its_spans(tmp_path: Path, decoded: list[Path]) -> None:
    tables = lay_end_to_end(tmp_path, speakers=8)
    names = [f"rec{n}.wav" for n in (0, 2, 4, 6)]
    manifest = keyed(tables.spans)
    assert sorted(path.name for path in decoded) == names
    decoded.clear()
    audit(FOLDER, tables.spans)
    assert sorted(path.name for path in decoded) == names
    decoded.clear()
    encoder = load_encoder("mfcc")
    extract(manifest, encoder, EmbeddingStore.of(tmp_path / "cache", encoder.info))
    assert sorted(path.name for path in decoded) == names


def test_a_faulty_recording_is_decoded_once_too(tmp_path: Path, decoded: list[Path]) -> None:
    tables = lay_end_to_end(tmp_path, speakers=2)
    path = tmp_path / "rec0.wav"
    path.write_bytes(path.read_bytes()[:-500])
    manifest = keyed(tables.spans)
    assert len(decoded) == 1
    assert len(manifest.skipped) == 12
    assert all("is truncated" in clip.extra["skipped"] for clip in manifest.clips)


def test_moved_recordings_and_reordered_rows_make_nothing_anew(tmp_path: Path) -> None:
    tables = lay_end_to_end(tmp_path / "old", speakers=2)
    encoder = load_encoder("mfcc")
    store = EmbeddingStore.of(tmp_path / "cache", encoder.info)
    extract(keyed(tables.spans), encoder, store)
    (tmp_path / "new" / "deep").mkdir(parents=True)
    shutil.move(tmp_path / "old" / "rec0.wav", tmp_path / "new" / "deep" / "call.wav")
    header, *rows = list(csv.reader(tables.spans.open()))
    rows = [["deep/call.wav", f"{float(start):.6f}", *rest] for _, start, *rest in rows[5:] + rows[:5]]
    with (tmp_path / "new" / "spans.csv").open("w") as file:
        csv.writer(file).writerows([header, *rows])
    _, report = extract(keyed(tmp_path / "new" / "spans.csv"), encoder, store)
    assert (report.clips, report.encoded) == (12, 0)


def test_a_second_run_decodes_nothing(tmp_path: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedcache.files.stamps.GRAIN_NS", 0)
    tables = lay_end_to_end(tmp_path, speakers=2, stereo=True)
    first = add_keys(FOLDER.manifest(tables.spans), KeyMemo(tmp_path / "memo.json"))
    decoded.clear()
    assert add_keys(FOLDER.manifest(tables.spans), KeyMemo(tmp_path / "memo.json")).clips == first.clips
    assert decoded == []


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write(tmp_path_factory.mktemp("spans") / "two.wav", SOUND, RATE))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.integers(1, 1000), st.sampled_from([None, 0, 1]))
def test_a_span_is_a_slice_of_its_recording(two_channels: str, begin: int, length: int, channel: int | None) -> None:
    sound = SOUND[begin : begin + length] if channel is None else SOUND[begin : begin + length, [channel]]
    part = load_part(two_channels, channel, Span(begin / RATE, min(begin + length, 1000) / RATE))
    np.testing.assert_array_equal(part.sound()[0], sound)
    assert part.seconds() == len(sound) / RATE


def test_keys_of_spans_tell_recordings_bounds_and_channels_apart(two_channels: str) -> None:
    def key(span: Span | None, channel: int | None = None) -> str:
        return load_part(two_channels, channel, span).key

    half = Span(0, 500 / RATE)
    assert len({key(None), key(half), key(Span(0, 501 / RATE)), key(Span(1 / RATE, 500 / RATE)), key(half, 0)}) == 5
    assert key(half, 0) != key(half, 1)
    assert key(Span(0)) == key(Span(0, 1000 / RATE)) == key(None)  # the whole recording
    assert key(Span(0, 500.4 / RATE)) == key(half)  # the same samples
    assert key(Span(500 / RATE)) == key(Span(500 / RATE, 1000 / RATE))


FAULTS = {
    "a.wav,3,4,sad,ann": "lies outside the recording, which lasts 2.000 s",
    "a.wav,1.5,2.5,sad,ann": "lies outside the recording",
    "a.wav,1,1,sad,ann": "is empty: the end is not behind the start",
    "a.wav,1,0.5,sad,ann": "is empty: the end is not behind the start",
    "a.wav,-1,0.5,sad,ann": "begins before the recording",
    "a.wav,1,1.001,sad,ann": "has 16 samples at 16,000 Hz (1.0 ms); mfcc needs at least 400",
    "a.wav,0.2,1,glad,ann": "glad, overlaps by 0.30 s with a.wav@0-0.5, which is sad",
}


def test_all_faulty_spans_are_in_one_list_and_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", noise(2))
    write(tmp_path / "b.wav", noise(2, seed=1))
    rows = "".join(f"{row}\n" for row in FAULTS)
    text = f"path,start,end,label,speaker\n{rows}a.wav,0,0.5,sad,ann\nb.wav,0,1,sad,bob\nb.wav,1,2,glad,bob\n"
    (tmp_path / "t.csv").write_text(text)
    encoder = load_encoder("mfcc")
    store = EmbeddingStore.of(tmp_path / "cache", encoder.info)
    with pytest.raises(AudioError, match="8 of 10 clips of folder-t cannot be used"):
        extract(keyed(tmp_path / "t.csv"), encoder, store)
    manifest, report = extract(keyed(tmp_path / "t.csv"), encoder, store, skip_bad=True)
    assert report.encoded == 2
    reasons = {f"{c.span}": c.extra["skipped"] for c in manifest.skipped}
    for row, fault in FAULTS.items():
        _, start, end, *_ = row.split(",")
        assert fault in reasons[f"{float(start):g} to {float(end):g} s"]


def test_an_end_that_was_rounded_up_is_the_recordings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(1.2345))
    assert load_part(str(path), None, Span(1, 1.24)).sound()[0].shape == (3752, 1)


def test_recordings_longer_than_an_hour_have_spans(tmp_path: Path) -> None:
    path = write(tmp_path / "day.wav", noise(4000, 100), 100)
    with pytest.raises(AudioError, match="lasts 4000 s; wanted at most 3600 s.*columns start and end"):
        Recording.load(path).sound()
    assert load_part(str(path), None, Span(3900, 3901)).seconds() == 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(1, 9)), max_size=30), st.floats(1, 30))
def test_packs_hold_every_clip_once_and_go_file_by_file(cut: list[tuple[str, int, int]], seconds: float) -> None:
    clips = [
        Clip("d", f"{n}", path, "sad", "s", extra={"start": f"{start}", "end": f"{start + length}"}, seconds=length)
        for n, (path, start, length) in enumerate(cut)
    ]
    clips += [Clip("d", f"w{n}", f"w{n}.wav", "sad", "s", seconds=n + 1) for n in range(3)]
    order = [clip for pack in packs(clips, seconds) for clip in pack]
    assert sorted(c.clip_id for c in order) == sorted(c.clip_id for c in clips)
    files = [clip.path for clip in order if clip.span]
    assert len([1 for a, b in itertools.pairwise(files) if a != b]) <= 1
    assert all(sum(c.seconds for c in pack) <= seconds or len(pack) == 1 for pack in packs(clips, seconds))


def brute(clips: list[Clip]) -> set[tuple[str, str]]:
    found = set()
    for a in clips:
        for b in clips:
            shared = min(a.span.start + a.seconds, b.span.start + b.seconds) - max(a.span.start, b.span.start)  # type: ignore[union-attr]
            if a.path == b.path and a.clip_id < b.clip_id and shared > min(0.1, a.seconds / 2, b.seconds / 2):
                found.add((a.clip_id, b.clip_id))
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 50), st.integers(1, 20), st.sampled_from(["x", "y"])),
        max_size=25,
    )
)
def test_overlaps_are_found(cut: list[tuple[str, int, int, str]]) -> None:
    clips = [
        Clip("d", f"{n}", path, label, "s", extra={"start": f"{start / 4}"}, seconds=length / 4)
        for n, (path, start, length, label) in enumerate(cut)
    ]
    found = {tuple(sorted((clips[a].clip_id, clips[b].clip_id))) for a, b, _ in overlaps(clips)}
    assert found == brute(clips)


def test_spans_of_two_channels_do_not_overlap(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", noise(2, channels=2))
    rows = "a.wav,0,1,sad,ann,left\na.wav,0,1,glad,bob,right\n"
    (tmp_path / "t.csv").write_text(f"path,start,end,label,speaker,channel\n{rows}")
    assert not keyed(tmp_path / "t.csv").skipped


def test_copies_are_made_of_spans(tmp_path: Path) -> None:
    from embedcache.audio.augment import Augmentation, copies_of
    from embedcache.cache.extract import _waveform

    tables = lay_end_to_end(tmp_path, speakers=2)
    manifest = keyed(tables.spans)
    copies = copies_of(manifest, Augmentation(("gain",)))
    for clip, copy in zip(manifest.clips, copies.clips, strict=True):
        wave = recording_of(clip).waveform(16_000)
        copied = _waveform(copy, 16_000)
        assert len(copied) == len(wave)
        assert abs(np.corrcoef(wave, copied)[0, 1]) > 0.999


def test_artifacts_of_spans_are_found_again(tmp_path: Path) -> None:
    from embedcache.cache.content_keys import listed_recording

    tables = lay_end_to_end(tmp_path, speakers=2)
    manifest = keyed(tables.spans)
    path = Artifacts(tmp_path / "art").manifest(manifest.dataset)
    path.parent.mkdir(parents=True)
    manifest.to_csv(path)
    for clip in Manifest.from_csv(path).clips:
        assert listed_recording(clip).seconds() == pytest.approx(clip.seconds)
    write(tmp_path / "rec0.wav", noise(20, RATE, seed=5), RATE)
    with pytest.raises(AudioError, match="differs from the file that the manifest lists"):
        listed_recording(manifest.clips[0])


def test_a_recording_that_changes_is_decoded_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(1))
    before = load_part(str(path), None, Span(0, 0.5)).key
    write(path, noise(1, seed=3))
    assert load_part(str(path), None, Span(0, 0.5)).key != before


def test_lossy_recordings_are_cut_after_decoding(tmp_path: Path) -> None:
    tables: LongRecordings = lay_end_to_end(tmp_path, speakers=2, kind="mp3")
    whole = Recording.load(tmp_path / "rec0.wav").sound()[0]
    for clip in keyed(tables.spans).clips:
        assert clip.span
        begin = round(clip.span.start * RATE)
        cut = recording_of(clip).sound()[0]
        np.testing.assert_array_equal(cut, whole[begin : begin + len(cut)])


def test_training_takes_spans_and_decodes_each_recording_once(tmp_path: Path, decoded: list[Path]) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    from embedcache.finetune.clips import ClipDataset, normalise
    from embedcache.finetune.settings import FinetuneSettings

    tables = lay_end_to_end(tmp_path, speakers=4)
    files = {clip.clip_id: clip for clip in keyed(tables.files).clips}
    clips = keyed(tables.spans).clips
    decoded.clear()
    features = Wav2Vec2FeatureExtractor()
    items = ClipDataset(clips, ["angry", "happy", "sad"], features, FinetuneSettings(), training=False)
    for number in np.random.default_rng(0).permutation(len(clips)):
        wave = Recording.load(files[clips[number].clip_id].path).waveform(16_000)
        np.testing.assert_array_equal(items[number]["input_values"], normalise(features, wave))
    assert len(decoded) == 2
