"""The Realtime API, by OpenAI's own client."""

import asyncio
import base64
import json
import threading
import time

import numpy as np
import pytest
import websockets
from own_parts import ANSWER, QUESTION, Talker, Whistle

from hfpipe.server.realtime import codec
from hfpipe.server.realtime.backchannels import is_backchannel

from .realtime_client import RATE, load, silence, talking
from .serving import running

pytestmark = pytest.mark.slow

TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.completed",
]
ANSWERED = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
BY_HAND = {"audio": {"input": {"turn_detection": None}}}


class Recorder(Talker):
    """An LLM that remembers what it was asked."""

    def __init__(self, answer=ANSWER):
        super().__init__(answer)
        self.asked = []

    def __call__(self, question, language, on_text=None, history=None, system_prompt=None, max_new_tokens=None):
        self.asked.append({"question": question, "history": history or [], "system_prompt": system_prompt})
        return super().__call__(question, language, on_text)


class Tone(Whistle):
    """A voice of the user's own: a tone as long as a person would take for the text."""

    sampling_rate, seconds_per_letter = RATE, 0.06

    def __call__(self, text, language, speaker_wav=None):
        self.said.append(text)
        return np.full(round(len(text) * RATE * self.seconds_per_letter), 0.5, np.float32)


def seconds_of(tts: Tone) -> float:
    return sum(map(len, tts.said)) * tts.seconds_per_letter


@pytest.fixture
def parts(make, tmp_path):
    """A server with an LLM and a voice of the test's own."""
    llm, tts = Recorder(), Tone()
    with running(make(llm, tts), tmp_path) as server:
        yield server, llm, tts


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def without_repeats(names, kinds):
    """The order in which kinds first came."""
    return list(dict.fromkeys(name for name in names if name in kinds))


def test_a_spoken_turn_in_the_order_of_openai(parts):
    server, llm, tts = parts

    async def talk():
        async with talking(server) as session:
            await session.say(np.concatenate([load(QUESTION), silence(1.0)]))
            done = await session.until("response.done")
            assert without_repeats(session.types()[1:], TURN) == TURN
            after = session.types()[session.types().index("response.created") :]
            assert without_repeats(after, ANSWERED) == ANSWERED
            assert done.response.status == "completed"
            [item] = done.response.output
            assert item.content[0].transcript == ANSWER
            heard = next(e for e in session.events if e.type.endswith("transcription.completed"))
            assert llm.asked[0]["question"] == heard.transcript
            started = next(e for e in session.events if e.type.endswith("speech_started"))
            added = [e.item.id for e in session.events if e.type == "conversation.item.added"]
            assert added == [started.item_id, item.id]
            assert len(session.sound()) / 2 / RATE == pytest.approx(seconds_of(tts), abs=1.0)  # and the pauses between
            assert float(done.response.metadata["hfpipe.first_audio"]) > 0

    run(talk())


def test_what_was_said_is_in_the_next_prompt(parts):
    server, llm, _ = parts

    async def talk():
        async with talking(server, instructions="Sé breve.", **BY_HAND) as session:
            await session.ask("Hola", output_modalities=["text"])
            await session.say(load(QUESTION))
            await session.send("input_audio_buffer.commit")
            await session.send("response.create")
            await session.until("response.done")

    run(talk())
    first, second = llm.asked
    assert first == {"question": "Hola", "history": [], "system_prompt": "Sé breve."}
    assert second["history"] == [{"role": "user", "content": "Hola"}, {"role": "assistant", "content": ANSWER}]


def test_an_answer_that_reaches_the_limit_is_incomplete_and_stays_in_the_conversation(server):
    async def talk():
        async with talking(server, **BY_HAND) as session:
            done = await session.ask("Hola", output_modalities=["text"], max_output_tokens=5)
            assert done.status == "incomplete" and done.status_details.reason == "max_output_tokens"
            [item] = done.output
            said = "".join(event.delta for event in session.events if event.type == "response.output_text.delta")
            assert item.status == "incomplete" and item.content[0].text == said != ""
            assert (await session.ask("¿Y?", output_modalities=["text"], max_output_tokens=5)).output

    run(talk())


