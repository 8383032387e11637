"""Whatever is given becomes float32 mono, or a clear refusal."""

import dataclasses
import io
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from ffmpeg import convert, needs_ffmpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hfpipe.pipeline.audio import (
    SAMPLING_RATE,
    has_speech,
    load_audio,
    load_question,
    load_reference,
    resample,
    write_wav,
)

TONE = (0.5 * np.sin(np.arange(24_000) * 2 * np.pi * 220 / 24_000)).astype(np.float32)  # 1 s


def encode(samples, rate=24_000, kind="WAV", subtype=None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("kind, subtype", [
    ("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"), ("WAV", "ULAW"),
    ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("AIFF", "PCM_16"),
])  # fmt: skip
def test_decodes_file_types_without_ffmpeg(kind, subtype, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    samples, rate = load_audio(encode(TONE, kind=kind, subtype=subtype))
    assert samples.dtype == np.float32 and samples.ndim == 1 and rate == 24_000
    assert abs(len(samples) - len(TONE)) <= 1200
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 192_000])
def test_resamples_any_rate(rate):
    tone = 0.5 * np.sin(np.arange(rate) * 2 * np.pi * 220 / rate)
    samples, got = load_audio({"array": tone, "sampling_rate": rate}, SAMPLING_RATE)
    assert got == SAMPLING_RATE and len(samples) == SAMPLING_RATE
    expected = 0.5 * np.sin(np.arange(SAMPLING_RATE) * 2 * np.pi * 220 / SAMPLING_RATE)
    np.testing.assert_allclose(samples[800:-800], expected[800:-800], atol=0.01)


