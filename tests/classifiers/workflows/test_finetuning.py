"""Fine-tuning: padding changes nothing, what was stopped goes on to equal weights, and the checkpoint is an encoder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.checkpoints import save_checkpoint
from helpers.places import REPOSITORY, Ser
from helpers.sounds import noise, ravdess_tree, write
from safetensors.torch import load_file, save_file

from classifiers import Predictor, Task, compare, leaderboard
from classifiers.inference.model import EncodedWaveforms, load_models
from classifiers.workflows.finetuning import FinetuneConfig, finetune, measures
from embedcache import (
    Artifacts,
    AudioError,
    Clip,
    EmbeddingStore,
    EncoderError,
    ModelError,
    ProtocolError,
    Recording,
    SerError,
    StoreError,
    dataset_manifest,
    extract,
    load_encoder,
)
from embedcache.exchange.export_vectors import export
from embedcache.exchange.import_vectors import import_vectors
from embedcache.finetune import Finetuned, FinetuneSettings, train
from embedcache.finetune.clips import ClipDataset, collate
from embedcache.finetune.job import TrainingJob, open_base
from embedcache.finetune.network import MaskedGroupNorm, build, parameter_groups
from embedcache.finetune.scratch import last_checkpoint
from embedcache.provenance import LIST, TrainedOn

pytest.importorskip("accelerate")

LABELS = ("angry", "calm", "sad")
QUICK = FinetuneSettings(hidden=(8,), epochs=3, batch_size=4, lr=1e-3, patience=3)
FAMILIES = {
    "group norm": ("Wav2Vec2", {}),
    "layer norm": ("Wav2Vec2", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "hubert": ("Hubert", {}),
    "wavlm": ("WavLM", {}),
}


@pytest.fixture
def work(tree: Path, tmp_path: Path, checkpoint: Path) -> TrainingJob:
    """Twelve clips of two speakers to train on, six of a third for development."""
    clips = dataset_manifest("ravdess", Artifacts(tmp_path / "artifacts"), tree).usable
    by = {name: [clip for clip in clips if clip.speaker == name] for name in ("01", "02", "03")}
    return TrainingJob(str(checkpoint), by["01"] + by["02"], by["03"], QUICK, measures)


def batch(lengths: Sequence[int]) -> dict[str, torch.Tensor]:
    items = [{"input_values": noise(n / 16_000, seed=n).astype(np.float32), "labels": n % 3} for n in lengths]
    return collate(items)


def loss_of(network: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    logits = network(inputs["input_values"], inputs["lengths"])["logits"]
    return torch.nn.functional.cross_entropy(logits, inputs["labels"], reduction="none")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("said", ["mean", "attention", "sequence"])
def test_padding_changes_neither_loss_nor_gradients(tmp_path: Path, family: str, said: str) -> None:
    kind, changes = FAMILIES[family]
    folder = save_checkpoint(tmp_path / "tiny", kind, **changes)
    settings = FinetuneSettings(classifier="sequence") if said == "sequence" else FinetuneSettings(pooling=said)
    network = build(open_base(str(folder)), replace(settings, unfreeze="all"), LABELS).eval()
    lengths = [8000, 3217, 16_000, 401]
    together = loss_of(network, batch(lengths))
    together[1].backward()
    padded = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    alone = torch.cat([loss_of(network, batch([n])) for n in lengths])
    np.testing.assert_allclose(together.detach(), alone.detach(), atol=2e-6)
    alone[1].backward()
    assert padded
    for name, p in network.named_parameters():
        if name in padded:
            np.testing.assert_allclose(padded[name], p.grad, atol=2e-5, err_msg=name)


def test_what_is_learned_is_what_transformers_computes(checkpoint: Path) -> None:
    """Transformers' own forward of one clip, without a mask, is the oracle."""
    from transformers import AutoModel

    wave = batch([7001])
    hidden = AutoModel.from_pretrained(checkpoint)(wave["input_values"]).last_hidden_state
    network = build(open_base(str(checkpoint)), QUICK, LABELS).eval()
    expected = network.classifier.layers(hidden.mean(1))
    got = network(**{k: v for k, v in batch([7001, 12_000]).items() if k != "labels"})["logits"][:1]
    np.testing.assert_allclose(got.detach(), expected.detach(), atol=1e-5)


