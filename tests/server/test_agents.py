"""OpenAI's Agents SDK in a Realtime session, with nothing but its defaults."""

import asyncio
import threading

import numpy as np
import pytest
from agents.realtime import RealtimeAgent, RealtimeRunner
from own_parts import ANSWER, QUESTION

from .realtime_client import RATE, load, silence
from .serving import running
from .test_realtime import Recorder, Tone

pytestmark = pytest.mark.slow


class Heard:
    """What a session told, taken in the background."""

    def __init__(self, session):
        self.session, self.events = session, []
        self.task = asyncio.create_task(self._listen())

    async def _listen(self):
        async for event in self.session:
            self.events.append(event)

    def count(self, kind: str) -> int:
        return sum(event.type == kind for event in self.events)

    async def until(self, true, seconds=20.0):
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.01)


async def speak(session, *sounds: np.ndarray) -> None:
    samples = (np.concatenate(sounds) * 32767).astype("<i2")
    for start in range(0, len(samples), RATE // 10):
        await session.send_audio(samples[start : start + RATE // 10].tobytes())


def words_of(item) -> str:
    return " ".join(part.transcript or "" for part in item.content)


def test_two_turns_and_an_interruption(make, tmp_path):
    llm, tts = Recorder(), Tone()

    async def talk(server):
        runner = RealtimeRunner(RealtimeAgent(name="Ayuda", instructions="Sé breve."))
        options = {"url": f"ws://127.0.0.1:{server.port}/v1/realtime?model=gpt-realtime", "api_key": "none"}
        async with await runner.run(model_config=options) as session:
            heard = Heard(session)
            tts.seconds_per_letter = 0.005
            for turn in (1, 2):
                await speak(session, load(QUESTION), silence(3.0))
                await heard.until(lambda turn=turn: heard.count("agent_end") == turn)
                await asyncio.sleep(1.5)  # until it was played
            tts.seconds_per_letter = 0.06
            llm.leave = threading.Semaphore(12)  # two phrases, and then it waits
            before = heard.count("audio")
            await speak(session, load(QUESTION), silence(1.0))
            await heard.until(lambda: heard.count("audio") > before)
            await asyncio.sleep(0.9)  # "Por supuesto que sí," lasts 1.2 s
            before = heard.count("audio_interrupted")
            await speak(session, load(QUESTION))
            await heard.until(lambda: heard.count("audio_interrupted") > before)
            llm.leave.release(1000)
            await speak(session, silence(3.0))
            await heard.until(lambda: heard.count("agent_end") == 4)
            await asyncio.sleep(0.2)  # what it asks for after a truncation
            assert not heard.count("error"), [e.error for e in heard.events if e.type == "error"]
            answers = [words_of(item) for item in session._history if item.role == "assistant"]
            assert answers[0] == answers[1] == answers[3] == ANSWER
            assert answers[2] and ANSWER.startswith(answers[2]) and len(answers[2]) < len("Por supuesto que sí,")
            assert llm.asked[3]["history"][-1]["content"] == f"{answers[2]}…"
            assert llm.asked[3]["system_prompt"] == "Sé breve."
            heard.task.cancel()

    with running(make(llm, tts), tmp_path) as server:
        asyncio.run(asyncio.wait_for(talk(server), 90))
