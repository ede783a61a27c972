"""The demo: page and API answer as `ser predict` does, within bounds, to nobody but who may ask, and keep nothing."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import Tags
from helpers.extraction import extracted
from helpers.places import Ser
from helpers.sounds import noise, ravdess_tree, write
from helpers.tolerance import close_to

from classifiers import Predictor, Windows
from classifiers.demo.choose_models import SYNTHETIC, latest_model, models_for
from classifiers.demo.examples import EXAMPLES
from classifiers.demo.live_sessions import LiveSessions
from classifiers.inference.model import Attribution, Model, load_models
from classifiers.serving import service as service_module
from classifiers.serving.service import Busy, PredictionService
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, AudioError, ConfigError, ModelError, Recording, SerError, UnknownName
from embedcache.synthetic import wav_bytes

HERE = "http://127.0.0.1:7860"
SOUND = wav_bytes(noise(1.3))
GROUP = pytest.mark.xdist_group("demo")
pytestmark = GROUP  # one process fits the models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, ...]:
    """A calibrated logreg and a lda, on mfcc vectors of the tree."""
    root = tmp_path_factory.mktemp("demo")
    extracted(ravdess_tree(root / "tree"), root / "artifacts")
    place = Artifacts(root / "artifacts")
    asked = (
        ComparisonConfig(heads=("logreg",), folds=2, calibrate=True),
        ComparisonConfig(heads=("lda",), folds=2),
    )
    return load_models([fit_model(place, one, jobs=1)[0] for one in asked])


@pytest.fixture
def service(models: tuple[Model, ...]) -> PredictionService:
    return PredictionService(models)


@contextlib.contextmanager
def client_of(service: PredictionService, **asked: Any) -> Iterator[Any]:
    """Who asks the whole application, without a network."""
    from fastapi.testclient import TestClient

    from classifiers.demo.server import build_app

    with TestClient(build_app(service, **asked), base_url=HERE) as client:
        yield client


@pytest.fixture
def client(service: PredictionService) -> Iterator[Any]:
    with client_of(service) as client:
        yield client


def test_the_api_answers_as_the_command_does(models: tuple[Model, ...], client: Any, ser: Ser, tmp_path: Path) -> None:
    path = write(tmp_path / "sound.wav", noise(1.3))
    options = ["--window", "0.5", "--hop", "0.2", "--abstain-below", "0.9"]
    said = ser("predict", models[0].folder, path, "--json", *options).stdout
    query = {"window": "0.5", "hop": "0.2", "abstain_below": "0.9", "model": models[0].name}
    answer = client.post("/api/predict", params=query, content=path.read_bytes())
    wanted = [{**json.loads(line), "path": "sound", "model": models[0].name} for line in said.splitlines()]
    assert (answer.status_code, len(answer.json()["predictions"])) == (200, len(wanted))
    for a, b in zip(answer.json()["predictions"], wanted, strict=True):
        assert a.pop("probabilities") == close_to(b.pop("probabilities"))
        assert a.pop("certainty") == close_to(b.pop("certainty"))
        assert a == b


def test_every_model_that_is_named_answers(models: tuple[Model, ...], client: Any) -> None:
    every = client.post("/api/predict", content=SOUND).json()["predictions"]
    assert [said["model"] for said in every] == [model.name for model in models]
    one = client.post("/api/predict", params={"model": models[1].name}, content=SOUND).json()["predictions"]
    assert one == every[1:]
    known = client.get("/api/models").json()
    assert [one["model"] for one in known] == [model.name for model in models]
    assert known[0]["labels"] == list(models[0].labels)
    assert known[0]["scores"]["uar"]["value"] == models[0].card["scores"]["uar"]["value"]


def test_sound_that_arrives_is_answered_as_the_file_is(models: tuple[Model, ...], client: Any) -> None:
    timeline = Predictor.of(models[:1]).predict_clips(
        Predictor.of(models[:1]).clips(Recording.of(SOUND, "the sound"), Windows(0.5, 0.2))
    )

    def pieces() -> Iterator[bytes]:
        raw = SOUND[44:]
        yield from (raw[at : at + 999] for at in range(0, len(raw), 999))

    asked = {"rate": 16_000, "window": 0.5, "hop": 0.2, "model": models[0].name}
    lines = client.post("/api/listen", params=asked, content=pieces()).text.splitlines()
    assert len(lines) == len(timeline) == 5
    for line, p in zip(lines, timeline, strict=True):
        said = json.loads(line)
        assert (said["begin"], said["label"], said["model"]) == (round(p.begin, 3), p.label, models[0].name)
        assert said["probabilities"] == pytest.approx(p.probabilities, abs=1e-6)


PLAIN = b"this is no audio" * 100
BAD = {
    "a program": (b"\x7fELF" + PLAIN, {}, 422, "is a program; wanted WAV, FLAC, OGG or MP3"),
    "a video": (b"\x00\x00\x00\x20ftypisom" + PLAIN, {}, 422, "is MP4 or QuickTime"),
    "text": (PLAIN, {}, 422, "is text that begins with 'this is no audio"),
    "nothing": (b"", {}, 422, "is empty (0 bytes)"),
    "too short": (wav_bytes(noise(0.01)), {}, 422, "has 160 samples at 16,000 Hz (10.0 ms); ravdess-mfcc"),
    "too short a window": (SOUND, {"window": "0.02"}, 422, "has 320 samples at 16,000 Hz (20.0 ms)"),
    "too long a window": (SOUND, {"window": "1e308"}, 400, "wanted 0.01 <= hop <= window <= 3600"),
    "too long": (wav_bytes(np.zeros(100 * 1801), 100), {}, 422, "lasts 1801 s; wanted at most 300 s"),
    "no such model": (SOUND, {"model": "x"}, 404, "no model 'x'; have ravdess-mfcc-lda"),
    "no number": (SOUND, {"window": "x"}, 400, "window: Input should be a valid number"),
    "no hop": (SOUND, {"hop": "0"}, 400, "wanted 0.01 <= hop <= window"),
    "no end": (SOUND, {"window": "nan"}, 400, "wanted 0.01 <= hop <= window"),
    "no bound": (SOUND, {"abstain_below": "1"}, 400, "wanted a probability between 0 and 1"),
    "windows": (
        wav_bytes(noise(8.0)),
        {"window": "0.03", "hop": "0.01"},
        422,
        "windows; wanted at most 600. Choose a longer hop",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gets_a_sentence_and_the_next_request_an_answer(what: str, client: Any) -> None:
    data, query, status, said = BAD[what]
    answer = client.post("/api/predict", params=query, content=data)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert client.post("/api/predict", content=SOUND).status_code == 200


def test_a_long_recording_is_refused_before_it_is_decoded(
    service: PredictionService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(self: Recording, *_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Recording, "mixdown", decoded)
    with pytest.raises(AudioError, match="lasts 1801 s; wanted at most 300 s"):
        service.predict_recording(service.read(wav_bytes(np.zeros(100 * 1801), 100), "long.wav"))
    monkeypatch.setattr(service_module, "MAX_BYTES", 1000)
    with pytest.raises(AudioError, match=r"a.wav: has 41,644 bytes; wanted at most 1,000"):
        service.read(SOUND, "a.wav")


def test_a_body_that_goes_on_is_cut_off(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from classifiers.serving import bodies

    monkeypatch.setattr(bodies, "MAX_BYTES", 10_000)
    taken = []

    def endless() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield bytes(1000)

    answer = client.post("/api/predict", content=endless())
    assert (answer.status_code, "got more than 10,000 bytes" in answer.json()["error"]) == (413, True)


def test_past_the_bound_a_caller_hears_busy(models: tuple[Model, ...]) -> None:
    """Two are let in; the third is told at once, and let in later."""
    release, began = threading.Event(), threading.Semaphore(0)

    def slow(waves: Any, batch: Any) -> Any:
        began.release()
        release.wait(30)
        return models[0].proba(waves, batch)

    service = PredictionService([replace(models[0], proba=slow)], max_waiting=1)
    with client_of(service) as client, ThreadPoolExecutor(2) as pool:
        let_in = [pool.submit(client.post, "/api/predict", content=SOUND) for _ in range(2)]
        began.acquire(timeout=30)
        while service._slots._value:
            time.sleep(0.01)
        refused = client.post("/api/predict", content=SOUND)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"].startswith("busy: 2 other requests are running or waiting")
        release.set()
        assert [answer.result().status_code for answer in let_in] == [200, 200]
        assert client.post("/api/predict", content=SOUND).status_code == 200


def test_strangers_are_kept_out(service: PredictionService) -> None:
    """By the name that they call this machine, by where they come from, and by the password, on every way in."""
    ways = ("/", "/api/models", "/page/static/page.js", "/page/example", "/docs", "/nothing")
    with client_of(service, auth="ann:secret é") as client:
        known = {"authorization": "basic " + base64.b64encode("ann:secret é".encode()).decode()}
        wrong = {"authorization": "Basic " + base64.b64encode(b"ann:guess").decode()}
        for way in ways:
            for headers in ({}, wrong):
                refused = client.get(way, headers=headers)
                assert (refused.status_code, "www-authenticate" in refused.headers) == (401, True), way
            assert client.get(way, headers={**known, "host": "evil.example"}).status_code == 421
        assert client.get("/", headers=known).status_code == 200
        assert client.post("/page/hear", params={"id": "a", "rate": 16_000}).status_code == 401


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "LOCALHOST", "localhost.:7860", "[::1]:7860", "[::1]"])
def test_this_machine_has_several_names(host: str, client: Any) -> None:
    assert client.get("/api/models", headers={"host": host}).status_code == 200


def test_another_page_may_not_ask(client: Any, service: PredictionService) -> None:
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        for way in ("/api/predict", "/page/end?id=a&rate=16000", "/page/hear?id=a&rate=16000"):
            assert client.post(way, content=SOUND, headers=headers).status_code == 403
    mine = {"origin": HERE, "sec-fetch-site": "same-origin"}
    assert client.post("/api/predict", content=SOUND, headers=mine).status_code == 200


def test_the_page_asks_nobody_else(client: Any) -> None:
    """It may load its own files only, and no script or style is written into it."""
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert not any(word in policy for word in ("http", "unsafe", "*", "data:"))
    for tag, attributes in Tags(answer.text).found:
        assert tag != "style"
        assert tag != "script" or "src" in attributes
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            if path := attributes.get(name):
                assert path.startswith("/docs" if tag == "a" else "/page/static/")
                assert client.get(path).status_code == 200


def test_other_paths_are_closed(client: Any) -> None:
    for way in ("/nothing", "/config", "/page.html", "/page/static/../server.py", "/page/static/%2e%2e/server.py"):
        assert client.get(way).status_code in (403, 404), way
    assert client.post("/", content=b"x").status_code == 405


def test_nothing_is_kept_unless_it_was_asked_for(models: tuple[Model, ...], tmp_path: Path) -> None:
    said: list[str] = []
    kept = PredictionService(models[:1], keep=tmp_path / "kept", log=said.append)
    kept.predict_recording(kept.read(SOUND, "a.wav"))
    sound, answer = sorted((tmp_path / "kept").iterdir(), key=lambda path: path.suffix, reverse=True)
    assert sound.read_bytes() == SOUND
    assert json.loads(answer.read_text())[0]["model"] == models[0].name
    assert (sound.suffix, answer.suffix, sound.stem) == (".wav", ".json", answer.stem)
    with client_of(kept) as client:
        assert f"kept in {tmp_path / 'kept'}" in client.get("/").text
        LiveSessions(kept).push("a", 16_000, [], None, noise(4.0).astype(np.float32))
    assert len(list((tmp_path / "kept").iterdir())) == 2
    with client_of(PredictionService(models[:1])) as client:
        assert "Nothing that you say or upload is kept" in client.get("/").text
    shutil.rmtree(tmp_path / "kept")
    (tmp_path / "kept").write_text("in the way")
    assert kept.predict_recording(kept.read(SOUND, "a.wav")).results[0].whole.label
    assert said[0].startswith("note: a recording was predicted, but could not be kept")
    with pytest.raises(SerError, match=r"kept cannot be written: .* Choose another folder with --keep"):
        PredictionService(models[:1], keep=tmp_path / "kept")


def test_the_examples_are_predicted(client: Any, models: tuple[Model, ...]) -> None:
    for name in EXAMPLES:
        sound = client.get("/page/example", params={"name": name})
        assert sound.headers["content-type"] == "audio/wav"
        predictions = client.post("/api/predict", params={"name": name}, content=sound.content).json()["predictions"]
        assert [one["model"] for one in predictions] == [model.name for model in models]
        assert all((one["label"] is None) == (name == "Silence") for one in predictions)
    assert client.get("/page/example", params={"name": "x"}).status_code == 404
    refused = client.post("/api/predict", params={"name": "<b>.wav"}, content=PLAIN)
    assert (refused.status_code, refused.json()["error"].startswith("<b>.wav: is text that begins with")) == (422, True)


def test_who_asks_gets_the_shares_of_layers_and_frames(models: tuple[Model, ...]) -> None:
    weighing = replace(models[0], attribution=lambda wave, batch: Attribution((0.25, 0.75), (0.1, 0.9)))
    with client_of(PredictionService([weighing, models[1]])) as client:
        weighed, plain = client.post("/api/predict?attribution=true", content=SOUND).json()["predictions"]
        assert (weighed["layers"], weighed["frames"]) == ([0.25, 0.75], [0.1, 0.9])
        assert "layers" not in plain
        assert "frames" not in client.post("/api/predict", content=SOUND).json()["predictions"][0]


def test_a_visitor_is_heard_in_order_and_forgotten(service: PredictionService, models: tuple[Model, ...]) -> None:
    sessions, sound = LiveSessions(service), noise(4.2, 48_000).astype(np.float32)
    said = [sessions.push("a", 48_000, [], None, piece) for piece in np.array_split(sound, 9)]
    assert [len(part) for part in said] == [0] * 6 + [2, 2, 2]
    assert [(name, prediction.begin) for name, prediction in said[6]] == [(model.name, 0.0) for model in models]
    assert sessions.end("a", None)[-1][1].end == pytest.approx(4.2)
    assert sessions.end("a", None) == []
    assert sessions._sessions == {}
    for number in range(64):
        sessions.push(str(number), 16_000, [], None, sound[:10])
    with pytest.raises(Busy, match="busy: 64 live sessions are open"):
        sessions.push("one more", 16_000, [], None, sound[:10])
    sessions._sessions["0"].last_used -= 61
    with sessions._sessions["0"].lock, pytest.raises(Busy):  # its sound waits for the encoder
        sessions.push("one more", 16_000, [], None, sound[:10])
    assert sessions.push("one more", 16_000, [], None, sound[:10]) == []
    again = LiveSessions(service)
    for rate, chosen in ((16_000, []), (16_000, [models[0].name]), (8000, [])):  # each begins anew
        assert again.push("a", rate, chosen, None, sound[: 2 * rate]) == []
    with pytest.raises(ConfigError, match="wanted a probability"):
        again.push("a", 8000, [], 99.0, sound)
    with pytest.raises(UnknownName):
        LiveSessions(service).push("a", 16_000, ["x"], None, sound[:10])


def test_who_hears_busy_may_send_the_same_again(models: tuple[Model, ...]) -> None:
    """Nothing of it was heard, then."""
    service, second = PredictionService(models[:1], max_waiting=0), (noise(1.0) * 32_767).astype("<i2").tobytes()
    with client_of(service) as client:
        asked = {"id": "a", "rate": 16_000}
        client.post("/page/hear", params=asked, content=second)
        with service.reserve_slot():
            assert client.post("/page/hear", params=asked, content=second).status_code == 503
        for _ in range(2):
            client.post("/page/hear", params=asked, content=second)
        assert client.app.state.live_sessions._sessions["a"].stream.window_stream.length == 3 * 16_000
        assert client.post("/page/hear", params=asked, content=31 * second).status_code == 413
        last = client.post("/page/end", params=asked, content=2 * second).json()["predictions"][-1]
        assert (last["model"], last["end"]) == (models[0].name, 5.0)


def test_a_model_that_is_named_twice_answers_once(service: PredictionService, models: tuple[Model, ...]) -> None:
    assert len(service.predict_recording(service.read(SOUND, "a"), [models[0].name] * 200).results) == 1


def test_two_models_of_one_name_are_refused(models: tuple[Model, ...]) -> None:
    with pytest.raises(ModelError, match="two models have the same name"):
        PredictionService([models[0], models[0]])


def test_without_a_model_the_latest_is_taken_or_one_is_fitted(tmp_path: Path, models: tuple[Model, ...]) -> None:
    said: list[str] = []
    place = Artifacts(tmp_path / "a")
    (fitted,), banner = models_for([], place, "cpu", said.append)
    assert (fitted.card["dataset"], banner) == ("sample", SYNTHETIC)
    assert "fitting one on the quickstart's synthetic sample" in said[0]
    (again,), _ = models_for([], place, "cpu", said.append)
    assert again.folder == fitted.folder
    shutil.copytree(models[0].folder, place.models / "old")
    shutil.copytree(models[1].folder, place.models / "new")
    os.utime(place.models / "old" / "model.json", (1, 1))
    assert latest_model(place) == place.models / "new"
    (latest,), banner = models_for([], place, "cpu", said.append)
    assert (latest.name, banner) == ("new", "")


@pytest.mark.long
def test_the_command_says_what_is_wrong(models: tuple[Model, ...], ser: Ser, tmp_path: Path) -> None:
    """Strangers without a password, a port in use, folders that are no models or newer ones."""
    model = models[0].folder
    newer = Path(shutil.copytree(model, tmp_path / "newer"))
    card = json.loads((newer / "model.json").read_text())
    (newer / "model.json").write_text(json.dumps({**card, "format_version": 99}))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, said in {
            (
                model,
                "--host",
                "0.0.0.0",
            ): "--host 0.0.0.0 admits other machines; wanted --auth USER:PASSWORD. Add it, or omit --host",
            (model, "--auth", "ann"): "--auth has no password; wanted USER:PASSWORD",
            (
                model,
                "--port",
                port,
            ): f"cannot listen on 127.0.0.1:{port}: Address already in use. Choose another",
            (tmp_path,): "no model found (model.json is missing)",
            (newer,): "got the model format 99",
        }.items():
            done = ser("demo", *arguments)
            assert (done.returncode, said in done.stderr) == (1, True), done.stderr


def test_examples_are_sounds_and_none_is_a_recording() -> None:
    for name, make in EXAMPLES.items():
        wave = make()
        assert 1 < len(wave) / 16_000 < 6, name
        assert np.abs(wave).max() < 1
