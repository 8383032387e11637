"""An LLM behind a server on loopback, asked through the official client."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("openai")

from own_parts import ANSWER, PHRASES, QUESTION, Whistle

from hfpipe.pipeline import llm_remote as remote_llm
from hfpipe.pipeline.llm_remote import KEY, RemoteLLM

SECRET = "sk-very-secret"


class Server(ThreadingHTTPServer):
    """Speaks as much of OpenAI's protocol as chat needs, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.asked, self.failures, self.answer, self.reason = [], [], ANSWER, "stop"
        self.key = None
        self.pause = 0.0


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self):
        self.reply(
            200, {"object": "list", "data": [{"id": "tiny", "object": "model", "created": 0, "owned_by": "us"}]}
        )

    def do_POST(self):
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append(request)
        if server.key and self.headers["authorization"] != f"Bearer {server.key}":
            return self.reply(401, {"error": {"message": "bad key"}})
        if server.failures:
            return self.reply(server.failures.pop(0), {"error": {"message": "not now"}})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        words = server.answer.split(" ")
        for i, word in enumerate(words):
            time.sleep(server.pause)
            self.say({"content": word if i == 0 else f" {word}"}, None)
        self.say({}, server.reason)
        self.wfile.write(b"data: [DONE]\n\n")

    def say(self, delta, reason):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "tiny", "choices": [choice]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_it_answers_with_the_servers_first_model(server):
    texts = []
    history = [{"role": "user", "content": "Hola"}, {"role": "assistant", "content": "Buenas"}]
    answer = RemoteLLM(server.url)("¿Y?", "es", "Sé breve.", history, on_text=texts.append, temperature=0.5)
    assert answer == "".join(texts) == ANSWER and len(texts) > 3
    [asked] = server.asked
    system, *turns, question = asked.pop("messages")
    assert system == {"role": "system", "content": "Sé breve."} and turns == history
    assert question == {"role": "user", "content": "¿Y?"}
    assert asked == {"model": "tiny", "max_tokens": 128, "stream": True, "temperature": 0.5}
    assert RemoteLLM(server.url, "other")(["¿A?", "¿B?"]) == [ANSWER, ANSWER]
    assert [asked["model"] for asked in server.asked[1:]] == ["other"] * 2
    assert "español" in server.asked[1]["messages"][0]["content"]


@pytest.mark.parametrize("answer, expected", [
    ("París es la capital. Tiene muchos mus", "París es la capital."),
    ("La capital de Francia es Par", "La capital de Francia es…"),
])  # fmt: skip
def test_what_the_limit_cuts_is_not_said(server, answer, expected):
    server.answer, server.reason, texts = answer, "length", []
    assert RemoteLLM(server.url)("¿Y?", max_new_tokens=5, on_text=texts.append) == "".join(texts) == expected


def test_what_is_only_thought_is_not_said(server):
    server.answer, texts = "<think>Mmm, Francia. ¿París?</think> Es París.", []
    assert RemoteLLM(server.url)("¿Y?", on_text=texts.append) == "".join(texts) == "Es París."


def test_the_pipeline_streams_it_and_does_not_save_it(server, voice_qa, make, tmp_path):
    pipe = make()
    llm = pipe._load_part("llm", server.url, None, {})
    events = list(make(llm, Whistle()).stream(QUESTION))
    assert [event.text for event in events if event.type == "audio"] == PHRASES
    with pytest.raises(ValueError, match="RemoteLLM without save_pretrained"):
        pipe.save_pretrained(tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


@pytest.mark.slow
def test_cancelling_does_not_wait_for_the_server(server, make):
    server.pause, server.answer = 0.3, "palabra " * 100
    stream = make(RemoteLLM(server.url), Whistle()).stream(QUESTION)
    for _ in range(3):
        next(stream)
    start = time.monotonic()
    stream.cancel()
    assert time.monotonic() - start < 1.5 and list(stream) == []


@pytest.mark.slow
def test_it_tries_again_when_the_server_is_overloaded(server, monkeypatch):
    server.failures = [503, 429]
    assert RemoteLLM(server.url)("¿Y?") == ANSWER
    assert len(server.asked) == 3


def test_errors_say_what_to_do(server, monkeypatch):
    monkeypatch.setattr(remote_llm, "RETRIES", 0)
    with pytest.raises(ConnectionError, match="there is no LLM at http://127.0.0.1:9/v1 .*Start its server"):
        RemoteLLM("http://127.0.0.1:9/v1")("¿Y?")
    for status, kind in ((500, OSError), (400, ValueError)):
        server.failures = [status]
        with pytest.raises(kind, match=f"answered {status}: .*not now"):
            RemoteLLM(server.url)("¿Y?")
    server.pause = 1.0
    with pytest.raises(TimeoutError, match="said nothing in time"):
        RemoteLLM(server.url, timeout=0.2)("¿Y?")
    server.pause, server.answer = 0.0, " "
    with pytest.raises(RuntimeError, match="answered nothing"):
        RemoteLLM(server.url)("¿Y?")
    with pytest.raises(ValueError, match="history has the turn 3"):
        RemoteLLM(server.url)("¿Y?", history=[3])


def test_the_key_comes_from_the_environment_and_is_told_to_nobody_else(server, monkeypatch):
    server.key = SECRET
    with pytest.raises(PermissionError, match=f"refuses the key .*{KEY}"):
        RemoteLLM(server.url)("¿Y?")
    monkeypatch.setenv(KEY, SECRET)
    llm = RemoteLLM(server.url)
    assert llm("¿Y?") == ANSWER
    assert SECRET not in repr(llm) + str(vars(llm)) + json.dumps(server.asked)
