"""Requests that strangers and broken clients may send, for `serve.py`."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

RECORDING = Path(__file__).parent.parent / "examples" / "pregunta.wav"


def make_attacks(port: int, question: bytes) -> Iterator[tuple[bytes, float]]:
    """Yield hostile requests, each with the seconds to wait before the client hangs up."""

    def post(path: str, body: bytes, kind: str = "application/json", length: int | None = None) -> bytes:
        size = len(body) if length is None else length
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Type: {kind}\r\n"
        return f"{head}Content-Length: {size}\r\n\r\n".encode() + body

    def form(data: bytes, name: str = "audio", fields: str = "") -> bytes:
        part = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="../../a.wav"\r\n\r\n'
        return fields.encode() + part.encode() + data + b"\r\n--x--\r\n"

    multipart = "multipart/form-data; boundary=x"
    audio = "/v1/audio/transcriptions"
    cut = RECORDING.read_bytes()[:20_000]  # its header says how long it was
    for data in (b"", b"no soy audio", cut[:44], cut, b"/etc/passwd", b"#EXTM3U\n"):
        yield post("/", form(data), multipart), 30
        yield post(audio, form(data, "file"), multipart), 30
    yield post(audio, form(b"RIFF" + bytes(26 << 20), "file"), multipart), 30
    yield post("/", b"", multipart, length=10**12), 30
    chat, speech = "/v1/chat/completions", "/v1/audio/speech"
    url = {"type": "input_audio", "input_audio": {"data": "http://127.0.0.1:1/a.wav", "format": "wav"}}
    for body in (
        *(
            b"[" * 50_000,
            b'{"messages": ' + b'[{"a":' * 50_000,
            b"{",
            b"null",
            bytes(range(256)),
            b'{"messages": [1]}',
        ),
        json.dumps({"messages": [{"role": "user", "content": [url]}]}).encode(),
        json.dumps({"messages": [{"role": "user", "content": "a" * 200_000}]}).encode(),
        json.dumps({"input": "a" * 5000}).encode(),
    ):
        yield post(chat, body), 30
        yield post(speech, body), 30
    yield post(chat, b"{}", "text/plain"), 30
    yield b"GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n", 30
    yield b"GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", 30
    yield b"GET /v1/models HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", 30
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 30
    yield b"GET /v1/models HTTP/1.1\r\nHost: 127", 15  # never ends: the server hangs up
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    for origin in (b"http://evil.test", b"null"):
        head = b"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: " + origin + b"\r\n"
        yield head + upgrade + b"AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", 30
    yield b"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\n" + upgrade, 0.2  # half open, and left
    yield post("/", form(question), multipart), 0.2  # left midway
    yield post(chat, json.dumps({"messages": [{"role": "user", "content": "hola"}], "stream": True}).encode()), 0.3


def send_raw(port: int, data: bytes, patience: float) -> str:
    """Send bytes; return the status of the answer, or "cut" where there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            answer = connection.recv(4096)
    except (TimeoutError, ConnectionResetError):
        return "cut"
    status = answer.split(b" ")[1:2]
    # A stream that is left midway has begun with 200.
    return "cut" if not status or patience < 1 else status[0].decode()
