"""Turns begin where somebody speaks and end where they pause, however the audio is cut."""

import functools
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
from conftest import EXAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st

from hfpipe.pipeline.audio import SAMPLING_RATE, has_speech, resample
from hfpipe.pipeline.live_endpointer import Endpointer

QUESTION, RATE = soundfile.read(EXAMPLES / "pregunta.wav", dtype="float32")  # 2.1 s, the first and last 0.2 s silent
SPEECH = resample(QUESTION, RATE, SAMPLING_RATE)[3_200:-3_200]  # without these


def silence(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.zeros(round(seconds * rate), np.float32)


def cut(audio: np.ndarray, ends=()) -> list[np.ndarray]:
    return np.split(audio, sorted(ends))


def listen(chunks, rate=RATE, **options) -> list:
    endpointer = Endpointer(rate, **options)
    return [event for chunk in chunks for event in endpointer.push(chunk)] + endpointer.finish()


def types(events) -> list[str]:
    return [event.type for event in events]


TWO_TURNS = np.concatenate([silence(1.0), QUESTION, silence(0.8), QUESTION])


@functools.cache
def two_turns():
    return listen([TWO_TURNS])


def test_questions_with_a_pause_between_are_two_turns():
    assert types(two_turns()) == ["turn_began", "turn_ended"] * 2
    for event in two_turns()[1::2]:
        assert event.audio.dtype == np.float32 and event.sampling_rate == SAMPLING_RATE
        assert len(SPEECH) < len(event.audio) < len(SPEECH) + SAMPLING_RATE and has_speech(event.audio)


def test_a_shorter_pause_does_not_split_a_turn():
    assert types(listen([TWO_TURNS], pause=1.6)) == ["turn_began", "turn_ended"]
    assert types(listen([np.concatenate([QUESTION[: RATE * 2], QUESTION])])) == ["turn_began", "turn_ended"]


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(0, len(TWO_TURNS)), max_size=9)
    | st.integers(100, 9_000).map(lambda size: range(size, len(TWO_TURNS), size))
)
def test_turns_depend_on_the_audio_and_not_on_how_it_is_cut(ends):
    events = listen(cut(TWO_TURNS, ends))
    assert types(events) == types(two_turns())
    for event, whole in zip(events[1::2], two_turns()[1::2], strict=True):
        assert np.array_equal(event.audio, whole.audio) and event.start == whole.start


