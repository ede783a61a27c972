"""The loop: it encodes what is missing, once, whatever happens to it."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soxr
from helpers.sounds import noise, ravdess_tree, write

from embedcache import (
    AudioError,
    Clip,
    EmbeddingStore,
    EncoderError,
    Recording,
    StoreError,
    add_keys,
    datasets,
    extract,
    load_encoder,
    read,
)
from embedcache.cache.extract import too_short_or_long
from embedcache.encoders.mfcc import Mfcc

loop = sys.modules["embedcache.cache.extract"]


def keyed(root: Path):
    return add_keys(datasets.get("ravdess").manifest(root))


def test_each_clip_is_encoded_once(tree: Path, tmp_path: Path) -> None:
    encoder = load_encoder("mfcc")
    store = EmbeddingStore.of(tmp_path / "cache", encoder.info)
    manifest, report = extract(keyed(tree), encoder, store)
    assert (report.clips, report.encoded, report.skipped) == (24, 24, ())
    assert report.audio_seconds == pytest.approx(24 * 0.2)
    _, again = extract(manifest, encoder, EmbeddingStore(store.folder))
    assert (again.clips, again.encoded, again.cached) == (24, 0, 24)
    from embedcache import read

    alone = np.concatenate([encoder.encode([read(c.path, 16_000)], ["pooled"])["pooled"] for c in manifest.clips])
    np.testing.assert_array_equal(store.read(manifest.keys, "pooled"), alone)


def test_a_renamed_file_keeps_its_vector_and_a_changed_one_loses_it(tree: Path, tmp_path: Path) -> None:
    encoder = load_encoder("mfcc")
    store = EmbeddingStore.of(tmp_path / "cache", encoder.info)
    extract(keyed(tree), encoder, store)
    tree.rename(tmp_path / "moved")
    changed = tmp_path / "moved" / "Actor_01" / "03-01-01-01-01-01-01.wav"
    old = store.read([keyed(tmp_path / "moved").clips[0].key], "pooled")
    write(changed, noise(0.2, seed=77))
    manifest, report = extract(keyed(tmp_path / "moved"), encoder, store)
    assert report.encoded == 1
    assert not np.array_equal(store.read([manifest.clips[0].key], "pooled"), old)


def test_identical_clips_are_stored_once(tree: Path, tmp_path: Path) -> None:
    for name in ("03-01-01-01-01-01-01", "03-01-02-01-01-01-01"):
        write(tree / "Actor_01" / f"{name}.wav", noise(0.2))
    encoder = load_encoder("mfcc")
    store = EmbeddingStore.of(tmp_path / "cache", encoder.info)
    _, report = extract(keyed(tree), encoder, store)
    assert (report.clips, report.encoded, report.cached, len(store.keys)) == (24, 23, 0, 23)


def test_bad_clips_stop_the_run_before_the_encoder_or_are_listed(tree: Path, tmp_path: Path) -> None:
    empty, short = (tree / "Actor_01" / f"03-01-01-01-01-0{n}-01.wav" for n in (1, 2))
    empty.write_bytes(b"")
    write(short, noise(0.005))
    encoder = load_encoder("mfcc")
    store = EmbeddingStore.of(tmp_path / "cache", encoder.info)
    with pytest.raises(AudioError) as error:
        extract(keyed(tree), encoder, store)
    said = str(error.value)
    assert said.startswith("2 of 24 clips of ravdess cannot be used:")
    assert f"{empty}: is empty" in said
    assert f"{short}: has 80 samples at 16,000 Hz (5.0 ms); mfcc needs at least 400. Remove it" in said
    assert "--skip-bad" in said
    assert not store.keys
    with pytest.raises(AudioError, match="24 of 24 clips"):
        extract(keyed(tree), replace(encoder, longest=0.01), store, skip_bad=True)
    manifest, report = extract(keyed(tree), encoder, store, skip_bad=True)
    assert [clip.path for clip in report.skipped] == [str(empty), str(short)]
    assert (report.clips, len(manifest), len(store.keys)) == (22, 24, 22)


@pytest.mark.parametrize("rate", [8_000, 16_000, 32_000, 44_100])
def test_the_shortest_clip_is_counted_in_samples_of_the_encoder(tmp_path: Path, rate: int) -> None:
    """A file whose samples become 400 at 16 kHz is encoded; one with a sample less is too short."""
    encoder = load_encoder("mfcc")
    enough = next(n for n in range(rate // 45, rate) if len(soxr.resample(np.zeros(n), rate, 16_000)) == 400)
    limits = encoder.info.name, encoder.info.sample_rate, encoder.shortest, encoder.longest
    file = write(tmp_path / "enough.wav", noise(1)[:enough], rate)
    assert too_short_or_long(str(file), enough / rate, *limits) == ""
    assert np.isfinite(encoder.encode([read(file, 16_000)], ["pooled"])["pooled"]).all()
    fault = too_short_or_long("a.wav", (enough - 1) / rate, *limits)
    assert re.match(r"a.wav: has 39[89] samples at 16,000 Hz \(24.9 ms\); mfcc needs at least 400. Remove it", fault)


def test_a_clip_longer_than_the_encoder_takes_is_named(tree: Path, tmp_path: Path) -> None:
    encoder = replace(load_encoder("mfcc"), longest=0.1)
    with pytest.raises(AudioError, match=r"lasts 0 s, mfcc takes clips of up to 0 s. Cut it into utterances"):
        extract(keyed(tree), encoder, EmbeddingStore.of(tmp_path, encoder.info))


def test_audio_that_changes_while_it_is_extracted_is_refused(tree: Path, tmp_path: Path) -> None:
    manifest = keyed(tree)
    write(tree / "Actor_04" / "03-01-01-01-01-01-04.wav", noise(0.2, seed=5))
    encoder = load_encoder("mfcc")
    with pytest.raises(AudioError, match=r"changed during the extraction"):
        extract(manifest, encoder, EmbeddingStore.of(tmp_path, encoder.info))


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_file_that_fails_when_it_is_read_again_costs_this_file(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    """It had a key, since only the second reading fails, as on a bad disk."""
    manifest, encoder = keyed(tree), replace(load_encoder("mfcc"), pack=0.5, lanes=lanes)
    bad = [manifest.clips[number] for number in (3, 17)]
    real = Recording._decode

    def decode(self: Recording) -> tuple[np.ndarray, int]:
        if str(self.path) in {clip.path for clip in bad}:
            raise ValueError("no")
        return real(self)

    monkeypatch.setattr(Recording, "_decode", decode)
    store = EmbeddingStore.of(tmp_path, encoder.info)
    with pytest.raises(AudioError, match=r"cannot be decoded \(no\)"):
        extract(manifest, encoder, store)
    store = EmbeddingStore.of(tmp_path / "fresh", encoder.info)
    marked, report = extract(manifest, encoder, store, skip_bad=True)
    assert (report.clips, report.encoded, report.cached, len(store.keys)) == (22, 22, 0, 22)
    assert [(clip.clip_id, clip.key) for clip in marked.skipped] == [(clip.clip_id, "") for clip in bad]
    assert all(clip.extra["skipped"].startswith(f"{clip.path}: cannot be decoded (no)") for clip in report.skipped)
    monkeypatch.undo()
    again = manifest.inherit_skips(marked)  # the disk is well again
    assert extract(again, encoder, store, skip_bad=True)[1].encoded == 2


class Broken:
    """mfcc, but one clip goes wrong."""

    def __init__(self, how: str, after: int) -> None:
        self.inner, self.how, self.left = load_encoder("mfcc"), how, after
        self.info, self.shortest, self.longest = self.inner.info, self.inner.shortest, self.inner.longest
        self.views, self.pack, self.lanes = self.inner.views, 0.9, 1

    def encode(self, waves, views):
        self.left -= 1
        if self.left < 0 and self.how == "interrupt":
            raise KeyboardInterrupt
        batch = self.inner.encode(waves, views)
        if self.left < 0:
            batch["layers"][0, 0, 0] = np.nan
        return batch


@pytest.mark.parametrize(("how", "error"), [("interrupt", KeyboardInterrupt), ("nan", EncoderError)])
def test_what_was_encoded_stays_whatever_ends_the_run(tree: Path, tmp_path: Path, how: str, error: type) -> None:
    encoder = Broken(how, after=2)
    store = EmbeddingStore.of(tmp_path, encoder.info)
    manifest = keyed(tree)
    with pytest.raises(error):
        extract(manifest, encoder, store)
    assert len(EmbeddingStore(store.folder).keys) == 8
    _, report = extract(manifest, encoder.inner, EmbeddingStore(store.folder))
    assert report.encoded == 24 - len(store.keys)


def test_memory_does_not_grow_with_the_number_of_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that wait for their shard stay below a shard's size, however many clips pass."""
    monkeypatch.setattr(loop, "SHARD_BYTES", 100_000)
    held = []
    monkeypatch.setattr(
        loop._ShardBuffer,
        "commit",
        lambda buffer, old=loop._ShardBuffer.commit: (held.append(len(buffer.keys)), old(buffer)),
    )
    encoder = replace(load_encoder("mfcc"), pack=1.0)
    root = ravdess_tree(tmp_path / "many", actors=12)
    extract(keyed(root), encoder, EmbeddingStore.of(tmp_path / "cache", encoder.info))
    assert len(held) > 4
    assert max(held) * 970 * 4 * 2 < 100_000 + 5 * 970 * 4 * 2


