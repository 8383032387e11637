"""`POST /`, many clients at once, the queue, health, metrics, voices, and the end of the server."""

import asyncio
import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
import soundfile
from conftest import EXAMPLES
from own_parts import ANSWER, QUESTION, Talker, Whistle, wait_until
from typer.testing import CliRunner

from hfpipe.cli.app import app
from hfpipe.pipeline.audio import load_audio
from hfpipe.server import voices
from hfpipe.server.errors import ApiError
from hfpipe.server.work import WorkQueue

from .serving import running

pytestmark = pytest.mark.slow

SPOKEN = open(QUESTION, "rb").read()
ASKED = [{"role": "user", "content": "hola"}]


class Echo(Talker):
    """An LLM that answers with the question."""

    def __call__(self, question, language, on_text=None, history=None):
        self.answer = None
        answer = f"Me has preguntado {question}."
        if on_text:
            on_text(answer)
        return answer


def post_turn(server, messages="[]", audio=SPOKEN, **options):
    given = {"files": {"audio": ("blob", audio)}, "data": {"messages": messages}, "timeout": 60, **options}
    return httpx.post(f"{server.url}/", **given)


def test_a_turn_as_the_page_sends_it(server, voice_qa):
    history = [{"role": "user", "content": "hola"}, {"role": "assistant", "content": "hola, dime"}]
    answer = post_turn(server, json.dumps(history)).json()
    assert set(answer) == {"input", "text", "audio"}
    expected = voice_qa(QUESTION, history=history)
    assert (answer["input"], answer["text"]) == (expected["question"], expected["answer"])
    head, _, data = answer["audio"].partition(",")
    assert head == "data:audio/wav;base64"
    samples, rate = load_audio(base64.b64decode(data))
    assert len(samples) / rate == pytest.approx(len(expected["audio"]) / expected["sampling_rate"], rel=0.3)


def test_silence_is_refused_as_such(server):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16_000), 16_000, format="WAV")
    refused = post_turn(server, audio=buffer.getvalue())
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "no_speech"


def test_eight_clients_get_their_own_answers(make, server):
    make(llm=Echo(), tts=Whistle())

    def ask(number: int) -> tuple:
        client = server.client()
        word = f"cosa{number}"
        answer = client.chat.completions.create(model="", messages=[{"role": "user", "content": word}])
        stream = client.chat.completions.create(model="", messages=[{"role": "user", "content": word}], stream=True)
        return word, answer.choices[0].message.content, "".join(c.choices[0].delta.content or "" for c in stream)

    with ThreadPoolExecutor(8) as pool:
        for word, answer, streamed in pool.map(ask, range(8)):
            assert answer == streamed == f"Me has preguntado {word}."


def test_a_client_that_leaves_cancels_its_work(make, server):
    """Both where the answer is streamed and where it isn't; and the slot is free again."""
    llm = Talker()
    llm.leave = threading.Semaphore(0)
    make(llm=llm)
    for stream in (True, False):
        body = json.dumps({"messages": ASKED, "stream": stream}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + body)
            assert wait_until(lambda: server.service.work.running == 1)
        start = time.monotonic()
        assert wait_until(lambda: server.service.work.running == 0)
        assert time.monotonic() - start < 1
    llm.leave = threading.Semaphore(10_000)
    assert server.client().chat.completions.create(model="", messages=ASKED).choices[0].message.content == ANSWER


class Endless(Whistle):
    """A voice whose phrases last longer than a connection's buffers hold."""

    sampling_rate = 24_000

    def __call__(self, text, language, speaker_wav=None):
        return np.full(1_000_000, 0.1, np.float32)


def test_a_client_that_does_not_read_is_given_up(make, voice_qa, tmp_path):
    make(tts=Endless())
    with running(voice_qa, tmp_path, stall_seconds=0.3) as server:
        asked = {"input": "Una frase más. " * 200, "response_format": "wav"}
        with httpx.stream("POST", f"{server.url}/v1/audio/speech", json=asked, timeout=30) as response:
            assert response.status_code == 200
            assert wait_until(lambda: server.service.work.running == 0, 10)


