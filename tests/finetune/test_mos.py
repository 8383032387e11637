"""The estimate of opinion scores ranks recordings as their damage does, and agrees with the package it comes from."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from finetune.voice.mos import RATE, WINDOW, estimate_mos
from hfpipe.pipeline.audio import load_audio, resample

VOICE = Path(__file__).parent.parent.parent / "examples" / "voz.wav"
THEIRS = """
import json, sys
import numpy as np
from speechmos import dnsmos
found = dnsmos.run(np.load(sys.argv[1]), 16000)
print(json.dumps([float(found[key]) for key in ("sig_mos", "bak_mos", "ovrl_mos")]))
"""


@pytest.fixture(scope="module")
def voice():
    samples, rate = load_audio(VOICE)
    return resample(samples, rate, RATE)[:WINDOW]


def mixed(voice, other, decibels):
    """Adds a sound that is so many decibels below the voice."""
    other = other / np.sqrt(np.mean(other**2)) * np.sqrt(np.mean(voice**2)) / 10 ** (decibels / 20)
    return (voice + other).clip(-1, 1).astype(np.float32)


def test_damage_lowers_the_scores(voice):
    clean = estimate_mos(voice)
    noise = np.random.default_rng(0).standard_normal(len(voice))
    music = sum(np.sin(2 * np.pi * pitch * np.arange(len(voice)) / RATE) for pitch in (220, 277, 330, 440))
    assert clean.overall > 2.7 and clean.background > 3
    little, much = (estimate_mos(mixed(voice, noise, decibels)) for decibels in (25, 5))
    assert clean.background > little.background > much.background
    assert clean.overall > little.overall > much.overall
    assert estimate_mos(mixed(voice, music, 10)).background < clean.background - 1
    assert estimate_mos((5 * voice).clip(-0.5, 0.5)).overall < clean.overall - 0.2


def test_short_and_long_recordings_have_scores(voice):
    assert 1 <= estimate_mos(voice[:100]).overall <= 5
    twice = np.concatenate([voice, voice])
    assert estimate_mos(twice).overall == pytest.approx(estimate_mos(voice).overall, abs=1e-6)
    for wrong in (np.zeros(0, np.float32), np.zeros((1, 9), np.float32)):
        with pytest.raises(ValueError, match=r"valid is \(samples,\)"):
            estimate_mos(wrong)


def test_scores_do_not_depend_on_what_torch_computed_before(voice):
    before = estimate_mos(voice)
    torch.ones(33, 65, dtype=torch.bfloat16) @ torch.ones(65, 17, dtype=torch.bfloat16)
    assert estimate_mos(voice) == before


@pytest.mark.slow
def test_one_window_scores_as_speechmos_does(voice, tmp_path):
    np.save(tmp_path / "voice.npy", voice)
    done = subprocess.run(
        [sys.executable, "-c", THEIRS, tmp_path / "voice.npy"], capture_output=True, text=True, check=True
    )
    assert estimate_mos(voice) == pytest.approx(json.loads(done.stdout), abs=0.01)
