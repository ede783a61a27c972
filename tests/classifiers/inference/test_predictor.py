"""Prediction: the vectors of a file on its own are those of the cache, and the encoder is the one of the model."""

import csv
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.checkpoints import save_checkpoint
from helpers.encoded import encoded
from helpers.extraction import extracted
from helpers.places import REPOSITORY, Ser
from helpers.sounds import noise, ravdess_tree, write
from helpers.tolerance import close_to

from classifiers import Prediction, Predictor, Task, Windows, load_model
from classifiers.data.csv_text import csv_row, csv_text
from classifiers.inference.audio_files import find_audio, predict_files, predict_raw
from classifiers.inference.model import Attribution, EncodedWaveforms, Model, load_models
from classifiers.inference.output_formats import table_lines
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, AudioError, ConfigError, ModelError, Recording


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """logreg on mfcc vectors of the tree, fitted once."""
    root = tmp_path_factory.mktemp("fitted")
    extracted(ravdess_tree(root / "tree"), root / "artifacts")
    return fit_model(Artifacts(root / "artifacts"), ComparisonConfig(heads=("logreg",), folds=2), jobs=1)[0]


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(fitted, tmp_path / "models" / fitted.name))


def test_a_file_is_predicted_as_its_cached_vector_is(model: Path, artifacts: Artifacts, tree: Path) -> None:
    task = Task.load(artifacts=artifacts)
    estimator, _ = load_model(model)
    paths = sorted(tree.rglob("*.wav"))[:5]
    predictions = Predictor.load(model).predict(paths)
    by_id = dict(zip(task.ids, estimator.predict_proba(task.X), strict=True))
    for path, prediction in zip(paths, predictions, strict=True):
        assert prediction.path == str(path)
        np.testing.assert_allclose(list(prediction.probabilities.values()), by_id[path.stem], atol=1e-5)
        assert prediction.label == max(prediction.probabilities, key=prediction.probabilities.get)
        assert sum(prediction.probabilities.values()) == close_to(1)


def test_what_is_not_sure_enough_has_no_label(model: Path, tree: Path) -> None:
    """The probabilities stay; a confidence that equals the bound is enough."""
    predictor, paths = Predictor.load(model), sorted(tree.rglob("*.wav"))[:6]
    plain = predictor.predict(paths)
    bound = sorted(p.confidence for p in plain)[3]
    for before, after in zip(plain, predictor.predict(paths, abstain_below=bound), strict=True):
        assert before.probabilities == after.probabilities
        assert after.confidence == max(after.probabilities.values())
        assert after.label == (before.label if after.confidence >= bound else None)
    for wrong in (0, 1, -0.5, float("nan")):
        with pytest.raises(ValueError, match="got abstain_below=.*; wanted a probability between 0 and 1"):
            predictor.predict(paths, abstain_below=wrong)


def rows_of(said: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(said)))


@pytest.mark.long
def test_the_command_says_how_many_it_left_unlabelled(model: Path, tree: Path, ser: Ser) -> None:
    paths = sorted(tree.rglob("*.wav"))[:6]
    confidences = sorted(p.confidence for p in Predictor.load(model).predict(paths))
    bound = f"{(confidences[2] + confidences[3]) / 2:.6f}"
    said = ser("predict", model, *paths, "--abstain-below", bound)
    assert said.returncode == 0, said.stderr
    assert [row["label"] == "" for row in rows_of(said.stdout)].count(True) == 3
    assert f"not sure: 3 of 6 (50.0%): confidence below {float(bound):g}" in said.stderr
    lines = [
        json.loads(line)
        for line in ser("predict", model, *paths, "--abstain-below", bound, "--json").stdout.splitlines()
    ]
    assert [line["label"] is None for line in lines] == [line["certainty"] < float(bound) for line in lines]
    assert all(len(line["probabilities"]) == 3 for line in lines)
    for row, line in zip(rows_of(said.stdout), lines, strict=True):
        assert (row["path"], row["label"]) == (line["path"], line["label"] or "")
        assert float(row["p_calm"]) == pytest.approx(line["probabilities"]["calm"], abs=1e-6)
    for wrong in ("1", "nan"):
        refused = ser("predict", model, *paths, "--abstain-below", wrong)
        assert (refused.returncode, "--abstain-below" in refused.stderr) == (2, True)


