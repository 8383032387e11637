"""Spoken conversations over the Realtime API with the offline models."""

import asyncio

import numpy as np
import pytest
import soxr
from own_parts import QUESTION

from .realtime_client import RATE, load, silence, talking
from .serving import running

pytestmark = [pytest.mark.slow, pytest.mark.offline]


@pytest.fixture(scope="module")
def server(offline_pipe, tmp_path_factory):
    with running(offline_pipe, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def say(offline_pipe):
    """Speaks a text as another voice would: float32 at 24 kHz."""

    def say(text: str) -> np.ndarray:
        return soxr.resample(offline_pipe.tts(text, "es", speaker="em_alex"), offline_pipe.tts.sampling_rate, RATE)

    return say


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 120))


def test_a_question_and_one_that_refers_to_it(server, say):
    async def talk():
        async with talking(server) as session:
            await session.say(np.concatenate([load(QUESTION), silence(1.0)]))
            first = (await session.until("response.done")).response.output[0].content[0].transcript
            await asyncio.sleep(len(session.sound()) / 2 / RATE)  # until it was played
            await session.say(np.concatenate([say("¿Y cuál es la capital de Italia?"), silence(1.0)]))
            second = (await session.until("response.done")).response.output[0].content[0].transcript
            assert "París" in first and "Roma" in second
            heard = [event.transcript for event in session.events if event.type.endswith("transcription.completed")]
            assert "Francia" in heard[0] and "Italia" in heard[1]

    run(talk())


async def begin_a_story(session) -> None:
    await session.write("Cuéntame una historia larga sobre una tortuga y una liebre, con muchos detalles.")
    await session.send("response.create")
    await session.until("response.output_audio.delta")


@pytest.mark.parametrize("word", ["Ajá.", "Sí."])
def test_a_brief_word_of_a_listener_leaves_an_answer_as_it_is(server, say, word):
    async def talk():
        async with talking(server) as session:
            await begin_a_story(session)
            await session.say(np.concatenate([silence(0.3), say(word), silence(1.0)]))
            ended = (await session.until("response.done", seconds=90)).response
            assert ended.status == "completed"
            await session.send("conversation.item.retrieve", item_id=ended.output[0].id)  # after all that was said
            kept = await session.until("conversation.item.retrieved")
            assert kept.item.content[0].transcript == ended.output[0].content[0].transcript
            while server.service.work.running:
                await asyncio.sleep(0.05)
            assert "input_audio_buffer.speech_started" not in session.types()

    run(talk())


@pytest.mark.parametrize("words", ["¡Para!", "¡Espera, espera un momento!"])
def test_other_words_end_an_answer(server, say, words):
    async def talk():
        async with talking(server) as session:
            await begin_a_story(session)
            await session.say(np.concatenate([silence(0.3), say(words), silence(1.0)]))
            await session.until("input_audio_buffer.speech_started")
            await session.until("conversation.item.input_audio_transcription.completed")

    run(talk())