def test_attention_is_a_softmax_over_the_frames_of_a_clip(checkpoint: Path) -> None:
    network = build(open_base(str(checkpoint)), FinetuneSettings(pooling="attention"), LABELS)
    states, frames = torch.randn(2, 5, 32), torch.tensor([5, 3])
    head = network.classifier
    by_hand = torch.exp(head.score(torch.tanh(head.keys(states[1, :3])))[:, 0])
    weights = head.weights(states, frames)
    np.testing.assert_allclose(weights[1].detach(), [*(by_hand / by_hand.sum()).tolist(), 0, 0], atol=1e-6)


UNFROZEN = {
    "encoder": {"feature_projection", "encoder.layers.0", "encoder.layers.1", "classifier"},
    "all": {"feature_extractor", "feature_projection", "encoder.layers.0", "encoder.layers.1", "classifier"},
    "top:1": {"encoder.layers.1", "classifier"},
}


@pytest.mark.parametrize("unfreeze", UNFROZEN)
def test_only_what_is_unfrozen_is_trained(checkpoint: Path, unfreeze: str) -> None:
    network = build(open_base(str(checkpoint)), replace(QUICK, unfreeze=unfreeze), LABELS)
    names = [name for name, p in network.named_parameters() if p.requires_grad]
    parts = {part for part in set.union(*UNFROZEN.values()) if any(f"{part}." in name for name in names)}
    assert parts == UNFROZEN[unfreeze]


def test_rates_fall_block_by_block(checkpoint: Path) -> None:
    settings = replace(QUICK, layer_decay=0.5, lr=0.8, unfreeze="all")
    network = build(open_base(str(checkpoint)), settings, LABELS)
    names = {id(p): name for name, p in network.named_parameters()}
    made = parameter_groups(network, settings, [name for name in names.values() if name.endswith("weight")])
    rates = {names[id(p)]: group["lr"] for group in made for p in group["params"]}
    assert rates["classifier.layers.0.weight"] == 0.8
    assert rates["encoder.encoder.layers.1.final_layer_norm.bias"] == 0.4
    assert rates["encoder.encoder.layers.0.final_layer_norm.bias"] == 0.2
    assert rates["encoder.feature_projection.projection.weight"] == 0.1
    assert rates["encoder.feature_extractor.conv_layers.0.conv.weight"] == 0.1
    assert {names[id(p)].endswith("weight") for g in made if g["weight_decay"] for p in g["params"]} == {True}