def test_text_alone(parts):
    server, _, tts = parts

    async def talk():
        async with talking(server, output_modalities=["text"]) as session:
            done = await session.ask("Hola")
            assert done.output[0].content[0].text == ANSWER
            assert "".join(e.delta for e in session.events if e.type == "response.output_text.delta") == ANSWER
            assert not session.sound()

    run(talk())
    assert not tts.said


@pytest.mark.parametrize("reason", ["turn_detected", "client_cancelled"])
def test_an_interruption_ends_the_sound_and_keeps_what_was_heard(parts, reason):
    server, llm, _ = parts
    llm.leave = threading.Semaphore(12)  # two phrases, and then it waits

    async def talk():
        async with talking(server) as session:
            await session.write("Cuéntame algo")
            await session.send("response.create")
            await session.until("response.output_audio.delta")
            await asyncio.sleep(0.5)
            start = time.monotonic()
            if reason == "turn_detected":
                await session.say(load(QUESTION))
                await session.until("input_audio_buffer.speech_started")
                start = time.monotonic()
            else:
                await session.send("response.cancel")
            done = await session.until("response.done")
            assert time.monotonic() - start < 0.3
            assert (done.response.status, done.response.status_details.reason) == ("cancelled", reason)
            heard = done.response.output[0].content[0].transcript
            assert ANSWER.startswith(heard) and len(heard) < len(ANSWER)
            item = done.response.output[0].id
            await session.send("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=700)
            await session.until("conversation.item.truncated")
            await session.send("conversation.item.retrieve", item_id=item)
            kept = (await session.until("conversation.item.retrieved")).item.content[0].transcript
            assert kept == "Por supuesto"
            llm.leave.release(1000)
            if reason == "turn_detected":
                await session.say(silence(1.0))
            else:
                await session.write("¿Y ahora?")
                await session.send("response.create")
            await session.until("response.done")
            cancelled = session.events.index(done)
            after = [event for event in session.events[cancelled:] if event.type == "response.output_audio.delta"]
            assert after and all(event.item_id != item for event in after)

    run(talk())
    assert llm.asked[1]["history"][-1] == {"role": "assistant", "content": "Por supuesto…"}


def test_truncating_what_isnt_there_is_an_error_and_the_session_goes_on(parts):
    server, _, _ = parts

    async def talk():
        async with talking(server) as session:
            done = await session.ask("Hola")
            item = done.output[0].id
            user = next(e.item.id for e in session.events if e.type == "conversation.item.added")
            for item_id, index, end in (
                (item, 0, 10_000_000),
                ("item_none", 0, 0),
                (item, 1, 0),
                (user, 0, 0),
                (item, 0, -1),
            ):
                where = {"item_id": item_id, "content_index": index, "audio_end_ms": end}
                await session.send("conversation.item.truncate", event_id="mine", **where)
                error = await session.until("error", "conversation.item.truncated")
                assert error.type == "error" and error.error.event_id == "mine", where
            assert (await session.ask("¿Qué?")).status == "completed"

    run(talk())


def test_an_update_changes_what_it_names_and_nothing_else(parts):
    server, _, _ = parts

    async def talk():
        async with talking(server) as session:
            before = session.events[0].session.model_dump()
            changed = await session.update(audio={"input": {"turn_detection": {"silence_duration_ms": 900}}})
            after = changed.session.model_dump()
            assert after["audio"]["input"]["turn_detection"].pop("silence_duration_ms") == 900
            assert before["audio"]["input"]["turn_detection"].pop("silence_duration_ms") == 500
            assert after == before
            changed = await session.update(audio={"output": {"speed": 1.5}})
            assert changed.session.audio.input.turn_detection.silence_duration_ms == 900
            changed = await session.update(audio={"input": {"turn_detection": {"type": "semantic_vad"}}})
            assert changed.session.audio.input.turn_detection.model_dump(exclude_none=True) == {
                **{"type": "semantic_vad", "eagerness": "auto"},
                **{"create_response": True, "interrupt_response": True},
            }
            changed = await session.update(**BY_HAND)
            assert changed.session.audio.input.turn_detection is None

    run(talk())


@pytest.mark.parametrize(
    "session",
    [
        {"audio": {"output": {"voice": "nobody"}}},
        {"audio": {"output": {"speed": 9}}},
        {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
        {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}}},
        {"audio": {"input": {"turn_detection": {"type": "telepathy"}}}},
        {"audio": {"input": {"transcription": {"language": "klingon"}}}},
        {"output_modalities": ["text", "audio"]},
        {"tools": [{"type": "function", "name": "weather"}]},
        {"prompt": {"id": "pmpt_1"}},
        {"max_output_tokens": 0},
        {"instructions": 7},
    ],
)
def test_an_option_that_cant_be_honored_changes_nothing(parts, session):
    server, _, _ = parts

    async def talk():
        async with talking(server) as talk:
            error = (
                await talk.update(instructions="Nunca.", **session)
                if "instructions" not in session
                else (await talk.update(**session))
            )
            assert error.type == "error" and error.error.type == "invalid_request_error"
            same = await talk.update(max_output_tokens=9)
            assert same.session.instructions == ""

    run(talk())