SYLLABLE = QUESTION[RATE * 8 // 10 : RATE * 95 // 100]  # 0.15 s of speech


def clicks() -> np.ndarray:
    samples, draw = silence(12.0), np.random.default_rng(0)
    for start in range(0, len(samples), RATE):
        samples[start : start + RATE // 50] = draw.uniform(-1, 1, RATE // 50)
    return samples


@pytest.mark.parametrize("audio", [
    silence(5.0),
    np.random.default_rng(0).normal(0, 0.2, RATE * 10).astype(np.float32).clip(-1, 1),
    0.5 * np.sin(np.arange(RATE * 5) * 2 * np.pi * 220 / RATE),
    clicks(),
    np.tile(np.concatenate([silence(0.6), SYLLABLE]), 8),
], ids=["silence", "noise", "tone", "clicks", "syllables"])  # fmt: skip
def test_what_is_no_speech_makes_no_turn(audio):
    assert listen([audio]) == []


def test_a_turn_begins_before_it_ends_and_soon():
    endpointer, when = Endpointer(SAMPLING_RATE), {}
    for number, chunk in enumerate(np.split(np.concatenate([SPEECH, silence(1.6)])[:48_000], 150)):  # of 20 ms
        for event in endpointer.push(chunk):
            when[event.type] = number * 0.02
    assert when["turn_began"] < 0.5 and 0.4 < when["turn_ended"] - len(SPEECH) / SAMPLING_RATE < 1.0


def test_a_turn_keeps_a_moment_from_before_its_first_sound():
    for pause in (0.75, 1.5):  # the first turn ends 0.7 s into it
        audio = np.concatenate([SPEECH, silence(pause, SAMPLING_RATE), SPEECH])
        *_, last = listen([audio], SAMPLING_RATE)
        assert 0.2 < (len(last.audio) - len(SPEECH)) / SAMPLING_RATE < 0.4


def test_a_turn_says_where_in_the_audio_it_is():
    audio = np.concatenate([silence(2.0, SAMPLING_RATE), SPEECH, silence(1.5, SAMPLING_RATE), SPEECH])
    endpointer = Endpointer(SAMPLING_RATE, margin=0.5)
    for _ in range(2):  # since its end it counts afresh
        events = [event for chunk in cut(audio, range(700, len(audio), 700)) for event in endpointer.push(chunk)]
        events += endpointer.finish()
        for began, ended in zip(events[::2], events[1::2], strict=True):
            assert began.at == ended.start
            assert np.array_equal(ended.audio, audio[round(ended.start * 16_000) : round(ended.end * 16_000)])
        first, second = events[1::2]
        assert first.start == pytest.approx(1.5, abs=0.1)
        assert first.end == pytest.approx(2.5 + len(SPEECH) / SAMPLING_RATE, abs=0.2)
        assert second.end == len(audio) / SAMPLING_RATE


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_where_a_turn_is_does_not_depend_on_the_rate(rate):
    audio = np.concatenate([silence(2.0, SAMPLING_RATE), SPEECH, silence(1.0, SAMPLING_RATE)])
    [_, expected] = listen([audio], SAMPLING_RATE)
    [_, turn] = listen([resample(audio, SAMPLING_RATE, rate)], rate)
    assert (turn.start, turn.end) == pytest.approx((expected.start, expected.end), abs=0.1)


def test_the_margin_is_what_a_turn_keeps_around_its_speech():
    audio = np.concatenate([silence(1.5, SAMPLING_RATE), SPEECH, silence(1.5, SAMPLING_RATE)])
    [_, bare], [_, wide] = (listen([audio], SAMPLING_RATE, margin=margin, pause=1.2) for margin in (0, 1))
    assert (bare.start - wide.start, wide.end - bare.end) == pytest.approx((1, 1), abs=0.05)


def test_a_higher_threshold_hears_less_as_speech():
    noisy = TWO_TURNS + np.random.default_rng(0).normal(0, 0.03, len(TWO_TURNS)).astype(np.float32)
    seconds = {}
    for threshold in (0.1, 0.5, 0.95, 1):
        turns = listen([noisy], threshold=threshold, margin=0)[1::2]
        seconds[threshold] = sum(turn.end - turn.start for turn in turns)
    assert seconds[0.1] >= seconds[0.5] > seconds[0.95] > seconds[1] == 0


PAUSES = np.concatenate([SPEECH, silence(0.6, 16_000), SPEECH, silence(1.0, 16_000), SPEECH, silence(3.0, 16_000)])


@pytest.mark.parametrize("probabilities, pause, ends", [
    ([1.0, 1.0, 1.0], None, [(0, 0.2), (1, 0.2), (2, 0.2)]),  # seconds of silence after a question of PAUSES
    ([0.1, 0.1, 0.5], None, [(2, 2.0)]),
    ([0.1, 0.8, 0.4], 2.0, [(1, 0.4), (2, 1.2)]),
    ([1.0, 0.0, 1.0], 0.4, [(0, 0.2), (1, 0.4), (2, 0.2)]),
])  # fmt: skip
def test_a_turn_that_sounds_complete_ends_soon_and_another_late(probabilities, pause, ends):
    left, asked, ended = iter(probabilities), [], []

    def detector(audio):
        asked.append(audio)
        return next(left)

    endpointer = Endpointer(SAMPLING_RATE, pause, detector)
    for start in range(0, len(PAUSES), 512):
        for event in endpointer.push(PAUSES[start : start + 512]):
            if event.type == "turn_ended":
                ended.append((start + 512) / SAMPLING_RATE)
    speech_ends = np.cumsum([len(SPEECH), 9_600 + len(SPEECH), 16_000 + len(SPEECH)]) / SAMPLING_RATE
    assert ended == pytest.approx([speech_ends[question] + seconds for question, seconds in ends], abs=0.15)
    lengths = [len(audio) / SAMPLING_RATE for audio in asked]
    assert len(asked) == 3 and asked[0].dtype == np.float32 and np.array_equal(asked[0], PAUSES[: len(asked[0])])
    assert lengths[0] == pytest.approx(speech_ends[0] + 0.2, abs=0.15)
    if ends[0][0] == 2:  # one turn, and each time the whole of it
        assert np.array_equal(asked[2], PAUSES[: len(asked[2])])


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, len(PAUSES)), max_size=9) | st.just(range(333, len(PAUSES), 333)))
def test_with_a_turn_detector_they_depend_on_the_audio_alone_too(ends):
    def detector(audio):
        return float(np.abs(audio).mean() * 1_000 % 1)

    events, expected = (listen(chunks, 16_000, turn_detector=detector) for chunks in (cut(PAUSES, ends), [PAUSES]))
    assert types(events) == types(expected)
    assert all(np.array_equal(a.audio, b.audio) for a, b in zip(events[1::2], expected[1::2], strict=True))