def test_what_failed_is_said_and_the_rest_is_answered(model: Path, tree: Path, ser: Ser, tmp_path: Path) -> None:
    """Folders, patterns and files, each once; the order stays."""
    write(tree / "Actor_01" / "short.wav", noise(0.005))
    (tree / "Actor_02" / "song.mp3").write_bytes(b"\x7fELF" + bytes(100))
    missing, pattern = tmp_path / "no, \u00e9.wav", str(tree / "Actor_0[12]" / "*")
    done = ser("predict", model, tree / "Actor_01", pattern, missing, next((tree / "Actor_03").glob("*.wav")))
    assert done.returncode == 1
    answered = [Path(row["path"]) for row in rows_of(done.stdout)]
    good = [path for actor in ("Actor_01", "Actor_02") for path in sorted((tree / actor).glob("03-*.wav"))]
    assert answered == [*good, next((tree / "Actor_03").glob("*.wav"))]
    for fault in ("short.wav: has 80 samples", "song.mp3: is a program; wanted WAV", "no, \u00e9.wav: cannot be read"):
        assert f"error: {tree.parent}" in done.stderr
        assert fault in done.stderr
    assert (
        done.stderr.splitlines()[-1] == "error: 3 of 16 files have no prediction; the messages above give the reasons."
    )