def test_a_full_queue_is_429_with_whole_seconds(make, voice_qa, tmp_path):
    llm = Talker()
    llm.leave = threading.Semaphore(0)
    make(llm=llm)
    with running(voice_qa, tmp_path, concurrency=1, queue_size=1) as server, ThreadPoolExecutor(2) as pool:
        ask = server.client().chat.completions.create
        waiting = [pool.submit(ask, model="", messages=ASKED)]
        assert wait_until(lambda: server.service.work.running == 1)
        waiting.append(pool.submit(ask, model="", messages=ASKED))
        assert wait_until(lambda: server.service.work.waiting == 1)
        with pytest.raises(openai.RateLimitError) as refused:
            ask(model="", messages=ASKED)
        assert re.fullmatch(r"[1-9]\d?", refused.value.response.headers["Retry-After"])
        assert httpx.get(f"{server.url}/health/live").status_code == 200
        ready = httpx.get(f"{server.url}/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "full")
        llm.leave.release(10_000)
        assert [each.result().choices[0].message.content for each in waiting] == [ANSWER, ANSWER]
        health = httpx.get(f"{server.url}/health").json()
        assert health.pop("precision").keys() == {"asr"} and health.pop("batches_answers") is False
        assert health == {"status": "ready", "running": 0, "waiting": 0, "sessions": 0}


def test_the_queue_is_fair_between_clients():
    async def order() -> list[str]:
        work, done = WorkQueue(1, 10, 5), []
        held = threading.Event()

        async def run(client, name):
            await work.run(client, held.wait if name == "first" else lambda: None)
            done.append(name)

        tasks = [asyncio.create_task(run("a", "first"))]
        for client, name in (("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("b", "b2")):
            tasks.append(asyncio.create_task(run(client, name)))
        await asyncio.sleep(0.05)
        held.set()
        await asyncio.gather(*tasks)
        work.close()
        return done

    assert asyncio.run(order()) == ["first", "a1", "b1", "c1", "a2", "b2", "a3"]


def test_who_floods_the_queue_does_not_keep_others_out():
    async def flood() -> tuple[list, int]:
        work, held = WorkQueue(1, 3, 5), threading.Event()
        tasks = [asyncio.create_task(work.run("flood", held.wait)) for _ in range(4)]
        await asyncio.sleep(0.05)
        other = asyncio.create_task(work.run("other", lambda: "served"))
        await asyncio.sleep(0.05)
        with pytest.raises(ApiError, match="wait already"):
            await work.run("flood", held.wait)
        leaver = tasks[1]
        leaver.cancel()  # one that waits leaves
        await asyncio.sleep(0)
        held.set()
        results = await asyncio.gather(*tasks, other, return_exceptions=True)
        async with asyncio.timeout(10):
            while work.running:  # a thread that is cancelled takes a moment to notice
                await asyncio.sleep(0.01)
        counts = work.running, work.waiting
        work.close()
        return results, counts

    results, counts = asyncio.run(flood())
    assert results[0] is True and isinstance(results[1], asyncio.CancelledError)
    assert results[2] is True and isinstance(results[3], ApiError) and results[3].status == 429
    assert results[4] == "served" and counts == (0, 0)


def test_models_health_metrics_and_docs(server, client):
    [model] = client.models.list().data
    assert model.id == "tiny" == client.models.retrieve("tiny").id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")
    client.audio.speech.create(input="hola", model="", voice="alloy", response_format="pcm")
    post_turn(server)
    metrics = httpx.get(f"{server.url}/metrics").text
    for name in ("requests_total", "requests_waiting", "first_audio_seconds_count", "tokens_per_second_bucket"):
        assert f"hfpipe_{name}" in metrics
    for stage in ("asr", "llm", "tts"):
        assert float(re.search(rf'hfpipe_stage_seconds_count{{stage="{stage}"}} (\S+)', metrics)[1]) > 0
    for stage in ("asr", "tts"):
        assert float(re.search(rf'hfpipe_real_time_factor_count{{stage="{stage}"}} (\S+)', metrics)[1]) > 0
    docs = httpx.get(f"{server.url}/docs").text
    assert "POST /v1/audio/speech" in docs and "http" not in docs.replace("HTTP", "").replace("over http", "")
    assert "/v1/chat/completions" in httpx.get(f"{server.url}/openapi.json").json()["paths"]


def test_voices_are_uploaded_with_consent_listed_used_and_deleted(xtts_server, tiny_whisper, tmp_path):
    client, url = xtts_server.client(), f"{xtts_server.url}/v1/audio/voices"
    voice = (EXAMPLES / "voz.wav").read_bytes()

    def upload(**data):
        return httpx.post(url, files={"audio_sample": ("../../etc/x.wav", voice)}, data=data, timeout=60)

    assert {each["name"] for each in httpx.get(url).json()["data"]} == {"Ana", "Luis"}
    refused = upload(name="Eva")
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "missing_consent"
    for name in ("../Eva", "Ana", "/etc/passwd", "a\x00b"):
        assert upload(name=name, consent_by="Eva").status_code == 400
    made = upload(name="Eva", consent_by="Eva P.", consent_on="2026-11-22").json()
    assert (made["id"], made["consent_by"], made["consent_on"]) == ("Eva", "Eva P.", "2026-11-22")
    kept = xtts_server.settings.folder / "voices" / "voice_Eva.safetensors"
    assert kept.is_file() and kept.parent.parent.stat().st_mode & 0o777 in (0o700, 0o755)
    listed = {each["name"]: each for each in httpx.get(url).json()["data"]}
    assert listed["Eva"]["consent_by"] == "Eva P." and listed["Luis"]["saved"] is False
    spoken = [
        client.audio.speech.create(input="hola, buenos días", model="", voice=name, response_format="pcm").content
        for name in ("Eva", "Luis")
    ]
    assert spoken[0] != spoken[1]
    assert httpx.delete(f"{url}/Eva").json()["deleted"] is True and not kept.exists()
    assert httpx.delete(f"{url}/Eva").status_code == 404 == httpx.delete(f"{url}/Luis").status_code
    with pytest.raises(openai.BadRequestError, match="no voice 'Eva'"):
        client.audio.speech.create(input="hola", model="", voice="Eva")


def test_voices_as_the_official_client_makes_them(xtts_server):
    client, voice = xtts_server.client(), (EXAMPLES / "voz.wav").read_bytes()
    consent = client.audio.voice_consents.create(name="Rosa M.", language="es-ES", recording=("c.wav", voice))
    assert [each.id for each in client.audio.voice_consents.list()] == [consent.id]
    made = client.audio.voices.create(name="Rosa", audio_sample=("v.wav", voice), consent=consent.id)
    assert made.id == made.name == "Rosa" and made.created_at > 0
    listed = {each["name"]: each for each in httpx.get(f"{xtts_server.url}/v1/audio/voices").json()["data"]}
    assert listed["Rosa"]["consent_by"] == "Rosa M."
    assert client.audio.voices.delete("Rosa").deleted and client.audio.voice_consents.delete(consent.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.audio.voices.create(name="Rosa", audio_sample=("v.wav", voice), consent=consent.id)


def test_clients_cannot_fill_the_disk_with_voices(xtts_server, monkeypatch):
    monkeypatch.setattr(voices, "MAX_KEPT", 0)
    voice = (EXAMPLES / "voz.wav").read_bytes()
    with pytest.raises(openai.BadRequestError, match="delete one first"):
        xtts_server.client().audio.voice_consents.create(name="Rosa M.", language="es-ES", recording=("c.wav", voice))
    given = {"files": {"audio_sample": voice}, "data": {"name": "Una", "consent_by": "Una"}, "timeout": 60}
    assert httpx.post(f"{xtts_server.url}/v1/audio/voices", **given).json()["error"]["code"] == "too_many"


def test_a_saved_voice_is_there_after_a_restart(xtts_server):
    client, voice = httpx.Client(base_url=xtts_server.url, timeout=60), (EXAMPLES / "voz.wav").read_bytes()
    client.post("/v1/audio/voices", files={"audio_sample": voice}, data={"name": "Sol", "consent_by": "Sol"})
    pipe = xtts_server.service.pipe
    pipe.tts.saved_voices = {}
    with running(pipe, xtts_server.settings.folder) as again:
        listed = httpx.get(f"{again.url}/v1/audio/voices").json()["data"]
        assert "Sol" in [each["name"] for each in listed]
        assert httpx.delete(f"{again.url}/v1/audio/voices/Sol").status_code == 200


def test_a_turn_that_outlasts_the_grace_is_cancelled_and_what_waits_is_refused(make, voice_qa, tmp_path):
    llm = Talker()
    llm.leave = threading.Semaphore(0)
    make(llm=llm)
    with ThreadPoolExecutor(2) as pool:
        with running(voice_qa, tmp_path, concurrency=1, grace_seconds=0.3) as server:
            asking = [pool.submit(server.client().chat.completions.create, model="", messages=ASKED) for _ in range(2)]
            assert wait_until(lambda: server.service.work.waiting == 1)
            start = time.monotonic()
        assert time.monotonic() - start < 3
        codes = set()
        for each in asking:
            with pytest.raises(openai.InternalServerError) as refused:
                each.result()
            codes.add((refused.value.status_code, refused.value.code))
    assert codes == {(503, "stopping"), (503, "cancelled")}


def start_command(*arguments, **environment) -> subprocess.Popen:
    command = [sys.executable, "-m", "hfpipe", "serve", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen) -> None:
    def answers() -> bool:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.2)  # it loads meanwhile
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    assert wait_until(answers, 90)
    assert httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200


@pytest.mark.slow
def test_the_command_serves_and_ends_amid_a_turn(tiny_whisper, tiny_chat, tiny_vits, tmp_path):
    port = free_port()
    models = ("--model", tiny_whisper, "--llm", tiny_chat, "--tts", tiny_vits)
    process = start_command(*models, "--port", port, "--folder", tmp_path, TMPDIR=str(tmp_path))
    try:
        wait_for(port, process)
        long = {"input": "Una frase muy larga que no acaba, y otra más. " * 80, "response_format": "wav"}
        with httpx.Client(timeout=30) as client:
            with client.stream("POST", f"http://127.0.0.1:{port}/v1/audio/speech", json=long) as response:
                pieces = response.iter_raw()
                next(pieces)
                process.send_signal(signal.SIGTERM)
                try:
                    for _ in pieces:
                        pass
                except httpx.TransportError:
                    pass  # cut off after the seconds of grace
        printed, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Serving on" in printed and "Stopped." in printed and "Traceback" not in printed and "larga" not in printed
    assert {each.name for each in tmp_path.iterdir()} == {"voices", "consents"}  # no upload is left


def test_the_command_refuses_what_it_cannot_serve(tmp_path):
    runner = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1", "HFPIPE_API_KEY": ""})
    refused = runner.invoke(app, ["serve", "--host", "0.0.0.0"])
    assert refused.exit_code == 1 and "--api-key" in refused.stderr and "--allow-origin" in refused.stderr
    refused = runner.invoke(app, ["serve", "--host", "0.0.0.0", "--api-key", "k" * 32])
    assert "--allow-origin" in refused.stderr and "also takes --allow-origin" in refused.stderr
    refused = runner.invoke(app, ["serve", "--allow-origin", "https://example.org/path"])
    assert "valid is a scheme and a host" in refused.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = runner.invoke(app, ["serve", "--model", str(tmp_path), "--port", str(port)])
        assert "can't listen" in refused.stderr and "--port" in refused.stderr
    refused = runner.invoke(app, ["serve", "--model", str(tmp_path), "--port", str(free_port())])
    assert refused.exit_code == 1 and str(tmp_path) in refused.stderr


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    refused = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["serve"])
    assert refused.exit_code == 1 and "pip install 'hfpipe[server]'" in refused.stderr


def test_a_stage_that_does_not_work_is_named_at_the_start(make, tmp_path):
    pipe = make(tts=Whistle(fails_at=0))
    with running(pipe, tmp_path) as server, pytest.raises(RuntimeError, match="'tts' doesn't work: the whistle broke"):
        server.service.warm_up()