@pytest.mark.slow
def test_speech_without_end_is_cut_and_nothing_of_it_is_lost():
    audio = np.concatenate([silence(1, SAMPLING_RATE), np.tile(SPEECH, 21)])
    turns = listen([audio], SAMPLING_RATE)[1::2]
    lengths = [len(turn.audio) / SAMPLING_RATE for turn in turns]
    assert len(turns) == 2 and 29.9 < lengths[0] < 30.1
    assert np.array_equal(np.concatenate([turn.audio for turn in turns]), audio[-sum(len(t.audio) for t in turns) :])


def test_what_is_kept_of_noise_is_little():
    endpointer, noise = Endpointer(SAMPLING_RATE), np.random.default_rng(0).normal(0, 0.1, 1_600).astype(np.float32)
    endpointer.push(noise)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(150):  # 15 s, 960 kB
        assert endpointer.push(noise) == []
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000


@pytest.mark.slow
def test_integers_and_a_column_are_heard_as_floats_are():
    integers = (TWO_TURNS * 32_767).astype(np.int16)
    floats = integers / np.float32(32_768)
    expected = listen([floats])
    assert types(expected) == types(two_turns())
    for audio in (integers, integers[:, None], torch.from_numpy(floats), floats.tolist()):
        events = listen([audio[:30_000], audio[30_000:30_000], audio[30_000:]])
        assert all(np.array_equal(a.audio, b.audio) for a, b in zip(events[1::2], expected[1::2], strict=True))


@pytest.mark.slow
def test_two_that_listen_at_once_do_not_disturb_each_other():
    first, second, events = Endpointer(RATE), Endpointer(RATE), []
    for chunk in np.array_split(TWO_TURNS, 60):
        events += first.push(chunk)
        second.push(chunk[::-1])
        has_speech(SPEECH[:3_000])
    events += first.finish()
    assert all(np.array_equal(a.audio, b.audio) for a, b in zip(events[1::2], two_turns()[1::2], strict=True))


def test_after_its_end_it_hears_afresh():
    endpointer = Endpointer(RATE)
    for _ in range(2):
        events = endpointer.push(TWO_TURNS) + endpointer.finish()
        assert all(np.array_equal(a.audio, b.audio) for a, b in zip(events[1::2], two_turns()[1::2], strict=True))


@pytest.mark.parametrize("chunk, error, reason", [
    (np.zeros((160, 2)), ValueError, r"\(160, 2\); valid is \(samples,\)"),
    (np.float32(0), ValueError, "one channel"),
    (np.array([0.0, np.nan]), ValueError, "NaN"),
    (np.array([0.0, 20_000.0]), ValueError, "int16"),
    ("microphone", ValueError, "one channel"),
    (["a", "b"], TypeError, "no samples"),
])  # fmt: skip
def test_a_chunk_that_is_no_sound_is_refused(chunk, error, reason):
    with pytest.raises(error, match=reason):
        Endpointer(RATE).push(chunk)


@pytest.mark.parametrize("options, reason", [
    ({"pause": 0}, "valid is 0.1 to 10"), ({"pause": float("nan")}, "valid is 0.1 to 10"),
    ({"margin": -0.1}, "margin is -0.1; valid is 0.0 to 10"), ({"threshold": 1.5}, "is 1.5; valid is 0.0 to 1"),
    ({"sampling_rate": 0}, "valid is 1000"), ({"sampling_rate": "16k"}, "whole number of Hz"),
])  # fmt: skip
def test_options_that_cannot_be_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        Endpointer(**options)
