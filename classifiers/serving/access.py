"""Who may use a server: the checks that refuse requests from elsewhere, without permission, or for other paths."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedcache import SerError

LOCAL = ("127.0.0.1", "localhost", "::1")
# Of the page of `ser serve`, which has a style and nothing else that a browser loads.
POLICY = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; form-action 'none'"
HEADERS = ((b"referrer-policy", b"no-referrer"), (b"x-content-type-options", b"nosniff"))
SHORTEST_TOKEN = 16  # characters
MAX_TOKEN_FILE = 4096  # bytes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True)
class Credentials:
    """What the header `Authorization` of a request must have."""

    scheme: str  # "basic" or "bearer"
    expected: str  # the text after the scheme
    wanted: str  # what to send, for the message of a refusal

    @classmethod
    def of_password(cls, user_and_password: str) -> Credentials:
        """Return the credentials of `USER:PASSWORD`, which browsers ask for."""
        encoded = base64.b64encode(user_and_password.encode()).decode()
        return cls("basic", encoded, "the user and password that `ser demo --auth` was started with")

    @classmethod
    def of_token(cls, token: str) -> Credentials:
        """Return the credentials of a token, which programs send as `Authorization: Bearer TOKEN`."""
        return cls("bearer", token, "the header `Authorization: Bearer TOKEN` with the token of the server")

    def admit(self, header: str) -> bool:
        """Whether a header has the credentials. The time that the comparison takes tells nothing about them."""
        scheme, _, sent = header.partition(" ")
        right = secrets.compare_digest(sent.strip().encode(), self.expected.encode())
        return scheme.lower() == self.scheme and right

    @property
    def challenge(self) -> bytes:
        """The value of the header `WWW-Authenticate`."""
        return b'Basic realm="ser", charset="UTF-8"' if self.scheme == "basic" else b'Bearer realm="ser"'


@dataclass(frozen=True)
class Access:
    """Which requests a server accepts."""

    credentials: Credentials | None = None  # None: no password is required
    hosts: tuple[str, ...] = LOCAL  # host names that a request may name; () for any
    paths: tuple[str, ...] = ()  # paths that are open
    prefixes: tuple[str, ...] = ()  # beginnings of paths that are open
    public: tuple[str, ...] = ()  # paths that need neither credentials nor one of the host names
    policy: str = POLICY  # Content-Security-Policy: what a browser that shows a page of the server may load

    def refusal(self, method: str, path: str, headers: dict[bytes, str]) -> tuple[int, str] | None:
        """Return status and message of a request that is refused, or None."""
        if path in self.public and method in ("GET", "HEAD"):
            return None
        host = headers.get(b"host", "")
        if self.hosts and _host_name(host) not in self.hosts:
            return 421, f"got a request for the host '{host}'; wanted {' or '.join(self.hosts)}."
        if self.credentials and not self.credentials.admit(headers.get(b"authorization", "")):
            return 401, f"wanted {self.credentials.wanted}."
        origin, site = headers.get(b"origin", ""), headers.get(b"sec-fetch-site", "")
        if method != "GET" and (site == "cross-site" or (origin and origin.partition("://")[2] != host)):
            return 403, "requests from other pages are refused."
        if path not in self.paths and not path.startswith(self.prefixes):
            return 404, "there is no page at this address; /docs describes the API."
        return None


class AccessCheck:
    """ASGI middleware that refuses requests that `Access` does not accept.

    A request must name this machine as its host (against DNS rebinding), must not come from another page, and must have
    the credentials if there are any. Responses carry a policy by which the browser sends requests nowhere else.
    """

    def __init__(self, app: Any, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        send = _with_policy(send, self.access.policy)
        if refusal := self.access.refusal(scope["method"], scope["path"], headers):
            await self._refuse(send, *refusal)
            return
        await self.app(scope, receive, send)

    async def _refuse(self, send: Send, status: int, message: str) -> None:
        credentials = self.access.credentials
        challenge = ((b"www-authenticate", credentials.challenge),) if status == 401 and credentials else ()
        await send_error(send, status, message, challenge)


async def send_error(send: Send, status: int, message: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Send a response that is an error, before the application has seen the request."""
    body = json.dumps({"error": message}).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


def _host_name(host: str) -> str:
    """Return a Host header without port, brackets and last dot, in lower case: "[::1]:7860" becomes "::1"."""
    inside, bracket, _ = host.partition("]")
    name = inside[1:] if bracket and inside.startswith("[") else host.rpartition(":")[0] or host
    return name.lower().rstrip(".")


def _with_policy(send: Send, policy: str) -> Send:
    """Return a `send` that adds the headers of a policy."""
    added = ((b"content-security-policy", policy.encode()), *HEADERS)

    async def send_with_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *added]
        await send(message)

    return send_with_policy


def check_password(host: str, auth: str) -> None:
    """Raise SerError if other machines could connect without a password, or if `auth` lacks a user or a password."""
    if host not in LOCAL and not auth:
        raise SerError(f"--host {host} admits other machines; wanted --auth USER:PASSWORD. Add it, or omit --host.")
    if auth and not all(auth.partition(":")):
        raise SerError("--auth has no password; wanted USER:PASSWORD.")


def read_token(host: str, auth: str) -> str:
    """Return the token of `ser serve`: `auth`, or, if that is `@FILE`, the content of the file; "" for none.

    Raises SerError if other machines could connect without a token, if the file cannot be read, or if the token is
    short or has characters that a header does not take.
    """
    token = _read_token_file(Path(auth[1:])) if auth.startswith("@") else auth
    if host not in LOCAL and not token:
        raise SerError(
            f"--host {host} admits other machines; wanted a token. Set SER_TOKEN, give --auth @FILE, or omit --host."
        )
    if token and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise SerError(
            f"the token has {len(token)} characters; wanted at least {SHORTEST_TOKEN}, all of them ASCII without "
            "blanks. `openssl rand -hex 24` makes one."
        )
    return token


def _read_token_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            token = file.read(MAX_TOKEN_FILE).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SerError(f"--auth @{path}: cannot be read: {reason}. Name a file that holds the token.") from error
    if not token:
        raise SerError(f"--auth @{path}: is empty; wanted a token. `openssl rand -hex 24` makes one.")
    return token


def hosts_for(host: str) -> tuple[str, ...]:
    """Return the host names that requests to a server on this address may name; () for any."""
    return LOCAL if host in LOCAL else ()
