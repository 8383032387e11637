"""A client of the Realtime API: OpenAI's own, and what it received."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator

import numpy as np
import openai
import soxr
from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import TypeAdapter

from hfpipe.pipeline.audio import load_audio

SERVER_EVENTS = TypeAdapter(RealtimeServerEvent)
RATE = 24_000


class Talk:
    """A connection by the official client. Each event that it receives is checked against OpenAI's types."""

    def __init__(self, connection):
        self.connection, self.events = connection, []

    async def send(self, kind: str, **fields) -> None:
        await self.connection.send({"type": kind, **fields})

    async def receive(self, seconds: float = 30.0):
        """Return the next event."""
        data = await asyncio.wait_for(self.connection.recv_bytes(), seconds)
        event = SERVER_EVENTS.validate_json(data)
        self.events.append(event)
        return event

    async def until(self, *kinds: str, seconds: float = 30.0):
        """Return the next event of one of these types, and let those before it pass."""
        while True:
            event = await self.receive(seconds)
            if event.type in kinds:
                return event

    async def update(self, **session):
        await self.send("session.update", session={"type": "realtime", **session})
        return await self.until("session.updated", "error")

    async def say(self, samples: np.ndarray, chunk: float = 0.1) -> None:
        """Append a float32 waveform at 24 kHz in chunks of so many seconds."""
        step = round(chunk * RATE)
        for start in range(0, len(samples), step):
            await self.send("input_audio_buffer.append", audio=pcm(samples[start : start + step]))

    async def write(self, text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        await self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})

    async def ask(self, text: str, **response):
        """Return the `response.done` of a question in writing."""
        await self.write(text)
        await self.send("response.create", response=response)
        return (await self.until("response.done")).response

    def types(self) -> list[str]:
        """The types of all events so far; of deltas in a row only one."""
        names = [event.type for event in self.events]
        return [name for i, name in enumerate(names) if i == 0 or not name.endswith("delta") or names[i - 1] != name]

    def sound(self) -> bytes:
        """The sound of all answers so far."""
        deltas = (event.delta for event in self.events if event.type == "response.output_audio.delta")
        return b"".join(map(base64.b64decode, deltas))


def pcm(samples: np.ndarray) -> str:
    return base64.b64encode((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()).decode()


def load(path: str) -> np.ndarray:
    """Return a recording as float32 at 24 kHz."""
    samples, rate = load_audio(path)
    return soxr.resample(samples, rate, RATE)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


@contextlib.asynccontextmanager
async def talking(server, **session) -> AsyncIterator[Talk]:
    """Connect, with some options changed."""
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.settings.api_key or "none")
    async with client.realtime.connect(model="voice-qa") as connection:
        talk = Talk(connection)
        created = await talk.receive()
        assert created.type == "session.created"
        if session:
            assert (await talk.update(**session)).type == "session.updated"
        yield talk