def test_a_folder_without_audio_and_a_pattern_without_a_match_fail_alone(
    model: Path, tree: Path, ser: Ser, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    good = next((tree / "Actor_03").glob("*.wav"))
    done = ser("predict", model, tmp_path / "empty", tmp_path / "empty" / "*.wav", good, tree / "Actor_0[4]")
    assert done.returncode == 1
    assert len(rows_of(done.stdout)) == 1 + len(list((tree / "Actor_04").iterdir()))  # a pattern may match folders
    assert "empty: the folder has no audio files (.flac, .mp3, .ogg, .wav and others)" in done.stderr
    assert "*.wav: no file matches this pattern. Check it" in done.stderr


def test_what_is_no_audio_in_a_folder_is_counted(model: Path, ser: Ser, tree: Path, tmp_path: Path) -> None:
    """Formats that cannot be read are named; hidden files and what macOS leaves behind are neither."""
    folder = tmp_path / "mixed"
    (folder / "sad").mkdir(parents=True)
    shutil.copy(next(tree.glob("*/*.wav")), folder / "sad" / "a.wav")
    (folder / "b.ra").write_bytes(b".ra\xfd" + bytes(100))
    for name in ("notes.txt", "sad/more.TXT", "scan.pdf", "README", ".DS_Store", "sad/._a.wav", "__MACOSX/a.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    done = ser("predict", model, folder, "--json")
    assert done.returncode == 1
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == [str(folder / "sad" / "a.wav")]
    passed, *errors = done.stderr.splitlines()
    assert passed == "note: passed over 4 files that are not audio by the name: .txt (2), no suffix (1), .pdf (1)."
    assert [line.partition(": cannot be decoded")[0] for line in errors] == [
        f"error: {folder / 'b.ra'}",
        "error: 1 of 2 files have no prediction; the messages above give the reasons.",
    ]
    assert find_audio([str(folder), str(folder / "*.txt")]).passed_over == [
        str(folder / name) for name in ("README", "sad/more.TXT", "scan.pdf")
    ]


def test_a_cell_of_two_lines_is_quoted() -> None:
    cells = ["a\rb", "a\nb", "a,b", 'a"b', "plain"]
    assert csv_row(cells) == '"a\rb","a\nb","a,b","a""b",plain'
    assert csv_text([cells, cells]) == f"{csv_row(cells)}\n" * 2


def test_names_of_two_lines(model: Path, ser: Ser, tree: Path, tmp_path: Path) -> None:
    """A message has one line; CSV and JSON give the name as it is."""
    good = shutil.copy(next(tree.glob("*/*.wav")), tmp_path / "a\n\x1b[2J, b.wav")
    bad = tmp_path / "bad\n\x1b[2J.wav"
    bad.write_bytes(b"")
    done = ser("predict", model, good, bad)
    with io.StringIO(done.stdout, newline="") as file:
        header, row = csv.reader(file)
    assert (row[0], len(row)) == (str(good), len(header))
    assert done.stderr.splitlines() == [
        f"error: {tmp_path}/bad\\n\\x1b[2J.wav: is empty (0 bytes). Copy or download it again, or remove it.",
        "error: 1 of 2 files have no prediction; the messages above give the reasons.",
    ]
    assert json.loads(ser("predict", model, good, "--json").stdout)["path"] == str(good)
    (prediction,) = Predictor.load(model).predict([good])
    line = table_lines(tuple(prediction.probabilities), [str(good)], False, 200).line(prediction)
    assert line.startswith(f"{tmp_path}/a\\n\\x1b[2J, b.wav  ")


def test_one_file_that_breaks_the_encoder_takes_no_other_with_it(model: Path, tmp_path: Path) -> None:
    """Each is then asked alone; a path is given back as it came."""
    predictor = Predictor.load(model)
    paths = [str(write(tmp_path / f"{name}.wav", noise(0.5))) for name in "abc"]
    encoder = predictor.models[0].encoders[0]

    class Breaking:
        def __getattr__(self, name: str) -> object:
            return getattr(encoder, name)

        def encode(self, waves: list, views: tuple) -> dict:
            rows = encoder.encode(waves, views)["pooled"]
            return {"pooled": np.where([[np.array_equal(wave, bad)] for wave in waves], np.nan, rows)}

    bad = predictor.clips(Recording.load(paths[1]))[0].wave
    write(Path(paths[1]), noise(0.5, seed=3))
    bad = predictor.clips(Recording.load(paths[1]))[0].wave
    broken = Predictor.of([replace(predictor.models[0], encoders=(Breaking(),))])
    given = [paths[0], paths[1], f"{tmp_path}/./c.wav"]
    said = list(predict_files(broken, given))
    assert [one.path for one in said] == given
    assert [bool(one.predictions) for one in said] == [True, False, True]
    assert said[1].fault.startswith(f"{paths[1]}: ")
    assert said[2].predictions[0].path == given[2]


def test_models_are_averaged_whatever_the_order_of_their_labels(model: Path, artifacts: Artifacts, tree: Path) -> None:
    other, _, _ = fit_model(artifacts, ComparisonConfig(heads=("lda",), folds=2), jobs=1)
    paths = sorted(tree.rglob("*.wav"))[:4]
    first, second = load_models([model, other])
    turned = replace(second, labels=second.labels[::-1], proba=lambda waves, batch: second.proba(waves, batch)[:, ::-1])
    alone = [Predictor.of([one]).predict(paths) for one in (first, second)]
    for both in (Predictor.of([first, second]), Predictor.of([first, turned])):
        for said, a, b in zip(both.predict(paths), *alone, strict=True):
            for label, value in said.probabilities.items():
                assert value == close_to((a.probabilities[label] + b.probabilities[label]) / 2)
    assert first.encoders == second.encoders
    with pytest.raises(ModelError, match="cannot be averaged: their labels are"):
        Predictor.of([first, replace(second, labels=("glad", "mad", "sad"))])
    with pytest.raises(ModelError, match="got models of different sample rates"):
        Predictor.of([first, replace(second, rate=8000)])


def test_models_that_share_an_encoder_run_it_once(model: Path, artifacts: Artifacts, tree: Path) -> None:
    other, _, _ = fit_model(artifacts, ComparisonConfig(heads=("lda",), folds=2), jobs=1)
    predictor = Predictor.load(model, other)
    calls = []
    encoder = predictor.models[0].encoders[0]

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(encoder, name)

        def encode(self, waves: list, views: tuple) -> object:
            calls.append(views)
            return encoder.encode(waves, views)

    shared = Counting()
    counting = Predictor.of([replace(one, encoders=(shared,)) for one in predictor.models])
    (wav,) = sorted(tree.rglob("*.wav"))[:1]
    assert counting.predict([wav]) == predictor.predict([wav])
    assert calls == [("pooled",)]


def test_files_waveforms_windows_and_streams_agree(model: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model)
    sound = noise(1.3, 44_100).astype(np.float32)
    path = write(tmp_path / "a.wav", sound, 44_100, subtype="FLOAT")
    (whole,) = predictor.predict([path])
    (same,) = predictor.predict_waves([sound], 44_100)
    assert same.probabilities == whole.probabilities
    assert (whole.begin, whole.end) == (0, pytest.approx(1.3, abs=1e-3))
    windows = Windows(0.5, 0.2)
    timeline = predictor.timeline(path, windows)
    assert [round(p.begin, 3) for p in timeline] == [0, 0.2, 0.4, 0.6, 0.8]
    stream = predictor.stream(44_100, windows)
    came = [p for piece in np.array_split(sound, 7) for p in stream.push(piece)] + stream.close()
    assert [p.begin for p in came] == [p.begin for p in timeline]
    for a, b in zip(came, timeline, strict=True):
        assert list(a.probabilities.values()) == pytest.approx(list(b.probabilities.values()), abs=1e-5)
    cut = predictor.predict_waves([timeline_wave(predictor, path, timeline[2])], predictor.rate)
    assert list(cut[0].probabilities.values()) == pytest.approx(list(timeline[2].probabilities.values()), abs=1e-6)


def timeline_wave(predictor: Predictor, path: Path, p: Prediction) -> np.ndarray:
    rate = predictor.rate
    return Recording.load(path).waveform(rate)[round(p.begin * rate) : round(p.end * rate)]


def test_raw_sound_on_a_pipe_is_heard_as_the_file_is(model: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model)
    path = write(tmp_path / "a.wav", noise(1.3), subtype="PCM_16")
    raw = (np.round(soundfile.read(path)[0] * 32768)).astype("<i2").tobytes()
    windows = Windows(0.5, 0.2)
    for asked in (None, windows):
        (answer,) = predict_files(predictor, [str(path)], asked)
        piped = list(predict_raw(predictor, io.BufferedReader(Trickle(raw)), 16_000, asked))
        assert [(p.begin, p.label) for p in piped] == [(p.begin, p.label) for p in answer.predictions]
        for a, b in zip(piped, answer.predictions, strict=True):
            assert list(a.probabilities.values()) == pytest.approx(list(b.probabilities.values()), abs=1e-6)
    (whole,) = predict_files(predictor, ["-"], stdin=io.BytesIO(path.read_bytes()))
    assert whole.predictions[0].probabilities == predictor.predict([path])[0].probabilities
    for empty in (b"", b"x"):
        with pytest.raises(AudioError, match="-: has 0 samples"):
            list(predict_raw(predictor, io.BufferedReader(Trickle(empty)), 16_000))
    for empty in (b"", b"x"):
        with pytest.raises(AudioError, match="-: got no samples; wanted raw 16-bit sound"):
            list(predict_raw(predictor, io.BufferedReader(Trickle(empty)), 16_000, windows))
    for kind in ("wav", "m4a", "aac", "mp3 without a count of frames"):
        pipe = io.BufferedReader(Trickle(encoded(noise(1.3), kind)))
        with pytest.raises(AudioError, match="-: got an audio file; wanted raw sound, as --rate says. Leave --rate"):
            list(predict_raw(predictor, pipe, 16_000))
    odd = b"\xff\xfb\x90\x64" + raw  # begins as MP3 does
    assert list(predict_raw(predictor, io.BufferedReader(Trickle(odd)), 16_000))[0].end == pytest.approx(1.3, abs=1e-3)
    (closed,) = predict_files(predictor, ["-"])
    assert closed.fault.startswith("-: standard input is closed")
    (failed,) = predict_files(predictor, ["-"], stdin=io.BytesIO(b""))
    assert failed.fault == "-: is empty (0 bytes). Copy or download it again, or remove it."


class Trickle(io.RawIOBase):
    """A pipe that gives a few bytes at a time, often an odd number."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        part, self.data = self.data[:777], self.data[777:]
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.long
def test_standard_input_as_a_command(model: Path, tmp_path: Path) -> None:
    """Raw sound with --rate; --rate without -, an hour of it at once and windows that cannot be are refused."""
    path = write(tmp_path / "a.wav", noise(1.0), subtype="PCM_16")
    command = [sys.executable, str(REPOSITORY / "cli.py"), "predict", str(model)]
    raw = path.read_bytes()[44:]
    done = subprocess.run([*command, "-", "--rate", "16000", "--window", "0.5"], input=raw, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert [row["begin"] for row in rows_of(done.stdout.decode())] == ["0.000", "0.500"]


def test_options_that_do_not_fit_are_usage_errors(model: Path, tmp_path: Path, ser: Ser) -> None:
    path = write(tmp_path / "a.wav", noise(0.5))
    for options in (["--rate", "16000"], ["--window", "0"], ["--window", "1", "--hop", "2"], ["--hop", "nan"]):
        refused = ser("predict", model, path, *options)
        assert refused.returncode == 2, (options, refused.stderr)
    refused = ser("predict", model, "-", "--rate", "16000", "--channel", "right")
    assert refused.returncode == 2
    assert "raw sound of one channel" in refused.stderr
    refused = ser("predict", model, path, "")
    assert refused.returncode == 2
    assert "got an empty name of a file; wanted a file, folder or pattern" in refused.stderr


def test_what_is_no_list_of_recordings_is_refused(model: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model)
    for path in (tmp_path / "a.wav", "a.wav"):
        with pytest.raises(ConfigError, match=r"got one path, '.*a.wav'; wanted a sequence of paths. Use \["):
            predictor.predict(path)
    with pytest.raises(AudioError, match="got MaskedArray; wanted floats"):
        predictor.predict_waves([np.ma.masked_array(noise(1.0))], 16_000)
    for rate in ("16000", None):
        with pytest.raises(AudioError, match=f"got the sample rate {rate!r}; wanted a whole number of Hz"):
            predictor.predict_waves([noise(1.0)], rate)
        with pytest.raises(AudioError, match=f"got the sample rate {rate!r}; wanted a whole number of Hz"):
            predictor.stream(rate)


def test_a_name_that_is_not_utf_8_is_kept_and_a_pattern_without_files_is_said(
    model: Path, tmp_path: Path, ser: Ser
) -> None:
    """Its bytes are escaped, so that the output can be read as UTF-8; JSON has escapes of its own."""
    folder = tmp_path / "names"
    path = write(folder / "a.wav", noise(0.6))
    path.rename(os.fsdecode(bytes(folder) + b"/\xe9t\xe9.wav"))
    assert [row["path"] for row in rows_of(ser("predict", model, folder).stdout)] == [rf"{folder}/\xe9t\xe9.wav"]
    (line,) = ser("predict", model, folder, "--json").stdout.splitlines()
    assert os.fsencode(json.loads(line)["path"]) == bytes(folder) + b"/\xe9t\xe9.wav"
    (folder / os.fsdecode(b"\xff.wav")).write_bytes(b"")
    refused = ser("predict", model, folder, "names/*.mp3")
    assert rf"error: {folder}/\xff.wav: is empty (0 bytes)." in refused.stderr
    assert "error: names/*.mp3: no file matches this pattern. Check it; **" in refused.stderr


def test_silence_has_no_label_and_its_reason(model: Path, tmp_path: Path, ser: Ser) -> None:
    silent = write(tmp_path / "silent.wav", np.zeros(16_000))
    narrow = write(tmp_path / "narrow.wav", noise(1.0, 8000), 8000)
    done = ser("predict", model, silent, narrow)
    first, second = rows_of(done.stdout)
    assert done.returncode == 0
    assert (first["label"], first["notes"].partition(":")[0]) == ("", "Silence")
    assert second["label"]
    assert "Narrow: the sample rate of the recording is 8,000 Hz" in second["notes"]


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_fits_the_terminal(width: int) -> None:
    long = "/a/very/long/path/" + "x" * 90 + "/clip.wav"
    said = [
        Prediction(long, "surprised", {"surprised": 0.6, "happy": 0.3, "sad": 0.1}, 0.0, 3.0),
        Prediction(
            "b.wav", None, {"surprised": 0.4, "happy": 0.35, "sad": 0.25}, 1.0, 4.0, ("Short: it lasts 0.2 s.",)
        ),
    ]
    for timed in (False, True):
        lines = table_lines(("happy", "sad", "surprised"), [p.path for p in said], timed, width)
        text = [lines.header, *(line for p in said for line in lines.line(p).splitlines())]
        assert max(map(len, text)) <= width
        assert "clip.wav" in text[1]
        assert ("not sure" in text[2], text[3]) == (True, "  Short: it lasts 0.2 s.")
        assert ("1.0–4.0" in text[2].replace(" ", "")) == timed


@pytest.mark.parametrize("head", ["logreg", pytest.param("attention", marks=pytest.mark.long)])
def test_threads_get_what_one_gets(head: str, artifacts: Artifacts, tree: Path) -> None:
    """And torch has the threads that it had."""
    extracted(tree, artifacts.root, views=("pooled", "layers", "frames"))
    folder, _, _ = fit_model(artifacts, ComparisonConfig(heads=(head,), folds=2), jobs=1)
    predictor, paths = Predictor.load(folder), sorted(tree.rglob("*.wav"))
    expected, before = predictor.predict(paths), torch.get_num_threads()
    with ThreadPoolExecutor(8) as pool:
        for number, said in enumerate(pool.map(lambda path: predictor.predict([path]), paths * 4)):
            alone = list(expected[number % len(paths)].probabilities.values())
            assert list(said[0].probabilities.values()) == pytest.approx(alone, abs=1e-5)
    assert torch.get_num_threads() == before


@pytest.mark.long
def test_what_counted_is_what_the_head_weighs(tree: Path, tmp_path: Path) -> None:
    place, network = tmp_path / "a", save_checkpoint(tmp_path / "net")
    extracted(tree, place, str(network), views=("pooled", "layers", "frames"))
    wave = noise(0.5).astype(np.float32)

    def of(head: str) -> tuple[Model, Attribution]:
        frames = 9 if head == "attention" else None
        folder, _, _ = fit_model(Artifacts(place), ComparisonConfig(heads=(head,), folds=2, frames=frames), jobs=1)
        models = load_models([folder])
        return models[0], EncodedWaveforms.encode(models, [noise(0.3).astype(np.float32), wave]).attributions(1)[0]

    _, weighted = of("layer_weighted")
    assert (len(weighted.layers), sum(weighted.layers), weighted.frames) == (3, close_to(1), None)
    _, best = of("best_layer")
    assert sorted(best.layers) == [0, 0, 1]
    assert of("logreg")[1] == Attribution()
    model, attended = of("attention")
    length = len(model.encoders[0].encode([wave], model.views)[model.views[0]][0])
    frames = np.array(attended.frames)
    assert (len(frames), frames.sum()) == (length, close_to(1))
    assert model.used_seconds == pytest.approx(9 / 50, rel=0.05)
    middle = (length - 9) // 2
    assert np.count_nonzero(frames) == np.count_nonzero(frames[middle : middle + 9]) == 9


def test_a_bad_file_is_named(model: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model)
    with pytest.raises(AudioError, match=r"short.wav: has 80 samples .*; ravdess-mfcc-logreg needs at least 400"):
        predictor.predict([write(tmp_path / "short.wav", noise(0.005))])
    with pytest.raises(AudioError, match=r"no.wav: cannot be read"):
        predictor.predict([tmp_path / "no.wav"])


def test_the_encoder_must_be_the_one_of_the_model(tree: Path, tmp_path: Path) -> None:
    place, folder = tmp_path / "a", save_checkpoint(tmp_path / "net")
    extracted(tree, place, str(folder))
    model, _, _ = fit_model(Artifacts(place), ComparisonConfig(heads=("layer_weighted",), folds=2), jobs=1)
    wav = next(tree.rglob("*.wav"))
    assert len(Predictor.load(model).predict([wav])) == 1
    save_checkpoint(folder, layer_norm_eps=1e-3)
    with pytest.raises(
        ModelError,
        match=r"fitted on vectors of a different 'net': weights_sha256 was .*, is .*. Fit the head again",
    ):
        Predictor.load(model)


def test_another_library_version_is_a_warning(model: Path) -> None:
    facts = json.loads((model / "model.json").read_text())
    facts["encoder_info"]["preprocessing"] = "soxr 0.1"
    (model / "model.json").write_text(json.dumps(facts))
    with pytest.warns(UserWarning, match="made with other library versions: preprocessing was soxr 0.1, is "):
        Predictor.load(model)


def test_the_card_says_how_well_it_may_do(model: Path) -> None:
    _, card = load_model(model)
    assert card.score["protocol"] == "speakers"
    assert 0 <= card.score["uar_low"] <= card.score["uar"] <= 1
    assert (card.n_clips, card.n_speakers, card.dataset, card.encoder) == (24, 4, "ravdess", "mfcc")
    assert replace(card).params["C"] == "chosen"


def test_a_checkpoint_folder_is_found_from_anywhere(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given as a relative path to extract, it is named by the same words to compare, and known to the model."""
    save_checkpoint(tmp_path / "nets" / "net")
    monkeypatch.chdir(tmp_path)
    extracted(tree, tmp_path / "a", "nets/net")
    assert Task.load(encoder="nets/net", artifacts=tmp_path / "a").encoder == "net"
    asked = ComparisonConfig(heads=("logreg",), encoders=("nets/net",), folds=2)
    model, _, _ = fit_model(Artifacts(tmp_path / "a"), asked, jobs=1)
    monkeypatch.chdir("/")
    assert len(Predictor.load(model).predict([next(tree.rglob("*.wav"))])) == 1


def test_a_model_of_one_channel_predicts_this_channel(ser: Ser, tmp_path: Path) -> None:
    for number, (label, speaker) in enumerate(itertools.product(("sad", "glad"), ("ann", "bob", "eve"))):
        sound = np.stack([noise(0.4, seed=number), noise(0.4, seed=9 - number)], axis=1)
        write(tmp_path / "mine" / label / f"{speaker}_1.wav", sound)
    assert (
        ser("extract", "--dataset", "folder", "--root", "mine", "--encoder", "mfcc", "--channel", "right").returncode
        == 0
    )
    assert ser("fit", "--head", "ridge", "--protocol", "loso").returncode == 0
    model, clip = "artifacts/models/folder-mine-mfcc-ridge", "mine/sad/ann_1.wav"
    by_default, right, left = (
        ser("predict", model, clip, *option) for option in ((), ("--channel", "1"), ("--channel", "0"))
    )
    assert by_default.stdout == right.stdout != left.stdout
    assert "note: predicts channel 1, on which the model was fitted; --channel chooses another." in by_default.stderr
    assert "channel" not in right.stderr
