"""Live audio is answered turn after turn; who speaks into an answer stops it; no thread is left."""

import gc
import queue
import threading
import time

import numpy as np
import pytest
import soundfile
from own_parts import ANSWER, PHRASES, QUESTION, Talker, Whistle, wait_until

from hfpipe.pipeline.engine import Engine
from hfpipe.pipeline.live_stream import Stream

SPOKEN, RATE = soundfile.read(QUESTION, dtype="float32")
QUIET = np.zeros(RATE, np.float32)

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


class Microphone:
    """Live audio that a test speaks into; it is taken in chunks of 20 ms."""

    def __init__(self):
        self.chunks = queue.Queue()

    def __iter__(self):
        while (chunk := self.chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    def hear(self, *sounds: np.ndarray) -> "Microphone":
        for chunk in np.array_split(np.concatenate(sounds), sum(map(len, sounds)) // (RATE // 50)):
            self.chunks.put(chunk)
        return self

    def break_off(self, error: Exception | None = None) -> "Microphone":
        self.chunks.put(error)
        return self


class LongWhistle(Whistle):
    """A second of sound for ten letters: a test can interrupt it."""

    def __call__(self, text, language, speaker_wav=None):
        return np.repeat(super().__call__(text, language, speaker_wav), 10)


def take(events, kind: str) -> list:
    """Takes events up to one of a type."""
    taken = []
    for event in events:
        taken.append(event)
        if event.type == kind:
            return taken
    raise AssertionError(f"the events ended before any {kind}: {[event.type for event in taken]}")


def types(events) -> list[str]:
    """Lists the types of events, those that follow each other once."""
    kinds = [event.type for event in events]
    return [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]


def contents(chat) -> list[str]:
    return [turn["content"] for turn in chat.history]


def test_turns_are_answered_and_remembered(make):
    chat, microphone = make(Talker("Sí.")).conversation(), Microphone().hear(QUIET, SPOKEN, QUIET)
    events = chat.listen(microphone, sampling_rate=RATE)
    first = take(events, "done")
    assert types(first)[:3] == ["turn_began", "turn_ended", "transcript"] and first[0].said is None
    assert len(SPOKEN) / RATE - 0.7 < len(first[1].audio) / 16_000 < len(SPOKEN) / RATE + 0.5
    time.sleep(first[-1].result["audio"].size / 1000)
    microphone.hear(SPOKEN).break_off()  # in the middle of a turn, which its end ends
    second = list(events)
    assert second[0].said is None and second[-1].result["answer"] == "Sí."
    assert contents(chat) == [first[-1].result["question"], "Sí.", second[-1].result["question"], "Sí."]


@pytest.mark.slow
def test_a_pipeline_listens_in_a_conversation_of_its_own(make):
    talker, histories = Talker("Sí."), []
    think = talker.__call__
    pipe = make(lambda question, history=None, **options: histories.append(history) or think(question, **options))
    microphone = Microphone().hear(SPOKEN, QUIET)
    events = pipe.listen(microphone, sampling_rate=RATE, pause=0.5, language="es")
    take(events, "done")
    microphone.hear(SPOKEN, QUIET).break_off()
    list(events)
    assert [len(history) for history in histories] == [0, 2]


def test_a_turn_detector_decides_when_a_turn_ends(make):
    pause, heard = np.zeros(RATE * 9 // 10, np.float32), []

    def is_long(turn):
        heard.append(len(turn) / 16_000)
        return float(len(turn) > 16_000 * 1.5 * len(SPOKEN) / RATE)

    microphone = Microphone().hear(SPOKEN, pause, SPOKEN, QUIET).break_off()
    events = list(make(Talker("Sí.")).listen(microphone, sampling_rate=RATE, turn_detector=is_long))
    assert types(events)[:3] == ["turn_began", "turn_ended", "transcript"] and types(events)[-1] == "done"
    assert len(heard) == 2 and events[1].end - events[1].start > 2 * len(SPOKEN) / RATE


@pytest.mark.slow
def test_who_speaks_into_an_answer_stops_it(make):
    talker = Talker()
    talker.leave = threading.Semaphore(6)  # the first clause and two words more
    chat, microphone = make(talker).conversation(), Microphone().hear(SPOKEN, QUIET)
    events = chat.listen(microphone, sampling_rate=RATE)
    sound = take(events, "audio")[-1]
    assert sound.text == PHRASES[0] and chat.history == []
    time.sleep(len(sound.audio) / sound.sampling_rate)
    microphone.hear(SPOKEN, QUIET)
    began = take(events, "turn_began")[-1]
    assert began.said == PHRASES[0] and contents(chat)[1:] == [PHRASES[0] + "…"]
    talker.leave.release(100)
    assert types(take(events, "done"))[:2] == ["turn_ended", "transcript"]
    assert contents(chat)[1::2] == [PHRASES[0] + "…", ANSWER]
    microphone.break_off()
    assert list(events) == []


@pytest.mark.slow
def test_an_answer_that_is_made_and_still_played_can_be_interrupted(make):
    chat, microphone = make(tts=LongWhistle()).conversation(), Microphone().hear(SPOKEN, QUIET)
    events = chat.listen(microphone, sampling_rate=RATE)
    take(events, "done")
    assert contents(chat)[1] == ANSWER
    microphone.hear(SPOKEN, QUIET).break_off()
    began = next(events)
    assert ANSWER.startswith(began.said) and len(began.said) < len(ANSWER) / 2  # 5.7 s
    assert contents(chat)[1] == began.said + "…"
    assert [event.type for event in events][-1] == "done" and contents(chat)[3] == ANSWER


@pytest.mark.slow
def test_a_question_that_goes_on_before_its_answer_sounds_is_one(make, monkeypatch):
    talker, lengths = Talker(), []
    talker.leave = threading.Semaphore(0)
    chat, microphone = make(talker).conversation(), Microphone().hear(SPOKEN, QUIET)
    hear = Engine.hear
    count = lambda engine, asked, *rest: lengths.append(len(asked[0].samples)) or hear(engine, asked, *rest)  # noqa: E731
    monkeypatch.setattr(Engine, "hear", count)
    events = chat.listen(microphone, sampling_rate=RATE)
    first = take(events, "transcript")[-2]
    microphone.hear(SPOKEN, QUIET)
    assert take(events, "turn_began")[-1].said == "" and chat.history == []
    talker.leave.release(100)
    second = take(events, "done")[0]
    assert lengths == [len(first.audio), len(first.audio) + len(second.audio)] and contents(chat)[1:] == [ANSWER]
    microphone.break_off()
    assert list(events) == []


@pytest.mark.slow
def test_an_answer_that_may_not_be_interrupted_is_not_nor_hears_it_itself(make):
    talker, events, microphone = Talker("Sí."), [], Microphone().hear(SPOKEN, QUIET)
    talker.leave = threading.Semaphore(0)
    chat = make(talker).conversation()
    listening = chat.listen(microphone, sampling_rate=RATE, interrupt=False)
    reader = threading.Thread(target=lambda: events.extend(listening), daemon=True)
    reader.start()
    assert wait_until(lambda: "transcript" in types(events))
    microphone.hear(SPOKEN, QUIET)  # as the loudspeaker says
    assert wait_until(microphone.chunks.empty)
    talker.leave.release(100)
    assert wait_until(lambda: "done" in types(events))
    microphone.hear(SPOKEN[RATE * 3 // 2 :])  # the room's echo
    assert wait_until(microphone.chunks.empty)
    time.sleep(0.8)
    assert types(events)[:3] == ["turn_began", "turn_ended", "transcript"] and types(events)[-1] == "done"
    first = len(events)
    microphone.hear(QUIET, SPOKEN, QUIET).break_off()
    reader.join(10)
    assert not reader.is_alive() and types(events[first:])[:2] == ["turn_began", "turn_ended"]
    assert len(SPOKEN) / RATE - 0.7 < len(events[first + 1].audio) / 16_000 < len(SPOKEN) / RATE + 0.5
    assert contents(chat)[1::2] == ["Sí.", "Sí."]


@pytest.mark.slow
def test_what_a_chunk_holds_behind_a_turn_is_part_of_no_later_one(make):
    chunks, has_answered = [np.concatenate([SPOKEN, QUIET, SPOKEN]), QUIET], threading.Event()

    def microphone():
        yield chunks[0]
        assert has_answered.wait(10)
        time.sleep(0.8)
        yield chunks[1]

    events = make(Talker("Sí.")).listen(microphone(), sampling_rate=RATE, interrupt=False)
    assert types(take(events, "done"))[:2] == ["turn_began", "turn_ended"]
    has_answered.set()
    assert list(events) == []


def test_silence_and_noise_are_waited_out(make):
    noise = np.random.default_rng(0).normal(0, 0.2, RATE * 3).astype(np.float32).clip(-1, 1)
    chat, microphone = make().conversation(), Microphone().hear(QUIET, noise, QUIET).break_off()
    assert list(chat.listen(microphone, sampling_rate=RATE)) == [] and chat.history == []


def test_a_turn_without_a_word_is_told_and_the_next_is_heard(make, monkeypatch):
    pipe = make(Talker("Sí."))
    config, end = pipe.model.generation_config, pipe.tokenizer.eos_token_id
    chat, microphone = pipe.conversation(), Microphone().hear(SPOKEN, QUIET)
    events = chat.listen(microphone, sampling_rate=RATE)
    with monkeypatch.context() as changed:  # this Whisper ends each text at once
        changed.setattr(config, "begin_suppress_tokens", None)
        changed.setattr(config, "suppress_tokens", [i for i in range(pipe.model.config.vocab_size) if i != end])
        assert types(take(events, "unheard")) == ["turn_began", "turn_ended", "unheard"] and chat.history == []
    microphone.hear(SPOKEN, QUIET).break_off()
    began, *_, done = events
    assert began.said is None and done.type == "done" and len(chat.history) == 2


def test_what_the_chunks_raise_is_raised_once_the_turns_before_are_answered(make):
    chat = make().conversation()
    events = chat.listen(Microphone().hear(SPOKEN, QUIET).break_off(OSError("unplugged")), sampling_rate=RATE)
    assert take(events, "done")[-1].result["answer"] == ANSWER
    with pytest.raises(OSError, match="unplugged"):
        next(events)
    assert list(events) == []
    with pytest.raises(ValueError, match="one channel"):
        list(chat.listen([np.zeros((800, 2))]))


@pytest.mark.parametrize("parts, stage", [({"llm": Talker(fails_at=9)}, "llm"), ({"tts": Whistle(fails_at=2)}, "tts")])
def test_an_error_of_a_stage_ends_it(make, parts, stage):
    chat, microphone = make(**parts).conversation(), Microphone().hear(SPOKEN, QUIET)
    events = chat.listen(microphone, sampling_rate=RATE)
    with pytest.raises((RuntimeError, ValueError)) as caught:
        take(events, "done")
    assert caught.value.__notes__ == [f"in the stage {stage!r} of the stream"] and chat.history == []
    microphone.hear(QUIET)
    assert list(events) == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 30])
def test_abandoned_it_leaves_no_thread(make, count, new_threads):
    microphone = Microphone().hear(SPOKEN, QUIET, QUIET, SPOKEN, QUIET)
    events = make().listen(microphone, sampling_rate=RATE)
    for _ in zip(range(count), events, strict=False):
        pass
    del events
    gc.collect()
    microphone.hear(QUIET)  # a chunk that is waited for can't be interrupted
    assert wait_until(lambda: not new_threads())


def test_a_stopped_stream_gives_no_more_and_can_be_cancelled_then(make):
    stream = make().stream(QUESTION)
    assert isinstance(stream, Stream) and take(stream, "audio")[-1].text == PHRASES[0]
    stream.stop()
    assert list(stream) == [] and stream.said() == PHRASES[0] and stream.said(0.0) == "" and stream.result is None
    stream.cancel()
    assert stream.result["answer"] == PHRASES[0]


@pytest.mark.parametrize("options, error", [
    ({"colour": "red"}, TypeError), ({"speaker": "Eva"}, ValueError), ({"pause": -1}, ValueError),
    ({"sampling_rate": 1}, ValueError), ({"compare": True, "speaker_wav": QUESTION}, ValueError),
])  # fmt: skip
def test_options_are_refused_before_anything_is_heard(make, options, error):
    with pytest.raises(error):
        make().conversation().listen([], **options)
