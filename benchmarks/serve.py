"""A running `hfpipe serve` under load: python benchmarks/serve.py PART ... [--json FILE]

It starts the server on the offline models as a process of its own, and prints for each part

    turns        50 spoken questions at once through POST /: whether each is heard as it is alone, questions per second
                 at once and one after the other, and the server's memory
    stream       the same questions through streamed chat completions: seconds to the first sound, against those where
                 each waits until the one before has been answered (first come, first served)
    realtime     50 Realtime sessions at once, each with two spoken questions: whether each is heard as it is alone, in
                 order, the seconds to the first sound, and the server's memory
    chat         answers per second to written questions, of 1, 8 and 16 clients
    bulk         a spoken question alone, and beside 20 transcriptions of half a minute each
    disconnects  turns of which most clients leave midway: memory, open files and threads
    hostile      oversized, truncated, malformed and abandoned requests, and a good one afterwards

and meanwhile the seconds in which /health answers. It exits with 1 where an answer was lost or mixed up, a hostile
request was answered by anything but 4xx, or files or threads were left behind.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import json
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import openai
import psutil
import soundfile
from attacks import make_attacks, send_raw
from measure import machine
from realtime import listen_by, sound, until

SESSIONS, ALONE = 50, 10  # questions at once, and of these one after the other, before and afterwards
CLIENTS = (1, 8, 16)
TRANSCRIPTIONS, BULK_SECONDS, BESIDE = 20, 30.0, 5
HOSTILE = 500
TIMEOUT = 600.0  # seconds
WORDS = (
    "perro gato caballo pájaro tigre león elefante serpiente tortuga ballena árbol rosa manzana naranja limón tomate "
    "queso pan leche agua café azúcar mesa silla puerta ventana zapato camisa sombrero libro lápiz papel reloj "
    "teléfono guitarra piano tambor barco avión tren coche bicicleta montaña río playa desierto luna sol estrella nube"
).split()
QUESTIONS = (
    *("¿Cuál es la capital de Francia?", "¿Quién escribió Don Quijote?", "¿De qué color es el cielo?"),
    *("¿Qué es un volcán?", "¿Cuántos días tiene un año?", "¿Qué es el agua?", "¿Dónde está Madrid?"),
    "¿Qué es una ballena?",
)


class Server:
    """A server process, on a port of its own, and what it takes of the machine.

    Args:
        options: further options of `hfpipe serve`.
    """

    def __init__(self, *options: str):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory()
        command = ["-m", "hfpipe", "serve", "--model", "offline", "--port", str(self.port)]
        self.process = psutil.Popen([sys.executable, *command, "--folder", self._folder.name, *options])
        self.client = httpx.Client(base_url=self.url, timeout=TIMEOUT, limits=httpx.Limits(max_connections=200))

    def __enter__(self) -> "Server":
        while True:
            with contextlib.suppress(httpx.TransportError):
                self.client.get("/health")
                return self
            if self.process.poll() is not None:
                raise SystemExit("the server didn't start")
            time.sleep(0.2)

    def __exit__(self, *error) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(30)
        self._folder.cleanup()

    def taken(self) -> dict[str, int]:
        """Return the process's memory now and at most, in MiB, and its open files and threads."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        now = self.process.memory_info().rss
        counts = {"files": self.process.num_fds(), "threads": self.process.num_threads()}
        return {"MiB": now >> 20, "peak MiB": peak >> 10, **counts}

    def say(self, text: str, voice: str = "em_alex") -> bytes:
        """Return a text as a WAV file, in a voice of the server's that isn't its own."""
        asked = {"input": text, "voice": voice, "response_format": "wav"}
        return self.client.post("/v1/audio/speech", json=asked).raise_for_status().content

    def turn(self, question: bytes) -> dict:
        """Ask a spoken question at POST /, and return what was heard and answered."""
        return self.client.post("/", files={"audio": ("question.wav", question)}).raise_for_status().json()

    def stream(self, question: bytes) -> tuple[float, float]:
        """Ask a spoken question at /v1/chat/completions; return the seconds to the first sound, and to the last."""
        part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(question).decode(), "format": "wav"}}
        body = {"messages": [{"role": "user", "content": [part]}], "modalities": ["text", "audio"], "stream": True}
        body["audio"] = {"format": "pcm16", "voice": "default"}
        start, first = time.perf_counter(), 0.0
        with self.client.stream("POST", "/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if not first and line.startswith("data: {") and '"data":' in line:
                    first = time.perf_counter() - start
        return first, time.perf_counter() - start

    def ask(self, question: str) -> int:
        """Ask a written question, and return how many tokens the answer has."""
        asked = {"messages": [{"role": "user", "content": question}]}
        answer = self.client.post("/v1/chat/completions", json=asked).raise_for_status().json()
        return answer["usage"]["completion_tokens"]


@contextlib.contextmanager
def watching(server: Server, results: dict) -> Iterator[None]:
    """Ask for /health ten times a second within the block, and note how long that took."""
    seconds, ended = [], threading.Event()

    def watch() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not ended.wait(0.1):
                start = time.perf_counter()
                client.get("/health/live")
                seconds.append(time.perf_counter() - start)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        results["/health p50, p99, most (ms)"] = [round(1e3 * percentile(seconds, each), 1) for each in (50, 99, 100)]


def percentile(seconds: list[float], percent: float) -> float:
    """Return a percentile of seconds."""
    return float(np.percentile(seconds, percent)) if seconds else 0.0


def at_once(call, items) -> tuple[list, float]:
    """Call something for all items at once; return the results, in order, and the seconds."""
    with ThreadPoolExecutor(len(items)) as pool:
        start = time.perf_counter()
        return list(pool.map(call, items)), time.perf_counter() - start


def timed(call, items) -> tuple[list, list[float]]:
    """Call something for one item after the other; return the results and the seconds of each."""
    results, seconds = [], []
    for item in items:
        start = time.perf_counter()
        results.append(call(item))
        seconds.append(time.perf_counter() - start)
    return results, seconds


def spoken_questions(server: Server) -> list[bytes]:
    """Return spoken questions, each about another thing."""
    return [server.say(f"¿Me puedes decir qué es {word}?") for word in WORDS[:SESSIONS]]


def turns(server: Server, options) -> dict:
    """Answer all at once, and some one after the other before and afterwards."""
    questions, results = spoken_questions(server), {}
    server.turn(questions[0])
    results["before"] = server.taken()
    alone, before = timed(server.turn, questions[:ALONE])
    with watching(server, results):
        found, seconds = at_once(server.turn, questions)
    rest, after = timed(server.turn, questions[-ALONE:])
    results["after"] = server.taken()
    known = dict(enumerate(alone)) | dict(enumerate(rest, SESSIONS - ALONE))
    words = [sum(word in turn["input"].lower() for word in WORDS[:SESSIONS]) for turn in found]
    results["sessions, answered"] = [len(questions), sum(bool(turn["audio"]) for turn in found)]
    results["heard as alone"] = f"{sum(found[i]['input'] == turn['input'] for i, turn in known.items())}/{len(known)}"
    results["answered as alone"] = f"{sum(found[i]['text'] == turn['text'] for i, turn in known.items())}/{len(known)}"
    results["heard its own word"] = sum(
        word in turn["input"].lower() for word, turn in zip(WORDS, found, strict=False)
    )
    results["different questions heard"] = len({turn["input"] for turn in found})
    one = statistics.mean(before + after)
    results["turns/s at once, one by one, ratio"] = ratio(len(questions) / seconds, 1 / one)
    results["words of several"] = sum(count > 1 for count in words)
    results["failed"] = any(found[i]["input"] != turn["input"] for i, turn in known.items())
    return results


def stream(server: Server, options) -> dict:
    """Stream all at once, and some one after the other before and afterwards."""
    questions, results = spoken_questions(server), {}
    server.stream(questions[0])
    one_by_one = [server.stream(question) for question in questions[:ALONE]]
    with watching(server, results):
        found, seconds = at_once(server.stream, questions)
    one_by_one += [server.stream(question) for question in questions[-ALONE:]]
    first, whole = (statistics.mean(each) for each in zip(*one_by_one, strict=True))
    served = [number * whole + first for number in range(len(questions))]
    for percent in (50, 95):
        name = f"first sound p{percent} (s), first come first served, ratio"
        results[name] = ratio(percentile([each[0] for each in found], percent), percentile(served, percent))
    results["turns/s at once, one by one, ratio"] = ratio(len(questions) / seconds, 1 / whole)
    results["failed"] = not all(each[0] for each in found)
    return results


def realtime(server: Server, options) -> dict:
    """Hold conversations at once over Realtime, and some one after the other before and afterwards."""
    questions, results = [soundfile.read(io.BytesIO(each))[0] for each in spoken_questions(server)], {}
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")

    async def talk(number: int) -> tuple[list[str], list[str], float]:
        """Ask two questions; return what was heard, what was answered, and the seconds to the first sound."""
        heard, said, firsts = [], [], []
        async with client.realtime.connect(model="voice-qa") as connection:
            await listen_by(connection, None)
            for samples in (questions[number], questions[number - 1]):
                await connection.input_audio_buffer.append(audio=sound(samples))
                start = time.perf_counter()
                await connection.input_audio_buffer.commit()
                await connection.response.create()
                done = await until(connection, "conversation.item.input_audio_transcription.completed", TIMEOUT)
                heard.append(done.transcript)
                await until(connection, "response.output_audio.delta", TIMEOUT)
                firsts.append(time.perf_counter() - start)
                answered = (await until(connection, "response.done", TIMEOUT)).response
                said.append(answered.output[0].content[0].transcript)
        return heard, said, firsts[0]

    async def all_at_once() -> list:
        return await asyncio.gather(*map(talk, range(len(questions))))

    asyncio.run(talk(0))
    results["before"] = server.taken()
    alone, seconds = timed(lambda number: asyncio.run(talk(number)), range(ALONE))
    with watching(server, results):
        start = time.perf_counter()
        found = asyncio.run(all_at_once())
        whole = time.perf_counter() - start
    results["after"] = server.taken()
    same = [found[i][0] == each[0] for i, each in enumerate(alone)]
    in_order = [heard == [found[number][0][0], found[number - 1][0][0]] for number, (heard, _, _) in enumerate(found)]
    results["sessions, answered twice"] = [len(found), sum(all(said) for _, said, _ in found)]
    results["heard as alone"] = f"{sum(same)}/{len(same)}"
    results["answered as alone"] = f"{sum(found[i][1] == each[1] for i, each in enumerate(alone))}/{len(alone)}"
    results["both questions heard, in order"] = f"{sum(in_order)}/{len(in_order)}"
    results["different questions heard"] = len({heard[0] for heard, _, _ in found})
    results["turns/s at once, one by one, ratio"] = ratio(2 * len(found) / whole, 2 / statistics.mean(seconds))
    results["first sound p50, p95 (s)"] = [round(percentile([each[2] for each in found], p), 2) for p in (50, 95)]
    results["failed"] = not (all(same) and all(in_order) and all(all(said) for _, said, _ in found))
    return results


def chat(server: Server, options) -> dict:
    """Answer written questions of more and more clients."""
    results, rates = {}, {}
    questions = [QUESTIONS[number % len(QUESTIONS)] for number in range(3 * max(CLIENTS))]
    server.ask(questions[0])
    with watching(server, results):
        for clients in CLIENTS:
            given = questions[: max(16, 3 * clients)]
            with ThreadPoolExecutor(clients) as pool:
                start = time.perf_counter()
                tokens = sum(pool.map(server.ask, given))
                seconds = time.perf_counter() - start
            rates[clients] = len(given) / seconds
            shown = [round(rates[clients], 2), round(tokens / seconds, 1), round(rates[clients] / rates[1], 2)]
            results[f"{clients} clients: answers/s, tokens/s, ratio"] = shown
    results["failed"] = False
    return results


def bulk(server: Server, options) -> dict:
    """Answer a spoken question alone, and while recordings are transcribed."""
    question, results = server.say("¿Cuál es la capital de Francia?"), {}
    samples, rate = soundfile.read(io.BytesIO(question), dtype="float32")
    long = io.BytesIO()
    soundfile.write(long, np.tile(samples, round(BULK_SECONDS * rate / len(samples))), rate, format="FLAC")
    server.turn(question)
    _, alone = timed(server.turn, [question] * BESIDE)

    def transcribe(number: int) -> str:
        given = {"files": {"file": ("long.flac", long.getvalue())}, "data": {"language": "es", "model": ""}}
        return server.client.post("/v1/audio/transcriptions", **given).raise_for_status().json()["text"]

    with watching(server, results), ThreadPoolExecutor(TRANSCRIPTIONS) as pool:
        start = time.perf_counter()
        transcripts = [pool.submit(transcribe, number) for number in range(TRANSCRIPTIONS)]
        time.sleep(1)
        _, beside = timed(server.turn, [question] * BESIDE)
        results["transcriptions done meanwhile"] = sum(each.done() for each in transcripts)
        texts = {each.result() for each in transcripts}
        results["seconds until all are transcribed"] = round(time.perf_counter() - start, 1)
    results["a turn (s) beside them, alone, ratio"] = ratio(statistics.median(beside), statistics.median(alone))
    results["longest turn beside them (s)"] = round(max(beside), 2)
    results["failed"] = len(texts) != 1 or not texts.pop()
    return results


def disconnects(server: Server, options) -> dict:
    """Take turns whose clients leave after a while, and see what is left of them."""
    question, results = server.say("¿Qué hora es?"), {"over time": []}
    chance = random.Random(0)
    plans = [
        (chance.choice(["turn", "stream", "chat", "speech", "transcription"]), chance.random()) for _ in range(64)
    ]

    def leave(number: int) -> str:
        kind, patience = plans[number % len(plans)]
        asked = {"messages": [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}], "max_tokens": 16}
        given = {
            "turn": ("/", {"files": {"audio": question}}),
            "transcription": ("/v1/audio/transcriptions", {"files": {"file": ("a.wav", question)}}),
            "speech": ("/v1/audio/speech", {"json": {"input": "Hola, ¿qué tal?", "response_format": "pcm"}}),
            "chat": ("/v1/chat/completions", {"json": asked}),
            "stream": ("/v1/chat/completions", {"json": {**asked, "stream": True}}),
        }
        path, body = given[kind]
        try:
            with httpx.stream("POST", server.url + path, timeout=3 * patience**3 + 0.05, **body) as response:
                response.read()
                return str(response.status_code)
        except httpx.TransportError:
            return "left"

    counts: Counter[str] = Counter()
    with watching(server, results), ThreadPoolExecutor(8) as pool:
        for done in range(0, options.turns, options.turns // 10):
            counts.update(pool.map(leave, range(done, done + options.turns // 10)))
            settle(server)
            results["over time"].append({"turns": done + options.turns // 10, **server.taken()})
    results["answers"] = dict(counts)
    early, late = results["over time"][1], results["over time"][-1]
    results["failed"] = any(late[name] > early[name] + 2 for name in ("files", "threads"))
    return results


def settle(server: Server) -> None:
    """Wait until nothing is worked on, and connections are closed."""
    while any(server.client.get("/health").json()[name] for name in ("running", "waiting")):
        time.sleep(0.1)
    time.sleep(0.5)


def hostile(server: Server, options) -> dict:
    """Send what strangers may send, from eight clients at once."""
    question, results = server.say("¿Qué hora es?"), {}
    at_once(server.turn, [question] * 16)  # so that all threads are there
    _, usual = timed(server.turn, [question] * BESIDE)
    settle(server)
    before = server.taken()
    attacks = list(make_attacks(server.port, question))
    answers: Counter[str] = Counter()
    with watching(server, results), ThreadPoolExecutor(8) as pool:
        start = time.perf_counter()
        answers.update(pool.map(lambda number: send_raw(server.port, *attacks[number % len(attacks)]), range(HOSTILE)))
        results["requests, seconds"] = [HOSTILE, round(time.perf_counter() - start, 1)]
    settle(server)
    _, afterwards = timed(server.turn, [question] * BESIDE)
    results["answers"] = dict(answers)
    results["before"], results["after"] = before, server.taken()
    results["a good turn (s) afterwards, before, ratio"] = ratio(
        statistics.median(afterwards), statistics.median(usual)
    )
    is_left = any(results["after"][name] > before[name] + 2 for name in ("files", "threads"))
    results["failed"] = is_left or any(not (each.startswith("4") or each == "cut") for each in answers)
    return results


def ratio(ours: float, peer: float) -> list[float]:
    """Return two quantities and their ratio."""
    return [round(ours, 2), round(peer, 2), round(ours / peer, 2)]


PARTS = {part.__name__: part for part in (turns, stream, realtime, chat, bulk, disconnects, hostile)}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--turns", type=int, default=400, help="of the part disconnects")
    parser.add_argument("--concurrency", default="16", help="of the server")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    results = {"machine": machine(), "concurrency": options.concurrency}
    with Server("--concurrency", options.concurrency) as server:
        results["health"] = server.client.get("/health").json()
        for name in options.parts:
            results[name] = PARTS[name](server, options)
            print(json.dumps({name: results[name]}, indent=1, ensure_ascii=False), flush=True)
    print(json.dumps({name: results[name] for name in ("machine", "concurrency", "health")}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    sys.exit(any(results[name]["failed"] for name in options.parts))


if __name__ == "__main__":
    main()