def test_what_the_agents_sdk_sends_is_taken(parts):
    server, _, _ = parts
    detection = {"type": "semantic_vad", "interrupt_response": True}
    heard = {"format": {"type": "audio/pcm", "rate": 24000}, "transcription": {"model": "gpt-4o-mini-transcribe"}}
    given = {
        **{"model": "gpt-realtime-2.1", "tools": [], "tracing": "auto", "output_modalities": ["audio"]},
        "audio": {"input": {**heard, "turn_detection": detection}, "output": {"voice": "ash"}},
    }

    async def talk():
        async with talking(server, **given) as session:
            assert (await session.ask("Hola")).status == "completed"

    run(talk())


def test_noise_reduction_is_taken_and_said_not_to_be_there(parts):
    server, _, _ = parts

    async def talk():
        async with talking(server) as session:
            updated = await session.update(audio={"input": {"noise_reduction": {"type": "near_field"}}})
            assert updated.type == "session.updated" and updated.session.audio.input.noise_reduction is None

    run(talk())


def test_silence_after_an_answer_is_answered(parts):
    server, llm, tts = parts
    heard = {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 1000}}

    async def talk():
        async with talking(server, audio={"input": heard}) as session:
            await session.say(silence(2.5))
            assert (await session.ask("Hola")).status == "completed"
            await asyncio.sleep(0.5)
            assert (await session.ask("¿Qué?")).status == "completed"  # who asks isn't silent
            start, played = time.monotonic(), seconds_of(tts)
            silent = await session.until("input_audio_buffer.timeout_triggered")
            assert time.monotonic() - start > played / 2 + 1  # the half is the second answer, which was played first
            assert (silent.audio_start_ms, silent.audio_end_ms) == (1500, 2500)
            committed = await session.until("input_audio_buffer.committed")
            assert committed.item_id == silent.item_id
            assert (await session.until("response.done")).response.status == "completed"
            assert [asked["question"] for asked in llm.asked] == ["Hola", "¿Qué?", "(No he dicho nada.)"]
            await session.update(audio={"input": {"turn_detection": {"idle_timeout_ms": None}}})
            with pytest.raises(TimeoutError):
                await session.until("input_audio_buffer.timeout_triggered", seconds=seconds_of(tts) / 3 + 2)

    run(talk())


