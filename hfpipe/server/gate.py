"""Let in what may come in: by the Host, the Origin, the key, the size and the time of a request."""

import asyncio
import contextlib
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from . import page_api
from .errors import ApiError
from .settings import Settings

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
WITHOUT_KEY = ("/health", "/health/live", "/health/ready")
KEY_PROTOCOL = "openai-insecure-api-key."  # as OpenAI's own clients in browsers have it
OVERHEAD = 1 << 18  # bytes of a body beside its recording
LINGER_SECONDS = 30.0  # for which what a refused client still sends is read and dropped
PAUSE_SECONDS = 2.0  # without a byte, after which it is taken to have ended
MAX_BODIES = 8  # of the largest size, that memory may hold at once


class Guard:
    """Refuse requests that a web page elsewhere makes a browser send, and add security headers to all responses.

    A page whose name resolves to this machine (DNS rebinding) gives that name as Host; any other page gives its own
    address as Origin. Browsers send WebSockets the same way, and starlette's CORS middleware doesn't look at them.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app, self.names, self.origins = app, settings.host_names, frozenset(settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
        except ApiError as error:
            return await refuse(error, scope, receive, send_guarded)
        await self.app(scope, receive, send_guarded)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _host_name(hosts[0]) not in self.names:
            raise ApiError(
                403,
                f"the Host is {', '.join(hosts)[:200]!r}; valid is {', '.join(sorted(self.names))}. Start the server "
                "with --allow-origin and the address under which it is reached.",
                "host_not_allowed",
            )
        origin = headers.get("origin")
        scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
        if origin is None:
            # An image or a script of another page comes without an Origin.
            is_foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
            is_allowed = not is_foreign or headers.get("sec-fetch-mode") == "navigate"
        else:
            is_allowed = origin in self.origins or origin.lower() == f"{scheme}://{hosts[0].lower()}"
        if not is_allowed:
            raise ApiError(
                403,
                f"the Origin is {(origin or 'another page')[:200]!r}; start the server with --allow-origin to let "
                "that page call it.",
                "origin_not_allowed",
            )


class KeyCheck:
    """Refuse requests without the API key, where there is one."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app = app
        self.key = None if settings.api_key is None else settings.api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.key is None or scope["type"] not in ("http", "websocket") or _is_public(scope):
            return await self.app(scope, receive, send)
        given = _key_of(scope)
        if given is not None and hmac.compare_digest(given.encode("latin-1"), self.key):
            return await self.app(scope, receive, send)
        error = ApiError(
            401, "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'.", "invalid_api_key"
        )
        await refuse(error, scope, receive, send)


class Bodies:
    """Read a request's body whole, within limits, before it is handled; cancel the request when its client leaves.

    All bodies together are limited to the size of eight of the largest.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app, self.seconds = app, settings.body_seconds
        self.limit = settings.max_bytes + OVERHEAD
        self.json_limit = settings.max_bytes * 4 // 3 + OVERHEAD  # a recording in base64
        self.held = 0  # bytes, of all bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(self.seconds):
                    is_whole = await self._read(scope, receive, body)
            except TimeoutError:
                message = f"the body didn't arrive within {self.seconds:.0f} s; send it faster, or less of it."
                return await refuse(ApiError(408, message, "too_slow"), scope, receive, send)
            except ApiError as error:
                return await refuse(error, scope, receive, send)
            if is_whole:
                await self._call(body, scope, receive, send)
        finally:
            self.held -= len(body)

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> bool:
        """Read the body; return whether the client stayed to its end."""
        headers = Headers(scope=scope)
        limit = self.limit if headers.get("content-type", "").startswith("multipart/") else self.json_limit
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            chunk = message.get("body", b"")
            body += chunk
            self.held += len(chunk)
            if len(body) > limit:
                raise _too_large(limit)
            if self.held > MAX_BODIES * self.json_limit:
                raise ApiError(429, "too many large requests at once; try again.", "too_busy", retry_after=2)
            if not message.get("more_body"):
                return True

    async def _call(self, body: bytearray, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.Event()
        is_read = False

        async def receive_body() -> Message:
            nonlocal is_read
            if not is_read:
                is_read = True
                return {"type": "http.request", "body": bytes(body), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        answer = asyncio.ensure_future(self.app(scope, receive_body, send))
        watching = asyncio.ensure_future(watch())
        try:
            await asyncio.wait((answer, watching), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                answer.cancel()
            await asyncio.wait((answer,))
            if not answer.cancelled():
                answer.result()
        finally:
            watching.cancel()
            answer.cancel()  # where this task is cancelled itself


async def refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an error, drop what the client still sends, and close the connection.

    A connection that is closed amid a body is reset, and the client loses the answer.
    """
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        return await WebSocketClose(1008)(scope, receive, send)
    response = error.response()
    response.headers["Connection"] = "close"
    if scope["type"] == "websocket":
        return await response(scope, receive, send)

    async def send_without_end(message: Message) -> None:
        await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

    await response(scope, receive, send_without_end)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await asyncio.wait_for(receive(), PAUSE_SECONDS)).get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b""})


def _is_public(scope: Scope) -> bool:
    """Return whether a request is answered without the key: the page asks for it, once it is there."""
    return scope["path"] in WITHOUT_KEY or (scope.get("method") == "GET" and scope["path"] in page_api.PATHS)


def _key_of(scope: Scope) -> str | None:
    """Return the key that a request gives; a browser can give a WebSocket none but among its subprotocols."""
    headers = Headers(scope=scope)
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    if scope["type"] == "websocket":
        for protocol in headers.get("sec-websocket-protocol", "").split(","):
            if protocol.strip().startswith(KEY_PROTOCOL):
                return protocol.strip().removeprefix(KEY_PROTOCOL)
    return None


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes; send less.", "too_large")


def _host_name(host: str) -> str:
    """Return the host of a Host header, in lower case; "" if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or "" if not set(host) & set("@/?#\\ ") else ""
    except ValueError:
        return ""
