"""What strangers, web pages elsewhere and broken clients send: each is refused or cut, and the next one is served."""

import base64
import io
import json
import logging
import socket
import tempfile
import time
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import schemathesis
import soundfile
from hypothesis import HealthCheck, Phase, given, settings
from own_parts import ANSWER, QUESTION, wait_until
from schemathesis import Case
from schemathesis.checks import not_a_server_error

from hfpipe.server import gate, sound
from hfpipe.server.settings import Settings

from .serving import running

pytestmark = pytest.mark.slow

SPOKEN = Path(QUESTION).read_bytes()
FORM = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: multipart/form-data"
KEY = "a-key-of-many-letters-0123456789"
ASKED = [{"role": "user", "content": "hola"}]


def served(server) -> bool:
    """Return whether a good request is answered."""
    given = {"files": {"file": ("q.wav", SPOKEN)}, "data": {"model": "", "language": "es"}, "timeout": 30}
    return httpx.post(f"{server.url}/v1/audio/transcriptions", **given).status_code == 200


def exchange(port: int, data: bytes, seconds: float = 10) -> bytes:
    """Send bytes and return what comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:80", "127.0.0.1.evil.test", "", "127.0.0.1@evil.test", "[::"]
)
def test_a_rebound_name_is_refused(server, host):
    for path in ("/health", "/v1/models", "/"):
        answer = httpx.get(
            f"{server.url}{path}", headers={"Host": host, "Origin": f"http://{host}"} if host else {"Host": ""}
        )
        assert answer.status_code in (400, 403), path
    assert httpx.get(f"http://localhost:{server.port}/health").status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.test", "null", "http://127.0.0.1:1", "http://localhost.evil.test", "https://127.0.0.1"]
)
def test_another_page_is_refused(server, origin):
    given = {"files": {"audio": SPOKEN}, "headers": {"Origin": origin}}
    refused = httpx.post(f"{server.url}/", **given)
    assert refused.status_code == 403 and refused.json()["error"]["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in refused.headers


def test_a_page_of_the_server_itself_is_served_and_images_of_others_are_not(server):
    assert httpx.get(f"{server.url}/v1/models", headers={"Origin": server.url}).status_code == 200
    for site, mode, status in (
        ("cross-site", "no-cors", 403),
        ("same-site", "no-cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
    ):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
        assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == status


def test_an_allowed_page_may_call_and_needs_the_key(voice_qa, tmp_path):
    origin = "https://voz.example.org"
    with running(voice_qa, tmp_path, api_key=KEY, origins=(origin,)) as server:
        url = f"{server.url}/v1/models"
        headers = {"Origin": origin, "Host": "voz.example.org"}
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight = httpx.options(url, headers={**headers, **asked})
        assert preflight.status_code == 200 and preflight.headers["access-control-allow-origin"] == origin
        assert httpx.options(url, headers={"Origin": "https://evil.test", **asked}).status_code == 403
        refused = httpx.get(url, headers=headers)
        assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == origin
        answer = httpx.get(url, headers={**headers, "Authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == origin


def test_the_key_is_asked_of_all_but_health(voice_qa, tmp_path):
    with running(voice_qa, tmp_path, api_key=KEY) as server:
        for path in ("/health", "/health/live", "/health/ready"):
            assert httpx.get(server.url + path).status_code == 200
        for path in ("/v1/models", "/metrics", "/docs", "/openapi.json", "/v1/audio/voices", "/nothing"):
            assert httpx.get(server.url + path).status_code == 401, path
            assert httpx.get(server.url + path, headers={"Authorization": "Bearer ñ".encode()}).status_code == 401
        assert server.client().models.list().data
        with pytest.raises(openai.AuthenticationError):
            server.client(api_key=KEY + "x").models.list()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"host": "0.0.0.0"}, "--api-key.*--allow-origin"),
        ({"host": "192.168.1.5", "api_key": KEY}, "--allow-origin"),
        ({"host": "::", "origins": ("https://a.test",)}, "--api-key"),
        ({"host": "localhost.evil.test"}, "--api-key"),
        ({"host": "127.evil.test"}, "--api-key"),
        ({"origins": ("*",)}, "origin"),
        ({"api_key": " "}, "key is empty"),
        ({"concurrency": 0}, "concurrency is 0"),
    ],
)
def test_unsafe_settings_are_refused(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        Settings(folder=tmp_path, **options)


def test_settings_for_others_with_key_and_origin_are_taken(tmp_path):
    settings = Settings(folder=tmp_path, host="0.0.0.0", api_key=KEY, origins=("https://voz.example.org",))
    assert settings.host_names == {"localhost", "127.0.0.1", "::1", "voz.example.org"}
    assert Settings(folder=tmp_path, host="::1").host_names


def test_responses_have_security_headers(server):
    for answer in (
        httpx.get(f"{server.url}/docs"),
        httpx.get(f"{server.url}/nothing"),
        httpx.get(f"{server.url}/v1/models"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"] and "server" not in answer.headers


def wav(seconds: float, rate: int = 16_000, form: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(round(seconds * rate), np.float32), rate, format=form)
    return buffer.getvalue()


def recording(name: str) -> bytes | str:
    """Return a hostile recording by its name; a text is sent as the form's field."""
    secret = Path(__file__).resolve()
    return {
        "empty": b"",
        "text": b"no soy audio",
        "truncated": SPOKEN[: len(SPOKEN) // 2],
        "header alone": SPOKEN[:44],
        "a path": str(secret),
        "a URL": "http://127.0.0.1:1/a.wav",
        "a data URL": f"data:audio/wav;base64,{base64.b64encode(SPOKEN).decode()}",
        "a file URL": f"file://{secret}",
        "a path in a file": str(secret).encode(),
        "a playlist": f"#EXTM3U\n#EXTINF:1\nfile://{secret}\n".encode(),
        "a concat script": f"ffconcat version 1.0\nfile '{secret}'\n".encode(),
        "a pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "an hour of silence in a FLAC": wav(3600, 8000, "FLAC"),
        "too many bytes": b"RIFF" + bytes(26 << 20),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        *("empty", "text", "truncated", "header alone", "a path", "a URL", "a data URL", "a file URL"),
        *(
            "a path in a file",
            "a playlist",
            "a concat script",
            "a pickle",
            "an hour of silence in a FLAC",
            "too many bytes",
        ),
    ],
)
def test_hostile_recordings(server, name):
    given = recording(name)
    as_field = {"data": {"file": given, "audio": given, "model": ""}}
    as_file = {"files": {"file": ("../../x.wav", given), "audio": ("a", given)}, "data": {"model": ""}}
    for path in ("/v1/audio/transcriptions", "/v1/audio/translations", "/"):
        answer = httpx.post(f"{server.url}{path}", timeout=30, **(as_field if isinstance(given, str) else as_file))
        assert answer.status_code in (400, 413), (path, answer.text)
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    data = given if isinstance(given, str) else base64.b64encode(given).decode()
    part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    answer = httpx.post(
        f"{server.url}/v1/chat/completions", json={"messages": [{"role": "user", "content": [part]}]}, timeout=30
    )
    assert answer.status_code in (400, 413), answer.text
    assert served(server)


