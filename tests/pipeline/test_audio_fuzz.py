"""Damaged audio files: what libsndfile or FFmpeg hears is heard, anything else is a clear ValueError."""

import io
import re
import shutil
import warnings
from unittest import mock

import numpy as np
import pytest
import soundfile
from conftest import EXAMPLES
from ffmpeg import convert, needs_ffmpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hfpipe.pipeline.audio import load_audio

RATE = 16_000
HEADER = 200  # bytes
CLEAR = r"truncated|damaged|no audio|no samples|is empty|sampling rate|channels|NaN or infinite|float samples"


def encode(kind, subtype=None) -> bytes:
    samples = 0.3 * np.sin(np.arange(2 * RATE) * 0.1) + np.random.default_rng(0).normal(0, 0.05, 2 * RATE)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format=kind, subtype=subtype)
    return buffer.getvalue()


FILES = {
    "wav": encode("WAV"),
    "wavex": encode("WAVEX", "FLOAT"),
    "rf64": encode("RF64"),
    "flac": encode("FLAC"),
    "mp3": encode("MP3"),
    "ogg": encode("OGG", "VORBIS"),
    "opus": encode("OGG", "OPUS"),
    "aiff": encode("AIFF"),
}


@st.composite
def damages(draw):
    """Draw what to do to a file: (kind, share of the file or of its header where it is done, value) up to 4 times."""
    one = st.tuples(
        st.sampled_from(("set", "flip", "cut", "insert", "delete", "zero", "ones")),
        st.booleans(),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 255),
    )
    return draw(st.lists(one, min_size=1, max_size=4))


def damage(data: bytes, changes) -> bytes:
    changed = bytearray(data)
    for kind, in_header, where, value in changes:
        position = int(where * (min(HEADER, len(changed)) if in_header else len(changed)))
        if kind in ("set", "flip") and changed:
            changed[position] = value if kind == "set" else changed[position] ^ value
        elif kind == "cut":
            del changed[position:]
        elif kind == "insert":
            changed[position:position] = bytes([value]) * (value % 40)
        elif kind == "delete":
            del changed[position : position + value % 40]
        else:
            changed[position : position + 4] = (b"\0" if kind == "zero" else b"\xff") * 4
    return bytes(changed)


class Stream(soundfile.SoundFile):
    def seekable(self):
        return False


def libsndfile_hears(data: bytes) -> np.ndarray | None:
    """Return the samples (frames, channels) that libsndfile reads until the end or an error; None if it opens none."""
    try:
        with Stream(io.BytesIO(data)) as file:
            blocks, buffer = [], np.empty((1152, file.channels), np.float32)
            while len(block := file.read(out=buffer)):
                blocks.append(block.copy())
                if len(blocks) > 1000:
                    return None
    except soundfile.LibsndfileError:
        return None
    return np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)


def check(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a little short
        try:
            samples, rate = load_audio(data)
        except ValueError as error:
            assert re.search(CLEAR, str(error)), error
            return
    assert samples.dtype == np.float32 and samples.ndim == 1 and len(samples) and np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1 and 1_000 <= rate <= 768_000
    heard = libsndfile_hears(data)
    if heard is not None:
        mono = np.clip(heard.mean(axis=1, dtype=np.float64), -1, 1)
        assert len(samples) >= len(mono)  # it is longer where the header says less than there is
        if len(samples) == len(mono):
            np.testing.assert_allclose(samples, mono, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@given(changes=damages())
@settings(max_examples=150, deadline=5_000, suppress_health_check=list(HealthCheck))
def test_a_damaged_file_is_heard_or_refused(kind, changes):
    with mock.patch.object(shutil, "which", return_value=None):
        check(damage(FILES[kind], changes))


@pytest.fixture(scope="module")
def memo(tmp_path_factory):
    path = tmp_path_factory.mktemp("memo") / "memo.m4a"
    convert(EXAMPLES / "pregunta.wav", path)
    return path.read_bytes()


@pytest.mark.slow
@needs_ffmpeg
@given(changes=damages())
@settings(max_examples=25, deadline=20_000, suppress_health_check=list(HealthCheck))
def test_a_damaged_memo_is_heard_or_refused(memo, changes):
    check(damage(memo, changes))
