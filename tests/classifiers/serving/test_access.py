"""Who may use a server: credentials, host names, and what a token is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from classifiers.serving.access import LOCAL, Access, AccessCheck, Credentials, hosts_for, read_token
from embedcache import SerError

TOKEN = "0123456789abcdef"


def headers(**values: str) -> dict[bytes, str]:
    return {b"host": "localhost", **{name.replace("_", "-").encode(): value for name, value in values.items()}}


@pytest.mark.parametrize(
    ("sent", "admitted"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer   {TOKEN} ", True),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        (f"Bearer {TOKEN}x", False),
        ("Bearer é", False),
        ("", False),
    ],
)
def test_a_token_admits(sent: str, admitted: bool) -> None:
    access = Access(Credentials.of_token(TOKEN), (), prefixes=("/api/",), public=("/health",))
    refusal = access.refusal("POST", "/api/predict", headers(authorization=sent))
    assert (refusal is None) == admitted
    assert admitted or (refusal[0], TOKEN in refusal[1]) == (401, False)
    assert access.refusal("GET", "/health", headers()) is None
    assert access.refusal("POST", "/health", headers())[0] == 401


def test_refusals_have_the_policy_of_pages() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"evil.example")]}
    asyncio.run(AccessCheck(None, Access())(scope, None, send))
    assert sent[0]["status"] == 421
    assert {b"content-security-policy", b"x-content-type-options"} <= dict(sent[0]["headers"]).keys()


def test_a_token_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read_token("0.0.0.0", f"@{tmp_path / 'token'}") == TOKEN
    assert read_token("127.0.0.1", "") == ""
    assert (hosts_for("127.0.0.1"), hosts_for("0.0.0.0")) == (LOCAL, ())


@pytest.mark.parametrize("token", ["short", "with a blank in the token", "ümlaut" * 4, "line\nline" * 4])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(SerError, match="wanted at least 16, all of them ASCII without blanks"):
        read_token("127.0.0.1", token)


def test_other_machines_need_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.0.1"):
        with pytest.raises(SerError, match="wanted a token"):
            read_token(host, "")