IMAGE = {"type": "input_image", "image_url": "file:///etc/passwd"}
BAD_EVENTS = [
    {},
    {"type": 7},
    {"type": "session.fly"},
    {"type": "session.update"},
    {"type": "session.update", "session": 3},
    {"type": "session.update", "session": {"type": "realtime", "audio": 3}},
    {"type": "input_audio_buffer.append"},
    {"type": "input_audio_buffer.append", "audio": "%%%"},
    {"type": "input_audio_buffer.commit"},
    {"type": "output_audio_buffer.clear"},
    {"type": "response.create", "response": 3},
    {"type": "response.cancel"},
    {"type": "conversation.item.delete", "item_id": "nothing"},
    {"type": "conversation.item.retrieve", "item_id": "nothing"},
    {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [IMAGE]}},
    {"type": "conversation.item.create", "item": {"type": "function_call", "name": "x", "arguments": ""}},
    {
        **{"type": "conversation.item.create", "previous_item_id": "nothing"},
        "item": {"type": "message", "role": "user", "content": []},
    },
]


@pytest.mark.parametrize("message", ["", "{", "[]", '"x"', "null", "[" * 100_000, *map(json.dumps, BAD_EVENTS)])
def test_a_bad_message_is_an_error_and_the_session_goes_on(parts, message):
    server, _, _ = parts

    async def talk():
        async with talking(server) as session:
            await session.connection.send_raw(message)
            assert (await session.receive()).type == "error"
            assert (await session.ask("Hola", output_modalities=["text"])).status == "completed"

    run(talk())


def test_a_stage_that_fails_is_a_failed_response_and_the_session_goes_on(make, tmp_path):
    with running(make(Talker("Uno. Dos.", fails_at=1)), tmp_path) as server:

        async def talk():
            async with talking(server) as session:
                for _ in range(2):
                    done = await session.ask("Hola")
                    assert done.status == "failed" and done.status_details.error.code == "internal_error"

        run(talk())


def test_one_answer_at_a_time_and_others_outside_of_the_conversation(parts):
    server, llm, _ = parts
    llm.leave = threading.Semaphore(3)

    async def talk():
        async with talking(server) as session:
            await session.write("Hola")
            await session.send("response.create")
            await session.until("response.created")
            await session.send("response.create")
            assert (await session.until("error")).error.code == "conversation_already_has_active_response"
            content = [{"type": "input_text", "text": "¿De qué se habla?"}]
            asked = [{"type": "message", "role": "user", "content": content}]
            await session.send(
                "response.create", response={"conversation": "none", "input": asked, "metadata": {"a": "b"}}
            )
            llm.leave.release(1000)
            ended = [(await session.until("response.done")).response for _ in range(2)]
            apart = next(response for response in ended if response.conversation_id is None)
            assert apart.metadata["a"] == "b"
            items = [e.item.id for e in session.events if e.type == "conversation.item.added"]
            assert apart.output[0].id not in items and len(items) == 2

    run(talk())
    assert {asked["question"] for asked in llm.asked} == {"Hola", "¿De qué se habla?"}


def test_a_greeting_that_nobody_asked_for(parts):
    server, llm, _ = parts

    async def talk():
        async with talking(server) as session:
            await session.send("response.create", response={"instructions": "Saluda."})
            assert (await session.until("response.done")).response.status == "completed"

    run(talk())
    assert llm.asked[0]["question"] == "Saluda."


@pytest.mark.parametrize("form", ["audio/pcmu", "audio/pcma"])
def test_telephones(parts, form):
    server, _, tts = parts
    sounds = {"input": {"format": {"type": form}, "turn_detection": None}, "output": {"format": {"type": form}}}

    async def talk():
        async with talking(server, audio=sounds) as session:
            question = codec.Encoder(form, RATE).write(load(QUESTION), is_last=True)
            await session.send("input_audio_buffer.append", audio=base64.b64encode(question).decode())
            await session.send("input_audio_buffer.commit")
            heard = await session.until("conversation.item.input_audio_transcription.completed")
            assert heard.transcript and heard.usage.seconds == pytest.approx(2.07, abs=0.05)
            await session.send("response.create")
            await session.until("response.done")
            spoken = codec.decode(session.sound(), form)
            assert np.median(spoken) == pytest.approx(0.5, abs=0.02)  # the whistle's tone
            assert len(spoken) / 8000 == pytest.approx(seconds_of(tts), abs=1.0)  # and the pauses between

    run(talk())


