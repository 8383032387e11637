"""Benchmark a Realtime turn of the server: python benchmarks/realtime.py [--json FILE]

The server runs in this process on the offline repo, and OpenAI's client talks to it. Printed are the seconds

- from the commit of a recording to the first sound and the end of its answer, against `pipe.stream` on the models
- from the end of speech, said in real time, to the first sound, with turns found by the server,
- from `speech_started` to `response.done`, where somebody speaks into an answer.
"""

import argparse
import asyncio
import base64
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import openai
from measure import Row, report

import hfpipe
from hfpipe.pipeline.audio import load_audio
from hfpipe.pipeline.audio_vad import find_speech
from hfpipe.pipeline.engine_events import Audio
from hfpipe.server.app import create_app
from hfpipe.server.connections import Server
from hfpipe.server.settings import Settings

QUESTION = Path(__file__).parent.parent / "examples" / "pregunta.wav"
RATE = 24_000
SILENCE = np.zeros(3 * RATE, np.float32)
STORY = "Cuéntame una historia larga sobre una tortuga y una liebre, con muchos detalles."


def run_stream(pipe) -> tuple[float, float]:
    """Return the seconds until the first sound and the end of a stream."""
    start, first = time.perf_counter(), 0.0
    for event in pipe.stream(str(QUESTION)):
        if isinstance(event, Audio):
            first = first or time.perf_counter() - start
    return first, time.perf_counter() - start


def sound(samples: np.ndarray) -> str:
    """Return a float32 waveform as base64 of 16-bit samples."""
    return base64.b64encode((samples * 32767).astype("<i2").tobytes()).decode()


async def until(connection, kind: str, seconds: float = 30):
    """Take events up to the first of a kind, each within so many seconds, and return it."""
    while True:
        event = await asyncio.wait_for(connection.recv(), seconds)
        if event.type == "error":
            raise RuntimeError(event.error.message)
        if event.type == kind:
            return event


async def say(connection, samples: np.ndarray, pace: float = 0.02) -> None:
    """Append a waveform as a microphone would, in real time."""
    start, step = time.perf_counter(), round(pace * RATE)
    for position in range(0, len(samples), step):
        await connection.input_audio_buffer.append(audio=sound(samples[position : position + step]))
        await asyncio.sleep(max(0.0, start + (position + step) / RATE - time.perf_counter()))


async def listen_by(connection, detection: dict | None) -> None:
    """Let the server find turns, or not."""
    audio = {"input": {"turn_detection": detection}}
    await connection.session.update(session={"type": "realtime", "audio": audio})
    await until(connection, "session.updated")


async def run_turn(connection, question: np.ndarray) -> tuple[float, float]:
    """Return the seconds from a commit until the first sound and the end of the answer."""
    await connection.input_audio_buffer.append(audio=sound(question))
    start = time.perf_counter()
    await connection.input_audio_buffer.commit()
    await connection.response.create()
    await until(connection, "response.output_audio.delta")
    first = time.perf_counter() - start
    await until(connection, "response.done")
    return first, time.perf_counter() - start


async def run_spoken_turn(connection, question: np.ndarray, speech: float) -> float:
    """Return the seconds from the end of speech to the first sound; `speech` says where in the question it ends."""
    start = time.perf_counter()
    saying = asyncio.create_task(say(connection, np.concatenate([question, SILENCE])))
    await until(connection, "response.output_audio.delta")
    seconds = time.perf_counter() - start - speech
    done = await until(connection, "response.done")
    await saying
    assert done.response.status == "completed", done
    await asyncio.sleep(4)  # until it was played
    return seconds


async def run_interruption(connection, question: np.ndarray) -> float:
    """Return the seconds from `speech_started` to the end of the answer that it interrupts."""
    content = [{"type": "input_text", "text": STORY}]
    await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
    await connection.response.create()
    await until(connection, "response.created")
    saying = asyncio.create_task(say(connection, question))
    await until(connection, "input_audio_buffer.speech_started")
    start = time.perf_counter()
    done = await until(connection, "response.done")
    assert done.response.status == "cancelled", "the answer had ended before it was interrupted"
    seconds = time.perf_counter() - start
    await saying
    return seconds


async def measure(pipe, port: int, repeats: int) -> list[Row]:
    """Return what one connection takes."""
    samples, rate = load_audio(str(QUESTION))
    assert rate == RATE
    speech = find_speech(load_audio(str(QUESTION), 16_000)[0])[-1]["end"] / 16_000
    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
    turns, streams = [], []
    for number in range(repeats + 1):  # the first warms up
        async with client.realtime.connect(model="voice-qa") as connection:  # each without a history, as the streams
            await listen_by(connection, None)
            turns.append(await run_turn(connection, samples))
        streams.append(await asyncio.to_thread(run_stream, pipe))
        if number == 0:
            turns, streams = [], []
    spoken, cut = [], []
    for _ in range(repeats):
        async with client.realtime.connect(model="voice-qa") as connection:
            await listen_by(connection, {"type": "server_vad"})
            spoken.append(await run_spoken_turn(connection, samples, speech))
        async with client.realtime.connect(model="voice-qa") as connection:
            cut.append(await run_interruption(connection, samples))
    (first, end), (peer_first, peer_end) = (map(median, zip(*each, strict=True)) for each in (turns, streams))
    return [
        Row("first sound, against `pipe.stream`", first, peer_first, "s"),
        Row("the whole answer, against `pipe.stream`", end, peer_end, "s"),
        Row("end of speech to the first sound; bar 1.2 s", median(spoken), 1.2, "s"),
        Row("speech_started to response.done; bar 0.3 s", max(cut), 0.3, "s"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="of each measurement (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the rows there, and a chart beside them")
    args = parser.parse_args()
    pipe = hfpipe.load(hfpipe.offline_repo())
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(folder=Path(folder), port=0)
        app = create_app(pipe, settings, "offline")
        app.state.service.warm_up()
        server = Server(app, settings, app.state.service)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        try:
            rows = asyncio.run(measure(pipe, server.servers[0].sockets[0].getsockname()[1], args.repeats))
        finally:
            server.should_exit = True
            thread.join()
    report("A Realtime turn", rows, args.json)


if __name__ == "__main__":
    main()