def test_a_crop_and_a_transform_follow_from_seed_and_epoch(work: TrainingJob, checkpoint: Path) -> None:
    features, clip = open_base(str(checkpoint)).features, work.train[0]
    long = write(Path(clip.path).parent / "long.wav", noise(2.0))
    clips = [replace(clip, path=str(long), key=Recording.load(long).key, seconds=2.0)] * 2
    heard = ClipDataset(clips, (clip.label,), features, replace(QUICK, seconds=1.0), training=True)
    first, twin = (heard[number]["input_values"] for number in (0, 1))
    assert len(first) == 16_000
    assert not np.array_equal(first, twin)
    assert np.array_equal(first, heard[0]["input_values"])
    heard.epoch = 1
    assert not np.array_equal(first, heard[0]["input_values"])
    held = ClipDataset(clips, (clip.label,), features, replace(QUICK, seconds=1.0), training=False)
    assert np.array_equal(held[0]["input_values"], held[1]["input_values"])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {f"{path.name} {k}": v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Stopped(Exception):
    """What ends a run from within."""


def stop_at(epoch: int) -> object:
    def log(line: str) -> None:
        if line.startswith(f"epoch {epoch}:"):
            raise Stopped

    return log


@pytest.mark.long
def test_a_run_that_was_stopped_ends_with_equal_weights(work: TrainingJob, tmp_path: Path) -> None:
    settings = replace(QUICK, augment=("noise",), pooling="attention", seconds=0.15, class_weights=True, accumulate=2)
    work = replace(work, settings=settings)
    whole = train(work, tmp_path / "whole", "cpu")
    assert len(whole.card.history["val_uar"]) == len(whole.card.history["train_loss"]) == 3
    for epoch in (1, 3):
        with pytest.raises(Stopped):
            train(work, tmp_path / "parts", "cpu", resume=epoch > 1, log=stop_at(epoch))
    again = train(work, tmp_path / "parts", "cpu", resume=True)
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert again.card.history == whole.card.history
    assert not list(tmp_path.glob("*.work"))
    assert train(work, tmp_path / "parts", "cpu", resume=True).card.history == whole.card.history  # it is read


@pytest.mark.long
def test_batches_that_are_accumulated_give_what_one_batch_gives(work: TrainingJob, tmp_path: Path) -> None:
    still = replace(QUICK, dropout=0.0, spec_augment=0.0, epochs=3, class_weights=True, weight_decay=0.0)
    still = replace(still, warmup=0.0, schedule="constant", patience=3)
    base = save_checkpoint(
        tmp_path / "still",
        hidden_dropout=0.0,
        attention_dropout=0.0,
        feat_proj_dropout=0.0,
        activation_dropout=0.0,
        layerdrop=0.0,
    )
    settings = {"one": replace(still, batch_size=12), "three": replace(still, batch_size=4, accumulate=3)}
    for name, asked in settings.items():
        train(replace(work, encoder=str(base), settings=asked), tmp_path / name, "cpu")
    one, three, before = weights(tmp_path / "one"), weights(tmp_path / "three"), load_file(base / "model.safetensors")
    moved = "encoder.layers.1.feed_forward.output_dense.weight"
    assert (one[f"model.safetensors {moved}"] - before[moved]).abs().max() > 1e-3
    for name, value in one.items():
        np.testing.assert_allclose(value, three[name], atol=2e-5, err_msg=name)


def test_the_checkpoint_is_an_encoder_and_a_classifier(
    work: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModel

    folder, work = tmp_path / "tuned", replace(work, settings=replace(work.settings, pooling="attention"))
    made = train(work, folder, "cpu")
    assert not same(folder, Path(work.encoder))
    wave = noise(0.3, seed=5).astype(np.float32)
    features = open_base(str(folder)).features(wave, sampling_rate=16_000, return_tensors="pt")
    by_hand = AutoModel.from_pretrained(folder)(**features).last_hidden_state.mean(1).detach()
    got = load_encoder(str(folder)).encode([wave], ["pooled"])["pooled"]
    np.testing.assert_allclose(got, by_hand, atol=1e-5)
    clips = [Recording.load(clip.path) for clip in work.development]
    read = Finetuned.load(folder, "cpu")
    np.testing.assert_allclose(read.proba(clips), made.proba(clips), atol=1e-5)
    np.testing.assert_allclose(read.proba(clips[:1]), made.proba(clips)[:1], atol=1e-5)
    card = json.loads((folder / "finetuned.json").read_text())
    assert card["trained_on"]["speakers"] == ["?:*", "ravdess:01", "ravdess:02", "ravdess:03"]
    assert len(card["trained_on"]["keys"]) == 18
    assert card["labels"] == ["calm", "happy", "neutral"]
    assert card["development"] == ["03"]
    (model,) = load_models([folder], "cpu")
    assert (model.used_seconds, model.labels) == (work.settings.seconds, made.card.labels)
    long = np.concatenate([wave] * round(3 * model.used_seconds / 0.3))
    encoded = EncodedWaveforms.encode([model], [wave, long])
    np.testing.assert_allclose(encoded.probabilities()[0][0], read.proba_of([wave])[0], atol=1e-5)
    with ThreadPoolExecutor(8) as pool:  # the network holds the lengths of its batch
        for said in pool.map(lambda sound: model.proba([sound], {})[0], [wave, long] * 12):
            assert min(np.abs(said - row).max() for row in encoded.probabilities()[0]) < 1e-5
    for number, share in ((0, 1), (1, 1 / 3)):
        (attribution,) = encoded.attributions(number)
        frames = np.array(attribution.frames)
        assert (attribution.layers, frames.sum()) == (None, pytest.approx(1, abs=1e-5))
        assert np.count_nonzero(frames) / len(frames) == pytest.approx(share, rel=0.05)
    classify = Finetuned._classify

    def crowded(self: Finetuned, waves: Sequence[np.ndarray]) -> object:
        if len(waves) > 1:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return classify(self, waves)

    monkeypatch.setattr(Finetuned, "_classify", crowded)
    np.testing.assert_allclose(read.proba(clips), made.proba(clips), atol=1e-5)


def test_transformers_loads_a_sequence_classifier_whole(work: TrainingJob, tmp_path: Path) -> None:
    from transformers import AutoModelForAudioClassification

    folder = tmp_path / "tuned"
    made = train(replace(work, settings=FinetuneSettings(classifier="sequence", epochs=1, lr=1e-3)), folder, "cpu")
    assert load_encoder(str(folder)).info.trained_on == made.card.trained_on.sha256
    theirs, report = AutoModelForAudioClassification.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert theirs.config.id2label == {0: "calm", 1: "happy", 2: "neutral"}
    clip = Recording.load(work.development[0].path)
    features = made.features(clip.waveform(16_000), sampling_rate=16_000, return_tensors="pt")
    expected = theirs.eval()(**features).logits.softmax(1).detach()
    np.testing.assert_allclose(Finetuned.load(folder).proba([clip]), expected, atol=1e-5)


def board(place: Artifacts, encoder: str, protocol: str = "speakers") -> dict[str, str]:
    """The leaks of a quick head on an encoder's vectors, by speaker tested."""
    task = Task.load("ravdess", encoder, "pooled", place)
    row = leaderboard(compare(task, ["ridge"], protocol, n_folds=2))[0]
    return {"leaks": row.leaks, "seen": "".join("x" if seen else "." for seen in task.seen)}


def test_the_leak_guard_knows_whom_an_encoder_was_trained_on(work: TrainingJob, tmp_path: Path, tree: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    folder = tmp_path / "tuned"
    train(work, folder, "cpu")
    encoder = load_encoder(str(folder))
    store = EmbeddingStore.of(place.cache, encoder.info)
    extract(dataset_manifest("ravdess", place), encoder, store)
    found = board(place, "tuned")
    assert found["leaks"] == "text+encoder"
    assert found["seen"] == "xxx." * 6  # speaker 04 was not trained on
    assert not Task.load("ravdess", "tuned", "pooled", place).take(np.arange(3, 24, 4)).seen.any()
    export(store, dataset_manifest("ravdess", place), tmp_path / "out.npz")
    import_vectors(tmp_path / "out.npz", place, "again", "ravdess")
    assert board(place, "again")["leaks"] == "text+encoder"
    with zipfile.ZipFile(tmp_path / "out.npz") as whole, zipfile.ZipFile(tmp_path / "less.npz", "w") as less:
        for name in set(whole.namelist()) - {"trained_on.npy"}:
            less.writestr(name, whole.read(name))
    with pytest.raises(StoreError, match="does not list what its encoder was trained on"):
        import_vectors(tmp_path / "less.npz", place, "less", "ravdess")
    bare = {name: np.load(tmp_path / "out.npz")[name] for name in ("clip_id", "pooled", "layers")}
    np.savez(tmp_path / "bare.npz", **bare)  # the same vectors, as if another program had made them
    import_vectors(tmp_path / "bare.npz", place, "bare", "ravdess")
    assert board(place, "bare")["leaks"] == "text+encoder"
    np.savez(tmp_path / "other.npz", **{**bare, "pooled": bare["pooled"] + 1, "layers": bare["layers"] + 1})
    import_vectors(tmp_path / "other.npz", place, "other", "ravdess")
    assert board(place, "other")["leaks"] == "text+encoder?"
    config = json.loads((folder / "config.json").read_text())
    disguise = shutil.copytree(folder, tmp_path / "disguise")
    (disguise / "config.json").write_text(json.dumps({**config, "ser_trained_on": "", "layerdrop": 0.2}))
    with pytest.raises(EncoderError, match="lists training clips, but config.json has no 'ser_trained_on'"):
        load_encoder(str(disguise))
    (disguise / "finetuned.json").unlink()
    disguised = load_encoder(str(disguise))
    assert disguised.info.fingerprint != encoder.info.fingerprint
    with pytest.raises(EncoderError, match="disguise: has the weights of the fine-tuned checkpoint tuned"):
        extract(dataset_manifest("ravdess", place), disguised, EmbeddingStore.of(place.cache, disguised.info))
    shutil.rmtree(folder)  # a leak is seen after the checkpoint is gone
    assert board(place, "tuned")["leaks"] == "text+encoder"
    (store.folder / LIST).write_text(json.dumps({"keys": [], "speakers": [], "labels": []}))
    with pytest.raises(StoreError, match="is not the list that its encoder was trained on"):
        Task.load("ravdess", "tuned", "pooled", place)
    (store.folder / LIST).unlink()
    with pytest.raises(StoreError, match="which writes the list"):
        Task.load("ravdess", "tuned", "pooled", place)


def test_a_checkpoint_that_lost_its_list_is_refused(work: TrainingJob, tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    train(replace(work, settings=replace(QUICK, epochs=1)), folder, "cpu")
    (folder / "finetuned.json").unlink()
    with pytest.raises(EncoderError, match="without this list, the leak check cannot find its training speakers"):
        load_encoder(str(folder))


def test_a_checkpoint_knows_what_its_parent_was_trained_on(work: TrainingJob, tmp_path: Path) -> None:
    quick = replace(QUICK, epochs=1, patience=0)
    parent = replace(work, train=work.train[:6], development=(), settings=quick)
    train(parent, tmp_path / "parent", "cpu")
    child = replace(work, encoder=str(tmp_path / "parent"), train=work.train[6:], development=(), settings=quick)
    made = train(child, tmp_path / "child", "cpu")
    assert made.card.trained_on.speakers == ("?:*", "ravdess:01", "ravdess:02")
    assert len(made.card.trained_on.keys) == 12


def test_one_recording_or_one_speaker_is_enough_to_be_known() -> None:
    clip = Clip("ravdess", "a", "a.wav", "sad", "01", key="k")
    listed = TrainedOn.of([clip])
    others = (replace(clip, key="l"), replace(clip, speaker="02"), replace(clip, key="l", speaker="02"))
    assert listed.covers(others) == [True, True, False]
    song = replace(clip, dataset="ravdess-song", key="l")
    assert listed.covers([song, replace(song, dataset="tess")]) == [True, False]  # the same actors sing


def test_a_protocol_gives_a_checkpoint_a_fold_and_a_row(work: TrainingJob, tmp_path: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    asked = FinetuneConfig(("ravdess",), work.encoder, "speakers", 2, settings=replace(QUICK, epochs=1, patience=1))
    done = finetune(place, asked, device="cpu")
    assert [folder.name for folder in done.checkpoints] == [
        f"ravdess-{Path(work.encoder).name}-mean-speakers-fold-{n}" for n in (1, 2)
    ]
    (row,) = leaderboard(done.predictions)
    frozen = leaderboard(compare(Task.load("ravdess", "mfcc", "pooled", artifacts_of(place)), ["ridge"], n_folds=2))
    assert (row.head, row.leaks, row.n_clips, row.fold_hash) == (
        "finetune-mean",
        "text+encoder?",
        24,
        frozen[0].fold_hash,
    )
    tested = {fold: set(done.predictions[0].speakers[done.predictions[0].folds == fold]) for fold in ("1", "2")}
    for folder, fold in zip(done.checkpoints, ("1", "2"), strict=True):
        heard = {name.partition(":")[2] for name in Finetuned.load(folder, "cpu").card.trained_on.speakers}
        assert heard.isdisjoint(tested[fold])
    assert (done.run / "chosen.csv").exists()


def artifacts_of(place: Artifacts) -> Artifacts:
    """With mfcc vectors of what is in stock."""
    encoder = load_encoder("mfcc")
    extract(dataset_manifest("ravdess", place), encoder, EmbeddingStore.of(place.cache, encoder.info))
    return place


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    work: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedcache.finetune import clips

    real = clips.ClipDataset.__getitem__

    def spoilt(self: ClipDataset, number: int) -> dict:
        item = real(self, number)
        return {**item, "input_values": item["input_values"] * (np.nan if self.epoch == 1 else 1)}

    monkeypatch.setattr(clips.ClipDataset, "__getitem__", spoilt)
    with pytest.raises(
        SerError, match=r"after step 3: the loss is not a number .*checkpoint-3\. Start again with a lower"
    ):
        train(work, tmp_path / "tuned", "cpu")
    assert (tmp_path / "tuned.work" / "checkpoint-3" / "model.safetensors").exists()
    assert not (tmp_path / "tuned").exists()


def test_another_question_is_not_an_answer_to_go_on_with(work: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(work, tmp_path / "tuned", "cpu", log=stop_at(2))
    other = replace(work, settings=replace(QUICK, lr=2e-3))
    with pytest.raises(SerError, match=r"was started with another configuration \(lr: 0\.001 then, 0\.002 now\)"):
        train(other, tmp_path / "tuned", "cpu", resume=True)
    with pytest.raises(SerError, match="exists already. Continue it with --resume"):
        train(work, tmp_path / "tuned", "cpu")
    with pytest.raises(SerError, match=r"was started with another configuration \(clips: "):
        train(replace(work, train=work.train[1:]), tmp_path / "tuned", "cpu", resume=True)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=str,
)
def test_where_memory_ends_there_is_a_way_on(
    work: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import psutil

    from embedcache.finetune import network

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(network.Classifier, "forward", full)
    with pytest.raises(SerError, match="batches of 4 clips of 5 s .*--batch-size 2 --accumulate 2"):
        train(work, tmp_path / "one", "cpu")
    assert not list(tmp_path.glob("one*")), "nothing stands in the way of asking for less"
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(SerError, match="million trained weights need .* GB are free"):
        train(work, tmp_path / "two", "cpu")


def test_what_cannot_be_asked(work: TrainingJob, tmp_path: Path, checkpoint: Path) -> None:
    wrong = {
        "pooling: got 'max'; wanted one of mean, attention": {"pooling": "max"},
        "unfreeze: got 'top:0'": {"unfreeze": "top:0"},
        "lr: got 2; wanted above 0": {"lr": 2.0},
        "batch-size: got 0; wanted 1 or more": {"batch_size": 0},
        "Leave out --pooling and --hidden": {"classifier": "sequence", "pooling": "attention"},
        "no transform 'echo'": {"augment": ("echo",)},
    }
    for said, asked in wrong.items():
        with pytest.raises(SerError, match=said):
            FinetuneSettings(**asked)
    with pytest.raises(EncoderError, match="has 2 blocks; got --unfreeze top:3"):
        train(replace(work, settings=replace(QUICK, unfreeze="top:3")), tmp_path / "a", "cpu")
    with pytest.raises(EncoderError, match="mfcc: has no weights to fine-tune"):
        train(replace(work, encoder="mfcc"), tmp_path / "b", "cpu")
    strange = [replace(work.development[0], label="sad")]
    with pytest.raises(SerError, match="development clips have the labels sad, which no training clip has"):
        train(replace(work, development=strange), tmp_path / "c", "cpu")
    with pytest.raises(ModelError, match="is a checkpoint without a classifier"):
        Predictor.load(checkpoint)
    with pytest.raises(EncoderError, match="got the device 'gpu'"):
        train(work, tmp_path / "e", "gpu")
    with pytest.raises(SerError, match=r"seconds: got 0.01; tiny-wav2vec2 needs 0.025 for one frame"):
        train(replace(work, settings=replace(QUICK, seconds=0.01)), tmp_path / "f", "cpu")
    (tmp_path / "g").mkdir()
    with pytest.raises(SerError, match="holds no fine-tuned checkpoint"):
        train(work, tmp_path / "g", "cpu", resume=True)
    with pytest.raises(EncoderError, match="fp16 needs a GPU"):
        train(replace(work, settings=replace(QUICK, precision="fp16")), tmp_path / "d", "cpu")


def test_bf16_is_blind_to_padding_too_and_is_tested_as_it_is_read(work: TrainingJob, tmp_path: Path) -> None:
    norm = MaskedGroupNorm(torch.nn.GroupNorm(4, 4))
    x, frames = 3 + torch.randn(2, 4, 50), torch.tensor([50, 30])
    norm.frames = frames
    with torch.autocast("cpu", torch.bfloat16):
        together = norm(x)
        norm.frames = frames[1:]
        alone = norm(x[1:, :, :30])
    np.testing.assert_allclose(together[1, :, :30].detach(), alone[0].detach(), atol=1e-5)
    made = train(replace(work, settings=replace(QUICK, epochs=1, precision="bf16")), tmp_path / "tuned", "cpu")
    clips = [Recording.load(clip.path) for clip in work.development]
    np.testing.assert_allclose(Finetuned.load(tmp_path / "tuned", "cpu").proba(clips), made.proba(clips), atol=1e-5)


def test_a_checkpoint_without_a_mask_is_the_same_each_time(tmp_path: Path, checkpoint: Path) -> None:
    """As facebook/wav2vec2-base-960h is published: transformers draws the mask's embedding at random."""
    folder = shutil.copytree(checkpoint, tmp_path / "bare")
    tensors = load_file(folder / "model.safetensors")
    del tensors["masked_spec_embed"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert len({open_base(str(folder)).info.weights_sha256 for _ in range(3)}) == 1


@pytest.mark.long
def test_half_a_checkpoint_is_not_gone_on_from(work: TrainingJob, tmp_path: Path) -> None:
    whole = train(work, tmp_path / "whole", "cpu")
    with pytest.raises(Stopped):
        train(work, tmp_path / "parts", "cpu", log=stop_at(3))
    last = last_checkpoint(tmp_path / "parts.work")
    (last / "optimizer.pt").write_bytes(b"")
    with pytest.raises(SerError, match=r"checkpoint-6: cannot be read .*Remove that folder"):
        train(work, tmp_path / "parts", "cpu", resume=True)
    (last / "whole").unlink()  # what was killed while it was written has no such file
    again = train(work, tmp_path / "parts", "cpu", resume=True)
    assert again.card.history == whole.card.history
    assert same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.long
def test_what_was_stopped_is_found_again(work: TrainingJob, tmp_path: Path, tree: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    asked = FinetuneConfig(("ravdess",), work.encoder, settings=replace(QUICK, epochs=2, patience=1))
    with pytest.raises(Stopped):
        finetune(place, asked, device="cpu", log=stop_at(2))
    other = finetune(place, replace(asked, settings=replace(QUICK, epochs=1)), device="cpu")
    gone_on = finetune(place, asked, device="cpu", resume=True)
    assert other.checkpoints[0].name == f"{gone_on.checkpoints[0].name}-2"


def test_clips_that_are_not_what_they_were(work: TrainingJob, tmp_path: Path) -> None:
    short = replace(work, train=[*work.train, replace(work.train[0], seconds=399 / 16_000)])
    limit = (
        r"1 of 19 clips are shorter than the 400 samples at 16,000 Hz \(25.0 ms\) of one frame:\n.*: has 399 samples"
    )
    with pytest.raises(AudioError, match=limit):
        train(short, tmp_path / "a", "cpu")
    write(Path(work.train[0].path), noise(0.3))
    with pytest.raises(AudioError, match="differs from the file that the manifest lists"):
        train(work, tmp_path / "b", "cpu")
    tested = FinetuneConfig(("ravdess",), work.encoder, "loso", settings=replace(QUICK, epochs=1, patience=0))
    with pytest.raises(AudioError, match="differs from the file that the manifest lists"):
        finetune(Artifacts(tmp_path / "artifacts"), tested, device="cpu")


def test_without_the_extra(work: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedcache.finetune import settings

    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    with pytest.raises(SerError, match=r"needs accelerate. Install it with `.*\[finetune\]"):
        train(work, tmp_path / "tuned", "cpu")


def test_a_dataset_with_one_speaker(tmp_path: Path, checkpoint: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    dataset_manifest("ravdess", place, ravdess_tree(tmp_path / "one", actors=1))
    asked = FinetuneConfig(("ravdess",), str(checkpoint), settings=QUICK)
    with pytest.raises(
        ProtocolError, match=r"no development speakers can be set aside for early stopping.*--patience 0"
    ):
        finetune(place, asked, device="cpu")
    with pytest.raises(ProtocolError, match="needs 2 speakers"):
        finetune(place, replace(asked, protocol="loso"), device="cpu")


@pytest.mark.long
def test_the_command(ser: Ser, tree: Path, tmp_path: Path, checkpoint: Path) -> None:
    command = ("finetune", "--dataset", "ravdess", "--root", tree, "--encoder", checkpoint, "--epochs", "1")
    done = ser(*command, "--hidden", "none", "--out", "tuned", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "checkpoint: tuned\n"
    assert "epoch 1: loss" in done.stderr
    told = ser("predict", "tuned", *sorted(tree.rglob("*.wav"))[:2])
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("\n") == 3  # a header, and a row for each file
    again = ser(*command, "--out", "tuned")
    assert again.returncode == 1
    assert "tuned exists already" in again.stderr
    assert ser(*command, "--hidden", "many").returncode == 2
    assert "--root is the folder of one dataset" in ser("finetune", "--root", tree).stderr


@pytest.mark.long
def test_a_killed_command_goes_on_to_equal_weights(tmp_path: Path, tree: Path, checkpoint: Path) -> None:
    """SIGKILL in the middle of an epoch, twice."""
    import time

    command = [sys.executable, "-m", "cli", "finetune", "--dataset", "ravdess", "--root", str(tree), "--device", "cpu"]
    command += ["--encoder", str(checkpoint), "--epochs", "40", "--patience", "40", "--batch-size", "1"]
    command += ["--artifacts", str(tmp_path / "artifacts")]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], cwd=REPOSITORY, check=True, capture_output=True)
    kept = 0
    for _ in range(2):
        process = subprocess.Popen(
            [*command, "--out", str(tmp_path / "parts"), "--resume"], cwd=REPOSITORY, stderr=subprocess.DEVNULL
        )
        saved: set[Path] = set()
        while len(saved) < 3 and process.poll() is None:
            saved |= set((tmp_path / "parts.work").glob("checkpoint-*/trainer_state.json"))
            time.sleep(0.05)
        process.kill()
        process.wait()
        kept += (tmp_path / "parts").exists()
    assert not kept, "it was done before it was killed"
    subprocess.run(
        [*command, "--out", str(tmp_path / "parts"), "--resume"], cwd=REPOSITORY, check=True, capture_output=True
    )
    assert same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.long
def test_two_processes_train_one_network(tmp_path: Path, tree: Path, checkpoint: Path) -> None:
    """As `accelerate launch` starts them, here without a GPU: one of them writes and tells."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "cli", "finetune"]
    command += ["--dataset", "ravdess", "--root", str(tree), "--encoder", str(checkpoint), "--device", "cpu"]
    command += ["--epochs", "2", "--batch-size", "2", "--artifacts", str(tmp_path / "artifacts")]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "tuned")], cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("checkpoint: ") == 1
    assert done.stderr.count("epoch 2: ") == 1
    assert len(Finetuned.load(tmp_path / "tuned", "cpu").card.history["val_uar"]) == 2