def test_silence_and_noise_are_no_turn(parts):
    server, llm, _ = parts
    noise = np.random.default_rng(0).normal(0, 0.02, 3 * RATE).astype(np.float32)

    async def talk():
        async with talking(server) as session:
            await session.say(np.concatenate([silence(2.0), noise]))
            await session.send("input_audio_buffer.commit")
            assert (await session.receive()).error.code == "input_audio_buffer_commit_empty"

    run(talk())
    assert not llm.asked


def test_a_session_that_only_transcribes(parts):
    server, llm, _ = parts

    async def talk():
        uri = f"ws://127.0.0.1:{server.port}/v1/realtime?intent=transcription"
        async with websockets.connect(uri) as socket:
            created = json.loads(await socket.recv())
            assert created["session"]["type"] == "transcription"
            sound = codec.Encoder("audio/pcm", RATE).write(np.concatenate([load(QUESTION), silence(1.0)]))
            await socket.send(
                json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode()})
            )
            while (event := json.loads(await socket.recv()))["type"] != TURN[-1]:
                assert event["type"] in TURN
            assert event["transcript"]

    run(talk())
    assert not llm.asked


def test_sessions_share_no_state(make, tmp_path):
    class Echo(Recorder):
        def __call__(self, question, language, on_text=None, **options):
            answer = f"Dijiste {question}, después de {len(options.get('history') or [])}."
            if on_text:
                on_text(answer)
            return answer

    async def talk(server, number):
        async with talking(server) as session:
            for turn in range(3):
                done = await session.ask(f"el número {number} y {turn}")
                heard = done.output[0].content[0].transcript
                assert heard == f"Dijiste el número {number} y {turn}, después de {2 * turn}."

    async def all_of_them(server):
        await asyncio.gather(*(talk(server, number) for number in range(12)))

    with running(make(Echo()), tmp_path) as server:
        run(all_of_them(server))
        assert not server.service.sessions and server.service.work.running == 0


def test_too_many_sessions_are_told_to_come_back(make, tmp_path):
    async def talk(server):
        async with talking(server):
            async with websockets.connect(f"ws://127.0.0.1:{server.port}/v1/realtime") as socket:
                assert json.loads(await socket.recv())["error"]["code"] == "too_many_sessions"
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await socket.recv()
                assert closed.value.rcvd.code == 1013

    with running(make(), tmp_path, max_sessions=1) as server:
        run(talk(server))


def test_who_says_nothing_is_let_go(make, tmp_path):
    async def talk(server):
        async with websockets.connect(f"ws://127.0.0.1:{server.port}/v1/realtime") as socket:
            assert json.loads(await socket.recv())["type"] == "session.created"
            assert json.loads(await socket.recv())["error"]["code"] == "session_expired"
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()

    with running(make(), tmp_path, idle_seconds=0.3) as server:
        run(talk(server))


def test_who_leaves_ends_its_work(parts):
    server, llm, _ = parts
    llm.leave = threading.Semaphore(0)

    async def talk():
        async with talking(server) as session:
            await session.write("Hola")
            await session.send("response.create")
            await session.until("response.created")
            while not server.service.work.running:
                await asyncio.sleep(0.01)
        start = time.monotonic()
        while server.service.work.running:
            await asyncio.sleep(0.01)
        assert time.monotonic() - start < 1

    run(talk())


def test_the_key_and_the_origin(make, tmp_path, caplog):
    async def status(server, **options) -> int:
        try:
            async with websockets.connect(f"ws://127.0.0.1:{server.port}/v1/realtime", **options):
                return 101
        except websockets.InvalidStatus as error:
            return error.response.status_code

    async def talk(server):
        key = {"additional_headers": {"Authorization": "Bearer secret"}}
        assert await status(server) == 401
        assert await status(server, additional_headers={"Authorization": "Bearer wrong"}) == 401
        assert await status(server, **key) == 101
        assert await status(server, subprotocols=["realtime", "openai-insecure-api-key.secret"]) == 101
        assert await status(server, subprotocols=["realtime", "openai-insecure-api-key.wrong"]) == 401
        assert await status(server, **key, origin="https://evil.example") == 403
        assert await status(server, **key, origin=f"http://127.0.0.1:{server.port}") == 101
        async with talking(server) as session:
            assert (await session.ask("Hola")).status == "completed"

    with running(make(), tmp_path, api_key="secret") as server:
        run(talk(server))
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_stopping_lets_an_answer_end(make, tmp_path):
    llm = Talker()

    async def talk(server, stop):
        async with talking(server) as session:
            await session.write("Hola")
            await session.send("response.create")
            await session.until("response.created")
            stop()
            done = await session.until("response.done")
            assert done.response.status == "completed"
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await session.receive()
            assert closed.value.rcvd.code == 1012

    with running(make(llm), tmp_path) as server:
        run(talk(server, server.stop))


