"""Quiet speech is found, and quiet noise stays noise."""

import numpy as np
import pytest

from hfpipe.pipeline.audio import SAMPLING_RATE, resample
from hfpipe.pipeline.audio_vad import LISTENING_BLOCK, find_speech, gain, has_speech


@pytest.fixture(scope="module")
def speech(spoken):
    return resample(*spoken, SAMPLING_RATE)


def seconds(samples) -> float:
    return sum(each["end"] - each["start"] for each in find_speech(samples)) / SAMPLING_RATE


@pytest.mark.parametrize("level", [-30, -50, -70, -80])
def test_speech_is_found_at_any_level(speech, level):
    quiet = (speech * 10 ** (level / 20) / np.sqrt(np.mean(speech**2))).astype(np.float32)
    assert seconds(quiet) == pytest.approx(seconds(speech), abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("level", [-20, -50, -70, -90])
def test_noise_at_any_level_is_none(level):
    noise = np.random.default_rng(0).normal(0, 10 ** (level / 20), 5 * SAMPLING_RATE).astype(np.float32)
    hum = 10 ** (level / 20) * np.sin(np.arange(5 * SAMPLING_RATE) * 2 * np.pi * 50 / SAMPLING_RATE).astype(np.float32)
    dither = (np.round(noise / 10 ** (level / 20) / 3) / 32768).astype(np.float32)
    assert not any(has_speech(each) for each in (noise, hum, dither))


def test_a_quiet_part_of_a_loud_recording_is_heard_too(speech):
    pause = np.zeros(LISTENING_BLOCK - len(speech), np.float32)
    both = np.concatenate([speech, pause, (speech * 1e-3).astype(np.float32)])
    assert seconds(both) == pytest.approx(2 * seconds(speech), abs=0.3)


def test_only_what_is_quiet_is_made_louder(speech):
    assert gain(speech) == 1 and gain(np.zeros(100, np.float32)) == 1 and gain(np.zeros(0, np.float32)) == 1
    assert gain((speech * 1e-2).astype(np.float32)) > 10
    clicked = (speech * 1e-2).astype(np.float32)
    clicked[1000:1010] = 1
    assert gain(clicked) == pytest.approx(gain((speech * 1e-2).astype(np.float32)), rel=0.2)
    assert find_speech(np.zeros(0, np.float32)) == []