def test_a_format_that_only_ffmpeg_reads_is_limited_too(tmp_path):
    settings = Settings(folder=tmp_path, max_seconds=3)
    encoded = (
        sound.encode(np.full(16_000 * 2, 0.1, np.float32), 16_000, "aac") if sound.shutil.which("ffmpeg") else None
    )
    if encoded is None:
        pytest.skip("no FFmpeg here, so no such format is read")
    assert len(sound.decode_recording(encoded, settings).samples) == pytest.approx(32_000, abs=2500)
    long = sound.encode(np.full(16_000 * 60, 0.1, np.float32), 16_000, "aac")
    with pytest.raises(Exception, match="more than 3 s"):
        sound.decode_recording(long, settings)


BODIES = {
    "deep JSON": b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"messages": [{"role": "user", "content": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}]}",
    "no JSON": b"{",
    "an array": b"[]",
    "null": b"null",
    "a number": b'{"messages": 1}',
    "no messages": b'{"messages": []}',
    "numbers": b'{"messages": [1, 2]}',
    "NaN": b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}',
    "a lone surrogate": b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "a role of a list": b'{"messages": [{"role": ["user"], "content": "a"}]}',
    "a content of a number": b'{"messages": [{"role": "user", "content": 1}]}',
    "parts of parts": b'{"messages": [{"role": "user", "content": [[["a"]]]}]}',
    "audio of a list": b'{"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": [1]}]}]}',
    "an id of a list": b'{"messages": [{"role": "assistant", "audio": {"id": []}}, {"role": "user", "content": ""}]}',
    "a huge number": b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 1e400}',
    "too many tokens": b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 99999}',
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("name", BODIES)
def test_hostile_json(server, name):
    for path in ("/v1/chat/completions", "/v1/audio/speech"):
        headers = {"Content-Type": "application/json"}
        answer = httpx.post(server.url + path, content=BODIES[name], headers=headers, timeout=30)
        assert answer.status_code == 400, (path, answer.text[:300])
        assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "messages",
    [
        "{",
        "[" * 100_000,
        "1",
        "null",
        '{"role": "user"}',
        "[1]",
        '[{"role": "user"}]',
        '[{"role": "user", "content": "\\ud800"}]',
        "x" * 2_000_000,
    ],
)
def test_hostile_messages(server, messages):
    answer = httpx.post(f"{server.url}/", files={"audio": SPOKEN}, data={"messages": messages}, timeout=30)
    assert answer.status_code == 400, answer.text[:300]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"DELETE /v1/audio/voices/..%2f..%2fx HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        FORM + b"\r\nContent-Length: 3\r\n\r\nabc",
        FORM + b"; boundary=x\r\nContent-Length: 3\r\n\r\n--x",
    ],
)  # fmt: skip
def test_hostile_bytes(voice_qa, data, server):
    answer = exchange(server.port, data)
    assert not answer or answer.split(b" ")[1].startswith(b"4"), answer[:200]