def memory_mib(name: str) -> float:
    """Return the resident set of this process: "VmRSS" is that of now, "VmHWM" the largest since it was cleared."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the largest resident set")
@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_stereo_of_any_length_takes_little_more_memory_than_its_result(kind, tmp_path):
    """Decoded whole, five minutes took 400 MiB."""
    minute = np.random.default_rng(0).normal(0, 0.1, (60 * 44_100, 2)).astype(np.float32)
    with soundfile.SoundFile(tmp_path / "long", "w", 44_100, 2, format=kind) as file:
        for _ in range(5):
            file.write(minute)
    load_audio(TONE, 8_000)
    del minute
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_mib("VmRSS")
    samples, _ = load_audio(tmp_path / "long", SAMPLING_RATE)
    assert len(samples) == pytest.approx(5 * 60 * SAMPLING_RATE, abs=SAMPLING_RATE)
    assert memory_mib("VmHWM") - before < samples.nbytes / 2**20 + 32


@pytest.mark.parametrize("dtype, scale, offset", [
    (np.int16, 2**15, 0), (np.int32, 2**31, 0), (np.int8, 2**7, 0), (np.uint8, 2**7, 2**7), (np.float64, 1, 0),
    (np.float16, 1, 0),
])  # fmt: skip
def test_scales_sample_types(dtype, scale, offset):
    given_samples = np.array([0, 0.25, -0.5] * 40) * scale + offset
    samples, _ = load_audio(given_samples.astype(dtype))
    np.testing.assert_allclose(samples, [0, 0.25, -0.5] * 40, atol=1e-3)


def test_averages_channels_in_either_order():
    surround = np.stack([TONE * gain for gain in (0, 0.2, 0.4, 0.6, 0.8, 1.0)])
    for layout in (surround, surround.T, torch.from_numpy(surround)):
        np.testing.assert_allclose(load_audio(layout)[0], TONE * 0.5, atol=1e-6)
    np.testing.assert_allclose(load_audio(encode(surround.T, subtype="FLOAT"))[0], TONE * 0.5, atol=1e-6)


def test_takes_every_kind_of_source(tmp_path):
    path = tmp_path / "tone.wav"
    data = encode(TONE, subtype="FLOAT")
    path.write_bytes(data)
    sources = [str(path), path, data, {"bytes": data, "path": None}, {"path": str(path), "bytes": None}]
    sources += [{"array": TONE, "sampling_rate": 24_000}, {"raw": TONE, "sampling_rate": 24_000.0}]
    for source in sources:
        samples, rate = load_audio(source)
        assert rate == 24_000
        np.testing.assert_array_equal(samples, TONE)


@given(arrays.arrays(np.float32, st.integers(1, 400), elements=st.floats(-1, 1, width=32)))
@settings(max_examples=50, deadline=None)
def test_floats_in_range_come_back_unchanged(samples):
    np.testing.assert_array_equal(load_audio(samples)[0], samples)


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused_not_crashed_on(data):
    for prefix in (b"", b"RIFF", b"OggS", b"fLaC", b"FORM", b"ID3"):
        with mock.patch.object(shutil, "which", return_value=None), pytest.raises(ValueError):
            load_audio(prefix + data)


@pytest.mark.parametrize("kind, subtype", [("WAV", "PCM_16"), ("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(kind, subtype, share):
    data = encode(np.random.default_rng(0).normal(0, 0.1, 48_000), kind=kind, subtype=subtype)
    with pytest.raises(ValueError, match="truncated"):
        load_audio(data[: int(len(data) * share)])


@needs_ffmpeg
def test_ffmpeg_reads_what_libsndfile_does_not(tmp_path):
    (tmp_path / "tone.wav").write_bytes(encode(TONE))
    convert(tmp_path / "tone.wav", tmp_path / "tone.m4a")
    samples, rate = load_audio(tmp_path / "tone.m4a")
    assert rate == 48_000 and len(samples) == pytest.approx(48_000, rel=0.1)
    (tmp_path / "nota.m4a").write_text("hola")
    with pytest.raises(ValueError, match="no audio that libsndfile or FFmpeg can read"):
        load_audio(tmp_path / "nota.m4a")


def test_wav_from_a_pipe_has_no_known_size():
    data = bytearray(encode(TONE, subtype="PCM_16"))
    position = data.index(b"data") + 4
    data[position : position + 4] = b"\xff\xff\xff\xff"
    assert len(load_audio(bytes(data))[0]) == len(TONE)


@pytest.mark.parametrize("bad, words", [
    ("nowhere.wav", "no audio file nowhere.wav"),
    (b"", "empty"),
    (b"esto no es un wav\n" * 40, "no audio that libsndfile"),
    (np.zeros(0), "no samples"),
    (np.array([0.0, np.nan]), "NaN"),
    (np.array([0.0, np.inf]), "NaN or infinite"),
    (np.array([0.0, 20_000.0]), "divide by 32768"),
    (np.zeros((40, 40)), "shape"),
    (np.zeros((2, 2, 2)), "shape"),
    (np.array(["a"]), "valid audio is"),
    (None, "valid audio is"),
    ({"array": [0.0], "sampling_rate": "16k"}, "whole number of Hz"),
    ({"array": [0.0], "sampling_rate": 0}, "sampling rate is 0"),
    ({"array": [0.0]}, "keys"),
    ({}, "keys"),
    ("http://127.0.0.1:9/a.wav", "could not download"),
])  # fmt: skip
def test_bad_input_says_what_to_do(bad, words, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=f"(?i){words}"):
        load_audio(bad)


def test_folder_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="audio file"):
        load_audio(tmp_path)


def test_text_named_wav_names_ffmpeg_only_as_one_way(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (tmp_path / "nota.wav").write_text("hola, soy un texto")
    with pytest.raises(ValueError, match="nota.wav.*no audio.*FFmpeg"):
        load_audio(tmp_path / "nota.wav")


def test_speech_is_told_from_silence_and_noise(spoken):
    samples, rate = spoken
    assert has_speech(resample(samples, rate, SAMPLING_RATE))
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * SAMPLING_RATE).astype(np.float32)
    for nothing in (np.zeros(3 * SAMPLING_RATE, np.float32), noise, TONE, np.zeros(1, np.float32)):
        with pytest.raises(ValueError, match="no speech"):
            load_question(nothing)


@pytest.mark.slow
def test_listening_leaves_torch_its_threads(spoken):
    """silero_vad sets one thread for the whole process when it is imported."""
    code = (
        "import torch, numpy; torch.set_num_threads(2); from hfpipe.pipeline.audio import has_speech;"
        "has_speech(numpy.zeros(16000, numpy.float32)); print(torch.get_num_threads())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "2"


def test_reference_keeps_its_rate_and_is_named_by_content(voice):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (reference,) = load_reference(voice)
    assert reference.sampling_rate == soundfile.info(voice).samplerate
    assert reference.sha256 == load_reference([voice])[0].sha256
    assert reference.sha256 != dataclasses.replace(reference, sampling_rate=8_000).sha256
    assert load_reference([reference])[0] is reference


@pytest.mark.parametrize("seconds, words", [(1, "at least 3 s"), (2.9, "at least 3 s")])
def test_short_reference_is_refused(voice, seconds, words):
    samples, rate = soundfile.read(voice, dtype="float32")
    with pytest.raises(ValueError, match=words):
        load_reference({"array": samples[: int(seconds * rate)], "sampling_rate": rate})


def test_several_short_recordings_make_one_reference(voice):
    samples, rate = soundfile.read(voice, dtype="float32")
    pieces = [{"array": samples[i * 2 * rate : (i + 1) * 2 * rate], "sampling_rate": rate} for i in range(2)]
    with pytest.warns(UserWarning, match="4.0 s"):
        assert len(load_reference(pieces)) == 2


def test_clipped_or_silent_reference_is_refused(voice):
    samples, rate = soundfile.read(voice, dtype="float32")
    with pytest.raises(ValueError, match="clipped"):
        load_reference({"array": np.clip(samples * 6, -1, 1), "sampling_rate": rate})
    with pytest.raises(ValueError, match="no speech"):
        load_reference({"array": np.zeros(12 * rate, np.float32), "sampling_rate": rate})
    with pytest.raises(ValueError, match="empty list"):
        load_reference([])


def test_clipping_is_seen_at_a_lower_level_too(voice):
    samples, rate = soundfile.read(voice, dtype="float32")
    with pytest.raises(ValueError, match="clipped"):
        load_reference({"array": np.clip(samples * 6, -1, 1) * 0.3, "sampling_rate": rate})


def test_written_wav_reads_back(tmp_path):
    write_wav(tmp_path / "a.wav", TONE, 24_000)
    samples, rate = load_audio(tmp_path / "a.wav")
    assert rate == 24_000
    np.testing.assert_allclose(samples, TONE, atol=1e-4)


def test_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(Exception):  # noqa: B017 - whatever soundfile raises
        write_wav(tmp_path / "a.wav", np.zeros((2, 2, 2)), 24_000)
    assert list(tmp_path.iterdir()) == []
