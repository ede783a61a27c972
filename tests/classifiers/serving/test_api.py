"""The API: one file or several, long recordings block by block, its description, what it counts."""

from __future__ import annotations

import gzip
import io
import json
import re
import time
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.browser import Tags
from helpers.sounds import noise
from helpers.tolerance import close_to

from classifiers import Predictor, Windows
from classifiers.inference.model import Model
from classifiers.serving import bodies, timeline
from classifiers.serving import service as service_module
from embedcache import AudioError, EncoderError, Recording
from embedcache.synthetic import wav_bytes

SOUND = wav_bytes(noise(1.3))
LONG = noise(25.0).astype(np.float32)


def flac_of(wave: Any, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="FLAC")
    return file.getvalue()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_bad_file_of_a_form_does_not_fail_the_others(client: Any, served_models: tuple[Model, ...]) -> None:
    sent = {"a.wav": SOUND, "b.txt": b"this is no audio" * 50, "../c.wav": flac_of(noise(0.9))}
    answer = client.post("/api/predict", files=[("file", item) for item in sent.items()])
    results = answer.json()["results"]
    assert (answer.status_code, answer.json()["failed"]) == (200, 1)
    assert [result["name"] for result in results] == list(sent)
    assert "is text that begins with" in results[1]["error"]
    alone = client.post("/api/predict", params={"name": "a.wav"}, content=SOUND).json()["predictions"]
    assert [close_to(p["probabilities"]) for p in alone] == [p["probabilities"] for p in results[0]["predictions"]]
    assert [p["model"] for p in results[2]["predictions"]] == [model.name for model in served_models]


FORMS = {
    "no boundary": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "cannot be read"),
    "broken": (
        {"content": b"--b\r\nnonsense", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        400,
        "the form",
    ),
    "too many files": ({"files": [("file", (f"{n}.wav", SOUND)) for n in range(65)]}, 400, "at most 64"),
    "no option": ({"files": {"file": SOUND}, "params": {"abstain_below": "7"}}, 400, "wanted a probability"),
    "no model": ({"files": {"file": SOUND}, "params": {"model": "x"}}, 404, "no model 'x'"),
    "an option inside": ({"files": {"file": SOUND}, "data": {"model": "x"}}, 400, "the form has the field 'model'"),
    "an unknown option": ({"files": {"file": SOUND}, "params": {"abstain-below": "0.5"}}, 400, "'abstain-below'"),
    "compressed": ({"content": gzip.compress(SOUND), "headers": {"content-encoding": "gzip"}}, 415, "is compressed"),
}


@pytest.mark.parametrize("what", FORMS)
def test_a_form_that_cannot_be_read_gets_a_sentence(what: str, client: Any) -> None:
    request, status, said = FORMS[what]
    answer = client.post("/api/predict", **request)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert client.post("/api/predict", content=SOUND).status_code == 200