def test_slow_headers_and_bodies_are_cut(voice_qa, tmp_path):
    with running(voice_qa, tmp_path, header_seconds=0.4, body_seconds=0.4) as server:
        for beginning in (b"", b"POST / HT", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"):
            start = time.monotonic()
            exchange(server.port, beginning)
            assert time.monotonic() - start < 3
        # A byte now and then doesn't help, nor does a first request that is in order.
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=5)) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            start, was_cut = time.monotonic(), False
            while time.monotonic() - start < 3 and not was_cut:
                try:
                    connection.sendall(b"G")
                    time.sleep(0.1)
                except OSError:
                    was_cut = True
            assert was_cut
        slow = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc"
        assert exchange(server.port, slow).startswith(b"HTTP/1.1 408")
        gone = socket.create_connection(("127.0.0.1", server.port))
        gone.sendall(slow)
        gone.close()
        assert served(server)


def test_bodies_beyond_the_limit_are_refused_before_they_are_read(voice_qa, tmp_path):
    with running(voice_qa, tmp_path, max_bytes=400_000) as server:
        answer = httpx.post(
            f"{server.url}/v1/audio/transcriptions", files={"file": bytes(450_000)}, data={"model": ""}
        )
        assert answer.status_code == 413 and "400000" in answer.text

        def endless():
            for _ in range(10_000):
                yield bytes(65536)

        try:
            answer = httpx.post(f"{server.url}/", content=endless(), headers={"Content-Type": "application/json"})
            assert answer.status_code == 413
        except httpx.TransportError:
            pass  # cut off while it still sends
        assert served(server)


@pytest.mark.parametrize("refused_for", ["its page", "its key", "its size"])
def test_who_is_refused_while_sending_gets_the_answer(voice_qa, tmp_path, refused_for):
    length, origin = 30 << 20, b"Origin: http://evil.test\r\n" if refused_for == "its page" else b""
    key = f"Authorization: Bearer {KEY}\r\n".encode() if refused_for == "its size" else b""
    status = {"its page": b"403", "its key": b"401", "its size": b"413"}[refused_for]
    with running(voice_qa, tmp_path, api_key=KEY) as server:
        head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n%s%s" % (origin, key)
        head += b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n" % length
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(head)
                connection.sendall(bytes(length))
                received = connection.makefile("rb").read()
            assert received.split(b" ")[1] == status and received.endswith(b"}")


@pytest.mark.parametrize("limit", ["LINGER_SECONDS", "PAUSE_SECONDS"])
def test_a_refused_client_that_does_not_end_is_left(voice_qa, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(gate, limit, 0.2)
    with running(voice_qa, tmp_path) as server:
        slow = b"POST / HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 1000\r\n\r\nabc"
        assert exchange(server.port, slow, seconds=1.5).startswith(b"HTTP/1.1 403")
        assert served(server)


def test_nothing_that_was_said_is_logged_or_left(server, make, caplog, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    make()
    caplog.set_level(logging.DEBUG, "hfpipe")
    secret = "contraseña-4711"
    client = server.client()
    assert (
        client.chat.completions.create(model="", messages=[{"role": "user", "content": secret}])
        .choices[0]
        .message.content
        == ANSWER
    )
    with pytest.raises(openai.BadRequestError):
        client.audio.speech.create(input="hola", model="", voice=secret)
    httpx.delete(f"{server.url}/v1/audio/voices/{secret}")
    httpx.get(f"{server.url}/{secret}")
    httpx.post(f"{server.url}/", files={"audio": b"ID3" + secret.encode() * 100_000})
    assert served(server)
    logged = "\n".join(record.getMessage() + str(record.exc_text) for record in caplog.records)
    assert "/v1/chat/completions 200" in logged
    assert secret not in logged and "4711" not in logged and ANSWER not in logged
    assert wait_until(lambda: not list(tmp_path.iterdir()))


@pytest.mark.slow
def test_no_request_that_the_schema_allows_is_an_error_of_the_server(make, voice_qa, tmp_path):
    make()
    with running(voice_qa, tmp_path) as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        seen = set()
        for operation in schema.get_all_operations():

            @settings(
                max_examples=12,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def check(case: Case) -> None:
                case.call_and_validate(base_url=server.url, checks=[not_a_server_error], timeout=30)

            given(case=operation.ok().as_strategy())(check)()
            seen.add(operation.ok().path)
        assert len(seen) >= 12
        assert json.loads(httpx.get(f"{server.url}/health/ready").text)["status"] == "ready"
