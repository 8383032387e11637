"""An LLM behind a server on loopback, asked through the official client."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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
        self.deltas = None  # what is sent instead of the answer's words
        self.name = "tiny"
        self.refuse = lambda request: None  # what a request is refused with


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
            200,
            {"object": "list", "data": [{"id": self.server.name, "object": "model", "created": 0, "owned_by": "us"}]},
        )

    def do_POST(self):
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append(request)
        if server.key and self.headers["authorization"] != f"Bearer {server.key}":
            return self.reply(401, {"error": {"message": "bad key"}})
        if server.failures:
            return self.reply(server.failures.pop(0), {"error": {"message": "not now"}})
        if refusal := server.refuse(request):
            return self.reply(400, {"error": {"message": refusal, "type": "invalid_request_error"}})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if server.deltas is not None:
            limit = request.get("max_tokens") or request["max_completion_tokens"]
            for delta in server.deltas[:limit]:
                self.say(delta, None)
            self.say({}, server.reason if limit >= len(server.deltas) else "length")
            self.wfile.write(b"data: [DONE]\n\n")
            return None
        words = server.answer.split(" ")
        for i, word in enumerate(words):
            time.sleep(server.pause)
            self.say({"content": word if i == 0 else f" {word}"}, None)
        self.say({}, server.reason)
        self.wfile.write(b"data: [DONE]\n\n")

    def say(self, delta, reason):
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "tiny"}
        chunk["choices"] = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
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
    answers = RemoteLLM(server.url, "other")(["¿A?", "¿B?"])
    assert answers == [ANSWER, ANSWER] and not any(each.is_cut for each in answers)
    assert [asked["model"] for asked in server.asked[1:]] == ["other"] * 2
    assert "español" in server.asked[1]["messages"][0]["content"]


@pytest.mark.parametrize("answer, expected", [
    ("París es la capital. Tiene muchos mus", "París es la capital."),
    ("La capital de Francia es Par", "La capital de Francia es…"),
])  # fmt: skip
def test_what_the_limit_cuts_is_not_said(server, answer, expected):
    server.answer, server.reason, texts = answer, "length", []
    said = RemoteLLM(server.url)("¿Y?", max_new_tokens=5, on_text=texts.append)
    assert said == "".join(texts) == expected and said.is_cut


FORMATS = {  # the model's name, and what the server sends as text
    "Qwen3 Thinking": ("Qwen3-4B-Thinking-2507", "Mmm, Francia. ¿París? Sí.\n</think>\n\nEs París."),
    "a thought that the prompt opened": ("tiny", "Okay, the user asks. ¿París? Sí.\n</think>\n\nEs París."),
    "R1": ("tiny", "<think>Mmm, Francia. ¿París?</think> Es París."),
    "Magistral": ("tiny", "[THINK]Mmm, Francia. ¿París?[/THINK]Es París."),
    "Kimi": ("tiny", "◁think▷Mmm, Francia. ¿París?◁/think▷Es París."),
    "gpt-oss": ("tiny", "<|channel|>analysis<|message|>Mmm. ¿París?<|end|>"
                "<|start|>assistant<|channel|>final<|message|>Es París."),
    "gpt-oss without its tokens": ("tiny", "analysisMmm, Francia. ¿París?assistantfinalEs París."),
    "GRPO": ("tiny", "<reasoning>Mmm, Francia. ¿París?</reasoning>\n<answer>Es París.</answer>"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name, text", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_what_is_only_thought_is_not_said(server, make, name, text, size):
    server.name, texts = name, []
    server.deltas = [{"content": text[i : i + size]} for i in range(0, len(text), size)]
    assert RemoteLLM(server.url)("¿Y?") == "Es París."
    assert RemoteLLM(server.url)("¿Y?", on_text=texts.append) == "".join(texts) == "Es París."
    chat = make(RemoteLLM(server.url), Whistle()).conversation()
    assert [event.text for event in chat.stream(QUESTION) if event.type == "audio"] == ["Es París."]
    assert chat(QUESTION)["answer"] == chat.history[1]["content"] == chat.history[3]["content"] == "Es París."


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_thoughts_that_come_apart_are_not_said(server, key):
    thoughts = [{"role": "assistant", "content": None, key: word} for word in ("Okay,", " the", " user")]
    server.deltas = [None, *thoughts, {"content": "Okay,"}, {"content": " es París. Sí."}, None]
    llm, texts = RemoteLLM(server.url, "qwen3-thinking"), []
    assert llm("¿Y?", on_text=texts.append) == "".join(texts) == "Okay, es París. Sí."
    assert len(texts) > 1


def test_thoughts_in_parts_are_not_said(server):
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Mmm"}]}
    server.deltas = [{"content": [thought]}, {"content": [{"type": "text", "text": "Es París."}]}]
    assert RemoteLLM(server.url)("¿Y?") == "Es París."


def test_a_model_that_thinks_gets_room_for_it_and_is_remembered(server):
    server.deltas = [{"reasoning_content": "Mmm "}] * 200 + [{"content": "Es "}, {"content": "París."}]
    llm = RemoteLLM(server.url)
    assert llm("¿Y?") == llm("¿Y?", max_new_tokens=9, max_thinking_tokens=500) == "Es París."
    assert [asked["max_tokens"] for asked in server.asked] == [128, 1152, 509]
    server.deltas = [{"content": f"{word} "} for word in ("<think>", *["Mmm"] * 200, "</think>", "Es", "París.")]
    assert RemoteLLM(server.url)("¿Y?") == "Es París."
    with pytest.raises(RuntimeError, match="only thought about '¿Y.*ended with 'length'.*Raise max_thinking_tokens"):
        RemoteLLM(server.url)("¿Y?", max_thinking_tokens=20)
    server.deltas = [{"content": "okay "}] * 200
    with pytest.raises(RuntimeError, match="only thought"):
        RemoteLLM(server.url)("¿Y?", max_thinking_tokens=20)


def test_room_for_thoughts_is_none_for_the_answer(server):
    server.deltas = [{"reasoning_content": "Mmm"}, *[{"content": "Es París. "}] * 100]
    assert RemoteLLM(server.url, "magistral")("¿Y?", max_new_tokens=3) == "Es París. Es París. Es París."
    llm = RemoteLLM(server.url)
    assert llm("¿Y?", max_new_tokens=3) == "Es París. Es París."  # before it was known to think
    assert llm("¿Y?", max_new_tokens=3) == "Es París. Es París. Es París."
    server.deltas = [{"content": "Es París. "}] * 100
    assert RemoteLLM(server.url, "magistral")("¿Y?", max_new_tokens=3) == "Es París. Es París. Es París."


def test_a_thought_that_nobody_could_tell_is_waited_for_from_then_on(server):
    server.answer = "Francia es un país de Europa. Su capital es París.\n</think>\n\nEs París."
    llm, texts = RemoteLLM(server.url), []
    assert llm("¿Y?") == "Es París."
    assert llm("¿Y?", on_text=texts.append) == "".join(texts) == "Es París."
    server.answer = "Francia es un país."
    assert llm("¿Y?") == "Francia es un país."


MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)


def test_the_limit_goes_by_the_name_that_the_server_takes(server):
    server.refuse = lambda request: MAX_TOKENS if "max_tokens" in request else None
    llm = RemoteLLM(server.url)
    assert llm("¿Y?") == llm("¿Y?") == ANSWER
    limits = [(asked.get("max_tokens"), asked.get("max_completion_tokens")) for asked in server.asked]
    assert limits == [(128, None), (None, 128), (None, 128)]
    server.refuse = lambda request: MAX_TOKENS
    with pytest.raises(ValueError, match="answered 400: .*Unsupported parameter"):
        RemoteLLM(server.url)("¿Y?")
    assert len(server.asked) == 5
    server.refuse = lambda request: "max_tokens is too large: 128. This model supports at most 64."
    with pytest.raises(ValueError, match="too large: 128"):
        RemoteLLM(server.url)("¿Y?")
    assert len(server.asked) == 6


@pytest.mark.parametrize("refusal", [
    "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
    "System role not supported", "Developer instruction is not enabled for models/gemma-3-4b-it",
    "Conversation roles must alternate user/assistant/user/assistant/...",
    "Only user and assistant roles are supported!",
])  # fmt: skip
def test_an_instruction_opens_the_first_turn_where_a_system_turn_is_refused(server, refusal):
    def refuse(request):
        if request["messages"][0]["role"] == "system":
            return refusal
        return MAX_TOKENS if "max_tokens" in request else None

    server.refuse, llm = refuse, RemoteLLM(server.url)
    history = [{"role": "user", "content": "Hola"}, {"role": "assistant", "content": "Buenas"}]
    for _ in range(2):
        assert llm("¿Y?", system_prompt="Di.", history=history) == ANSWER
    assert len(server.asked) == 4
    first = {"role": "user", "content": "Di.\n\nHola"}
    assert server.asked[-1]["messages"] == [first, history[1], {"role": "user", "content": "¿Y?"}]


def test_threads_may_adapt_at_once(server):
    def refuse(request):
        if request["messages"][0]["role"] == "system":
            return "System role not supported"
        return MAX_TOKENS if "max_tokens" in request else None

    server.refuse, llm = refuse, RemoteLLM(server.url)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(llm, ["¿Y?"] * 12)) == [ANSWER] * 12


def test_what_the_model_refuses_is_told(server):
    server.deltas = [{"content": None, "refusal": "No puedo"}, {"refusal": " decir eso."}]
    with pytest.raises(RuntimeError, match="refuses to answer '¿Y.*No puedo decir eso"):
        RemoteLLM(server.url)("¿Y?")
    server.deltas, server.reason = [None, {"content": ""}], "content_filter"
    with pytest.raises(RuntimeError, match="a filter of the server"):
        RemoteLLM(server.url)("¿Y?")


def test_history_is_taken_as_openai_writes_it(server):
    said = {"role": "user", "content": [{"type": "text", "text": "Hola"}]}
    RemoteLLM(server.url)("¿Y?", history=[{"role": "developer", "content": "Di."}, said])
    contents = [(turn["role"], turn["content"]) for turn in server.asked[-1]["messages"]]
    assert contents == [("system", "Di."), ("user", "Hola"), ("user", "¿Y?")]


def test_the_prompt_asks_for_the_variety(server, make):
    pipe = make(RemoteLLM(server.url), Whistle())
    assert pipe(QUESTION, language="es-MX")["language"] == "es-MX"
    assert "en español de México," in server.asked[-1]["messages"][0]["content"]
    *_, done = pipe.stream(QUESTION, language="es_mx")
    assert done.result["language"] == "es-MX"
    stream = pipe.stream(QUESTION, language="es-419")
    next(event for event in stream if event.type == "audio")
    stream.cancel()
    assert stream.result["language"] == "es-419"
    assert "en español latinoamericano," in server.asked[-1]["messages"][0]["content"]
    assert pipe(QUESTION)["language"] == "es" and "en español," in server.asked[-1]["messages"][0]["content"]


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