def test_the_broken_encoder_is_mfcc_otherwise() -> None:
    assert isinstance(Broken("nan", 9).inner, Mfcc)


def test_only_the_views_that_are_missing_are_encoded(tree: Path, tmp_path: Path, checkpoint: Path) -> None:
    encoder, asked = load_encoder(str(checkpoint)), []

    class Listening:
        """The encoder, and what it was asked for."""

        def __getattr__(self, name: str):
            return getattr(encoder, name)

        def encode(self, waves, views):
            asked.append(tuple(views))
            return encoder.encode(waves, views)

    store = EmbeddingStore.of(tmp_path / "cache", encoder.info)
    manifest, _ = extract(keyed(tree), Listening(), store, ["pooled", "layers"])
    _, report = extract(manifest, Listening(), EmbeddingStore(store.folder), ["pooled", "std", "frames"])
    assert report.encoded == 24
    assert set(asked) == {("pooled", "layers"), ("std", "frames:2")}
    again = EmbeddingStore(store.folder)
    frames = again.read_frames(manifest.keys)
    pooled = np.stack([clip.astype(np.float32).mean(0) for clip in frames])
    np.testing.assert_allclose(pooled, again.read(manifest.keys, "pooled"), atol=2e-3)
    spread = np.stack([clip.astype(np.float32).std(0) for clip in frames])
    np.testing.assert_allclose(spread, again.read(manifest.keys, "std")[:, -1], atol=2e-3)