def test_a_form_without_a_file_is_refused(client: Any) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n'
    answer = client.post("/api/predict", content=form, headers={"content-type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, "the form has no file" in answer.json()["error"]) == (400, True)


def form_of(names: dict[bytes, bytes]) -> bytes:
    """A form of files, by name."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n'
    return b"".join(head % item for item in names.items()) + b"--b--\r\n"


@pytest.mark.parametrize("cut", [2000, 10])
def test_a_form_that_is_cut_off_loses_no_file_quietly(cut: int, client: Any) -> None:
    form = form_of({b"a.wav": SOUND, b"b.wav": SOUND})[:-cut]
    answer = client.post("/api/predict", content=form, headers={"content-type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, "the form is cut off" in answer.json()["error"]) == (400, True)


def test_every_name_of_a_file_gets_an_answer(client: Any) -> None:
    """Also one that UTF-8 cannot encode, control characters, and the same name twice."""
    for kind, name, returned in (
        ("multipart/form-data; boundary=b; charset=utf-7", b"+2AA-.wav", "?.wav"),
        ("multipart/form-data; boundary=b", b"\xff.wav", "ÿ.wav"),
        ("multipart/form-data; boundary=b", b"a\x1b\x00.wav", "a\x1b\x00.wav"),
    ):
        answer = client.post("/api/predict", content=form_of({name: SOUND}), headers={"content-type": kind})
        assert [result["name"] for result in answer.json()["results"]] == [returned]
        assert "predictions" in answer.json()["results"][0]
    twice = client.post("/api/predict", files=[("file", ("a.wav", SOUND)), ("file", ("a.wav", b"no sound"))]).json()
    assert [(result["name"], "error" in result) for result in twice["results"]] == [("a.wav", False), ("a.wav", True)]


def test_a_file_that_an_encoder_cannot_read_does_not_fail_the_others(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = client.app.state.service
    read = service.read

    def fail(data: bytes, name: str) -> Recording:
        if name == "a.wav":
            raise EncoderError("a vector is not finite.")
        return read(data, name)

    monkeypatch.setattr(service, "read", fail)
    answer = client.post("/api/predict", files=[("file", (name, SOUND)) for name in ("a.wav", "b.wav")]).json()
    assert [result.get("error") for result in answer["results"]] == ["a vector is not finite.", None]


def test_an_error_of_the_server_is_none_of_the_client(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ValueError of a network is no wrong option; and the files beside it end before their slot is free."""
    ended = []

    def fail(data: bytes, name: str) -> Recording:
        if name == "a.wav":
            raise ValueError("shapes do not fit")
        time.sleep(0.2)
        ended.append(name)
        raise AudioError("of a test")

    monkeypatch.setattr(client.app.state.service, "read", fail)
    assert client.post("/api/predict", params={"name": "a.wav"}, content=SOUND).status_code == 500
    answer = client.post("/api/predict", files=[("file", (name, SOUND)) for name in ("a.wav", "b.wav")])
    assert (answer.status_code, "shapes" in answer.text, ended) == (500, False, ["b.wav"])


def test_unknown_options_are_refused_on_every_route(client: Any) -> None:
    for method, path in (("GET", "/api/models"), *(("POST", f"/api/{way}") for way in ("predict", "timeline"))):
        answer = client.request(method, path, params={"windw": "3"})
        assert (answer.status_code, "got the parameter 'windw'" in answer.json()["error"]) == (400, True)


def test_live_sound_of_any_rate_takes_bounded_memory(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of a low rate holds minutes: its windows are not all in memory at once."""
    held: list[int] = []
    service = client.app.state.service

    def predict_clips(models: Any, clips: Any, *_: Any) -> Any:
        held.append(sum(base.nbytes for base in {id(clip.wave.base): clip.wave.base for clip in clips}.values()))
        return [[] for _ in models]

    monkeypatch.setattr(service, "predict_clips", predict_clips)
    stream = service.open_stream(400, windows=Windows(60.0, 0.1))
    stream.push(np.zeros(120 * 400, np.float32), None)
    assert len(held) > 5
    assert max(held) < 60e6


def test_files_and_bodies_have_one_bound(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BYTES", 10_000)
    for request in ({"content": SOUND}, {"files": {"file": SOUND}}):
        answer = client.post("/api/predict", **request)
        assert (answer.status_code, "got more than 10,000 bytes" in answer.json()["error"]) == (413, True)


def test_all_requests_together_hold_a_bounded_number_of_bytes(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "MAX_HELD", 30_000)
    answer = client.post("/api/predict", content=SOUND)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert client.app.state.service.held == 0
    assert client.app.state.service.open_requests == 0


def test_what_decodes_to_more_than_it_seems_is_refused(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FLAC file of silence is small; its samples are not."""
    bomb = flac_of(np.zeros((3_000_000, 8), np.float32), 48_000)
    assert len(bomb) < 500_000
    monkeypatch.setattr(service_module, "MAX_SAMPLES", 20_000_000)
    answer = client.post("/api/predict", content=bomb)
    assert (answer.status_code, "has 8 channels of 3,000,000 samples" in answer.json()["error"]) == (422, True)


@pytest.mark.parametrize("kind", ["FLAC", "OGG"])
def test_a_long_recording_gets_the_predictions_of_its_windows(
    kind: str, client: Any, served_models: tuple[Model, ...]
) -> None:
    file = io.BytesIO()
    soundfile.write(file, LONG, 16_000, format=kind)
    data = file.getvalue()
    answer = client.post("/api/timeline", params={"window": 2, "hop": 1, "model": served_models[0].name}, content=data)
    events = lines(answer.text)
    predictor = Predictor.of(served_models[:1])
    wanted = predictor.predict_clips(predictor.clips(Recording.of(data, "sound"), Windows(2, 1)))
    got = [event for event in events if event["event"] == "prediction"]
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert len(got) == len(wanted) == 24
    for one, p in zip(got, wanted, strict=True):
        assert (one["begin"], one["end"], one["model"]) == (round(p.begin, 3), round(p.end, 3), served_models[0].name)
        assert one["probabilities"] == pytest.approx(p.probabilities, abs=1e-4)
    assert events[0] == {
        "event": "start",
        "models": [served_models[0].name],
        "window": 2.0,
        "hop": 1.0,
        "seconds": pytest.approx(25.0),
    }
    shares = [event["share"] for event in events if event["event"] == "progress"]
    assert shares == sorted(shares)
    assert len(shares) > 2
    assert events[-1] == {"event": "end", "seconds": 25.0, "windows": 24}


def test_events_are_server_sent_for_those_who_ask(client: Any) -> None:
    answer = client.post("/api/timeline", content=flac_of(LONG), headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [part.split("\n") for part in answer.text.strip().split("\n\n")]
    assert [event[0] for event in (events[0], events[-1])] == ["event: start", "event: end"]
    assert all(json.loads(event[1].removeprefix("data: ")) for event in events)


TIMELINES = {
    "text": (b"this is no audio" * 50, {}, 422, "is text that begins with"),
    "nothing": (b"", {}, 422, "is empty"),
    "cut": (wav_bytes(LONG)[:400_000], {}, 422, "is truncated"),
    "long window": (SOUND, {"window": "61"}, 400, "wanted a window of at most 60 s"),
    "short hop": (SOUND, {"hop": "0.05"}, 400, "a hop of at least 0.1 s"),
    "no window": (SOUND, {"window": "nan"}, 400, "wanted 0.01 <= hop"),
    "no model": (SOUND, {"model": "x"}, 404, "no model 'x'"),
    "no bound": (SOUND, {"abstain_below": "2"}, 400, "wanted a probability"),
}


@pytest.mark.parametrize("what", TIMELINES)
def test_a_bad_long_recording_gets_a_status(what: str, client: Any) -> None:
    data, query, status, said = TIMELINES[what]
    answer = client.post("/api/timeline", params=query, content=data)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert client.app.state.service.open_requests == 0


def test_a_fault_in_the_middle_is_the_last_event(client: Any) -> None:
    short = lines(client.post("/api/timeline", content=wav_bytes(noise(0.01))).text)
    assert "160 samples" in short[-1]["error"]
    wave = np.stack([LONG, LONG], 1)
    wave[200_000:] *= [1, -1]  # the channels cancel each other from here on
    events = lines(client.post("/api/timeline", content=flac_of(wave)).text)
    assert events[0]["event"] == "start"
    assert (events[-1]["event"], "cancel" in events[-1]["error"]) == ("error", True)


def test_the_last_block_may_have_one_sample(client: Any) -> None:
    wave = np.stack([LONG, LONG], 1)[:160_001]
    events = lines(client.post("/api/timeline", content=wav_bytes(wave)).text)
    assert (events[-1]["event"], events[-1].get("seconds")) == ("end", 10.0)


def test_few_long_recordings_run_at_once(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [timeline._open.acquire(blocking=False) for _ in range(timeline.MAX_TIMELINES)]
    try:
        answer = client.post("/api/timeline", content=SOUND)
        assert (answer.status_code, "long recordings are being predicted" in answer.json()["error"]) == (503, True)
        assert int(answer.headers["retry-after"]) >= 30
    finally:
        for _ in held:
            timeline._open.release()
    assert client.post("/api/timeline", content=SOUND).status_code == 200


def test_the_api_is_described(client: Any) -> None:
    api = client.get("/openapi.json").json()
    assert api["openapi"].startswith("3.")
    assert set(api["paths"]) == {
        *("/api/models", "/api/predict", "/api/listen", "/api/timeline"),
        *("/health", "/ready", "/metrics"),
    }
    text = json.dumps(api)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in api["components"]["schemas"]
    said = client.post("/api/predict", content=SOUND).json()["predictions"][0]
    assert set(said) == set(api["components"]["schemas"]["Prediction"]["properties"])
    for operation in (one for path in api["paths"].values() for one in path.values()):
        assert operation["description"]


def test_the_page_of_the_api_loads_nothing(client: Any) -> None:
    answer = client.get("/docs")
    page = Tags(answer.text)
    assert page.crossed == []
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert [attributes for tag, attributes in page.found if tag in ("script", "link", "img", "iframe", "style")] == [
        {"rel": "stylesheet", "href": "docs.css"}
    ]
    assert client.get("/docs.css").headers["content-type"].startswith("text/css")
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in page.text
    assert "http://127.0.0.1:8000/api/predict" in page.text
    assert "`" not in page.text


def test_health_and_readiness(client: Any) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert [client.head(path).status_code for path in ("/health", "/ready")] == [200, 200]
    assert client.get("/ready").json() == {"status": "ready"}
    service = client.app.state.service
    service.open_requests = service.max_waiting + 1
    busy = client.get("/ready")
    assert (busy.status_code, busy.json()) == (503, {"status": "busy"})
    assert client.get("/health").status_code == 200


def test_packs_and_sound_are_counted(client: Any) -> None:
    for _ in range(2):
        client.post("/api/predict", content=SOUND)
    text = client.get("/metrics").text
    assert "ser_pack_clips_count 2.0" in text
    assert float(re.search(r"^ser_audio_seconds_total (\S+)", text, re.MULTILINE)[1]) == pytest.approx(2.6)
    assert "ser_queue_length 0.0" in text
    assert 'ser_model_info{model="ravdess-mfcc-logreg"' in text
