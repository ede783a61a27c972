"""Requests made from the API's own description: whatever is sent, the answer is JSON, and never status 500."""

from __future__ import annotations

import json
from typing import Any

from helpers.sounds import noise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedcache.synthetic import wav_bytes

SOUND = wav_bytes(noise(0.5))
VALUES = st.one_of(
    st.sampled_from(["", "0", "1", "-1", "0.5", "nan", "inf", "1e999", "true", "é", "\x00", "16000", "99999999999"]),
    st.text(max_size=20),
)
BODIES = st.one_of(
    st.just(SOUND),
    st.binary(max_size=200),
    st.integers(0, len(SOUND)).map(lambda n: SOUND[:n]),
    st.binary(max_size=50).map(lambda data: SOUND[:60] + data),
)
KINDS = st.sampled_from(["", "application/octet-stream", "multipart/form-data; boundary=b", "multipart/form-data", "é"])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_no_request_gets_an_unexpected_error(client: Any, data: st.DataObject) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    path = data.draw(st.sampled_from(sorted(paths)))
    (method, operation), *_ = paths[path].items()
    names = [parameter["name"] for parameter in operation.get("parameters", [])]
    query = data.draw(st.dictionaries(st.sampled_from(names), VALUES)) if names else {}
    kind = data.draw(KINDS).encode()
    body = data.draw(BODIES) if method == "post" else None
    answer = client.request(method, path, params=query, content=body, headers={b"content-type": kind})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert set(answer.json()) == {"error"}
        assert str(answer.status_code) in operation["responses"]
    assert client.app.state.service.open_requests == 0
    for line in answer.text.splitlines() if "ndjson" in answer.headers["content-type"] else []:
        json.loads(line)