def test_packs_hold_the_longest_clips_first_and_no_more_seconds_than_asked() -> None:
    clips = [Clip("d", str(n), f"{n}.wav", "", "", seconds=s) for n, s in enumerate((1.0, 9.0, 2.0, 0.5, 3.0, 0.4))]
    packs = [[clip.seconds for clip in pack] for pack in loop.packs(clips, 4.0)]
    assert packs == [[9.0], [3.0], [2.0, 1.0, 0.5, 0.4]]
    assert list(loop.packs([], 4.0)) == []


def test_lanes_change_no_row_and_no_order(tree: Path, tmp_path: Path) -> None:
    manifest = keyed(tree)
    stores = []
    for lanes in (1, 3):
        encoder = replace(load_encoder("mfcc"), lanes=lanes, pack=0.5)
        stores.append(EmbeddingStore.of(tmp_path / str(lanes), encoder.info))
        extract(manifest, encoder, stores[-1])
    np.testing.assert_array_equal(*(store.read(manifest.keys, "pooled") for store in stores))


def test_a_clip_whose_vector_is_not_finite_is_named_and_never_stored(
    tree: Path, tmp_path: Path, checkpoint: Path
) -> None:
    """Weights that are finite, and large enough that one clip's frames are not."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(checkpoint, tmp_path / "huge")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layers.1.feed_forward.output_dense.weight"].fill_(3e38)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    encoder = load_encoder(str(folder))
    store = EmbeddingStore.of(tmp_path / "cache", encoder.info)
    with pytest.raises(
        EncoderError, match=r"Actor_\d+/03-01-.*wav: the vector is not finite \('pooled'\). Either leave"
    ):
        extract(keyed(tree), encoder, store)
    assert not store.folder.exists()


@pytest.mark.parametrize(("how", "error"), [("interrupt", KeyboardInterrupt), ("nan", EncoderError)])
def test_a_shard_that_cannot_be_written_hides_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, error: type
) -> None:
    encoder = Broken(how, after=2)
    monkeypatch.setattr(EmbeddingStore, "write", lambda *arguments: (_ for _ in ()).throw(StoreError("disk full")))
    with pytest.raises(error) as caught:
        extract(keyed(tree), encoder, EmbeddingStore.of(tmp_path, encoder.info))
    assert how == "interrupt" or ("not finite" in str(caught.value) and "disk full" in str(caught.value))


def test_a_full_disk_is_heard_of_before_the_next_shard_is_due(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOSS_SECONDS", 0.0)
    monkeypatch.setattr(loop, "LOSS_SHARE", 0.0)
    wrote = []

    def full(*arguments: object) -> None:
        wrote.append(1)
        raise StoreError("disk full")

    monkeypatch.setattr(EmbeddingStore, "write", full)
    encoder = replace(load_encoder("mfcc"), pack=0.2, lanes=1)
    with pytest.raises(StoreError, match="disk full"):
        extract(keyed(tree), encoder, EmbeddingStore.of(tmp_path, encoder.info))
    assert len(wrote) <= 2
