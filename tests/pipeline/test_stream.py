"""A stream gives a plain call's answer as it comes, can be stopped anywhere, and leaves no thread behind."""

import contextlib
import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from conftest import EXAMPLES
from own_parts import ANSWER, PHRASES, QUESTION, Talker, Whistle, wait_until

from hfpipe.pipeline.engine_cancel import (
    Cancelled,
    CancelToken,
    add_cancel_hooks,
    cancel_scope,
    current_token,
    raise_if_cancelled,
)
from hfpipe.pipeline.live_stream import Channel, Closed

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def test_events_come_in_order_and_are_the_plain_call(make):
    pipe = make()
    plain = pipe(QUESTION)
    events = list(pipe.stream(QUESTION))
    kinds = [event.type for event in events]
    assert kinds[0] == "transcript" and kinds[-1] == "done" and kinds.count("done") == kinds.count("transcript") == 1
    assert (events[0].text, events[0].language) == (plain["question"], "es")
    assert "".join(event.text for event in events if event.type == "text") == plain["answer"] == ANSWER
    sounds = [event for event in events if event.type == "audio"]
    assert [event.text for event in sounds] == PHRASES
    assert np.array_equal(np.concatenate([event.audio for event in sounds]), plain["audio"])
    result = events[-1].result
    assert np.array_equal(result.pop("audio"), plain.pop("audio"))
    timings, others = result.pop("timings"), plain.pop("timings")
    assert result == plain and set(timings) == set(others)
    assert 0 <= timings["overlap"] <= 1 and 0 < timings["llm_first_token"] <= timings["llm"] < timings["total"]


@pytest.mark.slow
def test_tiny_models_give_the_same_both_ways(voice_qa):
    for options in ({"max_new_tokens": 40}, {"max_new_tokens": 3, "language": None}):
        torch.manual_seed(0)
        plain = voice_qa(QUESTION, **options)
        torch.manual_seed(0)
        *_, done = voice_qa.stream(QUESTION, **options)
        assert done.result["answer"] == plain["answer"] and done.result["language"] == plain["language"]
        np.testing.assert_allclose(done.result["audio"], plain["audio"], atol=1e-5)


def test_the_first_phrase_sounds_before_the_answer_is_thought(make):
    talker = Talker()
    talker.leave = threading.Semaphore(6)  # "Por supuesto que sí, te lo": the word behind the clause is whole
    stream = make(talker).stream(QUESTION)
    for event in stream:
        if event.type == "audio":
            break
    assert event.text == PHRASES[0] and stream.result is None
    talker.leave.release(100)
    assert [event.text for event in stream if event.type == "audio"] == PHRASES[1:]
    assert stream.result["answer"] == ANSWER


def test_an_llm_and_a_voice_that_cannot_stream_are_streamed_whole(make):
    class Oracle:
        def __call__(self, question, language):
            return ANSWER

    events = list(make(Oracle()).stream(QUESTION))
    assert [event.text for event in events if event.type == "text"] == [ANSWER]
    assert [event.text for event in events if event.type == "audio"] == PHRASES


@pytest.mark.parametrize("parts, stage, reason", [
    ({"llm": Talker(fails_at=9)}, "llm", "lost its tongue"),
    ({"tts": Whistle(fails_at=2)}, "tts", "whistle broke"),
])  # fmt: skip
def test_an_error_ends_the_stream_and_names_its_stage(make, parts, stage, reason):
    stream = make(**parts).stream(QUESTION)
    heard = []
    with pytest.raises((RuntimeError, ValueError), match=reason) as caught:
        heard += stream
        heard.extend(stream)
    assert caught.value.__notes__ == [f"in the stage {stage!r} of the stream"]
    assert stream.result is None and list(stream) == []
    stream.cancel()
    assert stream.result is None


@pytest.mark.slow
def test_a_stream_that_failed_is_forgotten(make):
    """Its error's traceback holds the stream, and nothing may hold the error."""
    stream = make(Talker(fails_at=9)).stream(QUESTION)
    with contextlib.suppress(RuntimeError):
        list(stream)
    work = weakref.ref(stream._work)
    del stream
    gc.collect()
    assert work() is None