@pytest.mark.parametrize("text", ["Ajá.", "Mm-hmm", "Sí, sí.", "Vale", "¡Ah, ya!", "uh-huh", "D'accord.", ""])
def test_backchannels(text):
    assert is_backchannel(text)


@pytest.mark.parametrize("text", ["Para.", "No.", "¿Y Madrid?", "Sí, pero espera", "sí sí sí sí sí", "Stop", "你好"])
def test_no_backchannels(text):
    assert not is_backchannel(text)


def test_a_pause_within_a_turn_ends_nothing(parts):
    server, llm, _ = parts
    question = load(QUESTION)
    half = len(question) // 2

    async def talk():
        async with talking(server) as session:
            await session.say(np.concatenate([question[:half], silence(0.35)]))
            while not llm.asked:  # an answer is begun meanwhile
                await asyncio.sleep(0.01)
            await session.say(np.concatenate([question[half:], silence(1.0)]))
            await session.until("response.done")
            assert [name for name in session.types() if name == "response.created"] == ["response.created"]
            heard = [event.transcript for event in session.events if event.type == TURN[-1]]
            assert len(heard) == 1 and llm.asked[-1]["question"] == heard[0] and not llm.asked[-1]["history"]

    run(talk())
    assert len(llm.asked) == 2


def test_what_a_session_may_hold_is_limited(parts):
    server, llm, _ = parts
    minute = silence(60.0)

    async def talk():
        async with talking(server, **BY_HAND) as session:
            await session.say(minute, chunk=60)
            await session.say(minute, chunk=60)
            await session.say(silence(0.1))
            assert (await session.receive()).error.code == "too_long"
            await session.send("input_audio_buffer.clear")
            await session.until("input_audio_buffer.cleared")
            await session.send("session.update", session={"audio": {"input": {"transcription": None}}})
            for _ in range(11):
                await session.say(minute, chunk=60)
                await session.send("input_audio_buffer.commit")
            assert (await session.until("error")).error.code == "too_long"
            for number in range(3):
                await session.write(f"{number} " + "palabra " * 60_000)
            await session.ask("¿Qué?", output_modalities=["text"])

    run(talk())
    [asked] = llm.asked
    assert "0 palabra" not in asked["question"] and "1 palabra" in asked["question"]


def test_semantic_turns_end_where_they_sound_complete(make, tmp_path):
    """The detector is asked in each pause: one that finds nothing complete until it has heard 1.5 s."""
    asked = []

    def detector(audio):
        asked.append(len(audio) / 16_000)
        return 0.97 if asked[-1] > 1.5 else 0.1

    question = load(QUESTION)
    half = len(question) // 3

    async def talk(server):
        detection = {"type": "semantic_vad", "eagerness": "high"}
        async with talking(server, audio={"input": {"turn_detection": detection}}) as session:
            await session.say(np.concatenate([question[:half], silence(1.2), question[half:], silence(1.0)]))
            await session.until("response.done")
            names = [event.type for event in session.events]
            assert names.count("input_audio_buffer.speech_stopped") == 1
            assert names.count("input_audio_buffer.speech_started") == 1
            assert asked[0] < 1.5 < asked[-1]

    with running(make(Recorder(), Tone()), tmp_path, turn_detector=detector) as server:
        run(talk(server))