def test_silence_is_refused_in_the_stage_that_hears(make):
    with pytest.raises(ValueError, match="no speech") as caught:
        list(make().stream({"array": np.zeros(16_000, np.float32), "sampling_rate": 16_000}))
    assert caught.value.__notes__ == ["in the stage 'asr' of the stream"]


@pytest.mark.slow
@pytest.mark.parametrize("events", [0, 1, 3, 8, 40])
def test_an_abandoned_stream_leaves_no_thread(make, events, no_thread_is_left):
    stream = make().stream(QUESTION)
    for _ in zip(range(events), stream, strict=False):
        pass
    del stream
    gc.collect()


@pytest.mark.slow
def test_what_was_heard_is_kept_when_it_is_cancelled(make):
    stream = make().stream(QUESTION)
    sounds = [next(event for event in stream if event.type == "audio") for _ in range(3)]
    seconds = [len(event.audio) / 1000 for event in sounds]
    stream.cancel()
    assert stream.result["answer"] == " ".join(PHRASES[:3]) and list(stream) == []
    for played, words in (
        (0.0, ""),
        (seconds[0], PHRASES[0]),
        (seconds[0] + seconds[1] / 2, "Por supuesto que sí, te lo"),
    ):
        stream = make().stream(QUESTION)
        for _ in range(3):
            next(event for event in stream if event.type == "audio")
        stream.cancel(played=played)
        assert stream.result["answer"] == words
    assert set(stream.result) == {"question", "answer", "language"}


def test_cancelling_twice_before_and_after_does_nothing_more(make):
    stream = make().stream(QUESTION)
    stream.cancel()
    stream.cancel()
    assert stream.result is None and list(stream) == []
    stream = make().stream(QUESTION)
    list(stream)
    result = stream.result
    stream.cancel()
    assert stream.result is result


def test_cancel_from_another_thread_wakes_the_reader(make):
    talker = Talker()
    talker.leave = threading.Semaphore(2)
    stream = make(talker).stream(QUESTION)
    events = []
    reader = threading.Thread(target=lambda: events.extend(stream))
    reader.start()
    assert wait_until(lambda: len(events) == 3)
    stream.cancel()
    reader.join(5)
    assert not reader.is_alive() and [event.type for event in events] == ["transcript", "text", "text"]


def test_a_layer_stops_where_the_token_is_cancelled():
    layers = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(3)])
    add_cancel_hooks(layers)
    token, count = CancelToken(), 0
    assert current_token() is None and layers[0](torch.zeros(2)).shape == (2,)
    with pytest.raises(Cancelled), cancel_scope(token):
        for layer in layers:
            layer(torch.zeros(2))
            count += 1
            token.cancel()
    assert count == 1 and current_token() is None
    raise_if_cancelled()  # there is no token here


def test_a_callback_is_called_once():
    calls, token = [], CancelToken()
    with token.on_cancel(lambda: calls.append("over")):
        pass
    with token.on_cancel(lambda: calls.append("within")):
        token.cancel()
    with token.on_cancel(lambda: calls.append("after")):
        pass
    assert calls == ["within", "after"]


def test_a_channel_waits_for_room_and_wakes_when_it_is_closed():
    channel, put = Channel(2), []

    def fill():
        with pytest.raises(Closed):
            for number in range(9):
                channel.put(number)
                put.append(number)

    thread = threading.Thread(target=fill)
    thread.start()
    assert wait_until(lambda: len(put) == 2)
    assert next(iter(channel)) == 0 and wait_until(lambda: len(put) == 3)
    channel.close()
    thread.join(5)
    assert not thread.is_alive() and list(channel) == []
    finished = Channel(2)
    finished.put("last")
    finished.finish()
    assert list(finished) == ["last"]


def test_a_stream_refuses_what_a_plain_call_refuses(make):
    pipe = make()
    with pytest.raises(ValueError, match="one voice"):
        pipe.stream(QUESTION, compare=True, speaker_wav=str(EXAMPLES / "voz.wav"))
    with pytest.raises(TypeError, match="valid are"):
        pipe.stream(QUESTION, colour="red")
    with pytest.raises(ValueError, match="no speaker"):
        pipe.stream(QUESTION, speaker="Eva")
