"""Audio as callers have it: Gradio's pairs, file objects and uploads, data: URLs, bytes of every kind."""

import base64
import io
import shutil
import subprocess
import tempfile
import urllib.parse
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from conftest import EXAMPLES
from ffmpeg import convert, needs_ffmpeg

from hfpipe.pipeline.audio import load_audio, load_reference
from hfpipe.pipeline.audio_decode import decode

RATE = 24_000
TONE = (0.5 * np.sin(np.arange(RATE) * 2 * np.pi * 220 / RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def data():
    buffer = io.BytesIO()
    soundfile.write(buffer, TONE, RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


class Pipe(io.RawIOBase):
    """A stream that can't seek, and gives a few bytes at a time."""

    def __init__(self, data):
        self.rest = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.rest.readinto(memoryview(buffer)[:1000])


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize(
    "rate", [RATE, np.int64(RATE), float(RATE), np.float32(RATE), np.array(RATE), torch.tensor(RATE)]
)
def test_a_rate_and_samples_as_gradio_has_them(dtype, rate):
    kind = np.dtype(dtype)
    scale = 1 if kind.kind == "f" else np.iinfo(kind).max // (1 if kind.kind == "i" else 2)
    samples = (TONE.astype(np.float64) * scale + (scale if kind.kind == "u" else 0)).astype(kind)
    for pair in ((rate, samples), [rate, samples], (samples, rate), (rate, np.stack([samples] * 2, axis=1))):
        loaded, found = load_audio(pair)
        assert found == RATE and loaded.dtype == np.float32
        np.testing.assert_allclose(loaded, TONE, atol=2e-2 if kind.itemsize == 1 else 1e-4)


@pytest.mark.parametrize("samples", [TONE.tolist(), torch.from_numpy(TONE), torch.from_numpy(TONE)[None]])
def test_samples_of_a_pair_may_be_a_list_or_a_tensor(samples):
    np.testing.assert_array_equal(load_audio((RATE, samples))[0], TONE)


@pytest.mark.parametrize("bad, words", [
    ((0, TONE), "sampling rate is 0"), ((16_000.5, TONE), "whole number of Hz"), ((RATE, TONE[:0]), "no samples"),
    ((float("nan"), TONE), "whole number of Hz"), ((float("inf"), TONE), "whole number of Hz"),
    ((True, TONE), "valid audio is"), (("16000", TONE), "valid audio is"), ((None, TONE), "valid audio is"),
    ((RATE, None), "valid audio is"), ((RATE, TONE.astype(bool)), "valid audio is"),
    ((RATE, TONE, TONE), "valid audio is"),
    ((RATE, [[0.0], [0.0, 0.1]]), "valid audio is"), (object(), "valid audio is"),
    (io.StringIO("RIFF"), "mode 'rb'"),
    ("data:audio/wav;base64", "no comma"), ("data:audio/wav;base64,????", "valid base64"), ("data:,", "empty"),
    ("data:audio/wav;base64,aG9sYQ==", "no audio that libsndfile|FFmpeg can read"),
    ("x" * 5000, "no path of an audio"),
    ("a\0b.wav", "no path of an audio"), ("", "no audio file"), (io.BytesIO(), "empty"), (bytearray(), "empty"),
    ("ftp://127.0.0.1/a.wav", "no audio file"), ("http://[::1", "could not download"),
    ("HTTP://127.0.0.1:9/a", "could not download"),
])  # fmt: skip
def test_what_is_no_audio_is_refused_clearly(bad, words):
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=words) as refused:
        load_audio(bad)
    assert len(str(refused.value)) < 700


def test_file_objects_are_read_from_their_start_and_left_open(data, tmp_path):
    (tmp_path / "tone.wav").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "tone.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tone.wav", data)
    with (
        open(tmp_path / "tone.wav", "rb") as opened,
        open(tmp_path / "tone.wav", "rb", buffering=0) as unbuffered,
        tempfile.SpooledTemporaryFile(max_size=100) as spooled,
        tempfile.NamedTemporaryFile() as named,
        zipfile.ZipFile(tmp_path / "tone.zip").open("tone.wav") as zipped,
    ):
        spooled.write(data)  # and stands at its end
        named.write(data)
        upload = SimpleNamespace(file=spooled, filename="tone.wav", read=None)
        for file in (opened, unbuffered, spooled, named, upload, zipped, io.BytesIO(data), io.BytesIO(data)):
            for _ in range(2):
                np.testing.assert_array_equal(load_audio(file)[0], TONE)
        assert not opened.closed and not spooled.closed
    with pytest.raises(ValueError, match="closed"):
        load_audio(opened)


def test_a_stream_that_cannot_seek_is_read_to_its_end(data):
    for pipe in (Pipe(data), io.BufferedReader(Pipe(data))):
        np.testing.assert_array_equal(load_audio(pipe)[0], TONE)


def test_an_upload_of_which_read_is_a_coroutine(data):
    class Upload:
        def __init__(self, file):
            self.file, self.filename = file, "tone.wav"

        async def read(self, size=-1):
            raise AssertionError

    np.testing.assert_array_equal(load_audio(Upload(io.BytesIO(data)))[0], TONE)
    with pytest.raises(ValueError, match="'tone.wav'"):
        load_audio(Upload(io.BytesIO(b"nothing")))


def test_bytes_of_every_kind(data):
    for source in (data, bytearray(data), memoryview(data), {"bytes": bytearray(data)}, {"bytes": memoryview(data)}):
        np.testing.assert_array_equal(load_audio(source)[0], TONE)


def test_data_urls(data):
    plain = base64.b64encode(data).decode()
    wrapped = "\n".join(plain[i : i + 76] for i in range(0, len(plain), 76))
    for url in (
        f"data:audio/wav;base64,{plain}", f"DATA:audio/WAV;Base64,{plain}", f"data:;base64,{plain}",
        f"data:audio/wav;codecs=1;base64,{plain}", f"data:audio/webm; codecs=opus;base64,{plain}",
        f"data:audio/wav;base64,{wrapped}", f"  data:audio/wav;base64,{plain}\n",
        f"data:audio/wav;base64,{base64.urlsafe_b64encode(data).decode().rstrip('=')}",
        f"data:audio/wav;base64,{urllib.parse.quote(plain, safe='')}",
        f"data:audio/wav,{urllib.parse.quote(data)}", f"data:,{urllib.parse.quote(data)}",
    ):  # fmt: skip
        np.testing.assert_array_equal(load_audio(url)[0], TONE)
        np.testing.assert_array_equal(load_audio({"path": url, "bytes": None})[0], TONE)


def test_a_data_url_opens_nothing(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("builtins.open", None)
    monkeypatch.setattr("urllib.request.urlopen", None)
    for inside in ("/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/"):
        with pytest.raises(ValueError, match="the data: URL is no audio"):
            load_audio(f"data:,{inside}")


@pytest.mark.slow
def test_references_of_every_kind(voice):
    data = open(voice, "rb").read()
    samples, rate = soundfile.read(voice, dtype="int16")
    expected = load_reference(voice)[0]
    url = f"data:audio/wav;base64,{base64.b64encode(data).decode()}"
    for one in ((rate, samples), (samples, rate), io.BytesIO(data), open(voice, "rb"), bytearray(data), url):
        for given in (one, [one], [one, one]):
            references = load_reference(given)
            assert len(references) == (2 if given == [one, one] else 1) if not isinstance(one, tuple) else references
            assert all(reference.sha256 == expected.sha256 for reference in references)
    assert len(load_reference([(rate, samples), voice])) == 2


@pytest.mark.slow
def test_the_pipeline_takes_them_all(voice_qa):
    path = EXAMPLES / "pregunta.wav"
    samples, rate = soundfile.read(path, dtype="int16")
    data = path.read_bytes()
    url = f"data:audio/wav;base64,{base64.b64encode(data).decode()}"
    expected = voice_qa(str(path))["question"]
    for question in (
        path,
        (rate, samples),
        (rate, np.stack([samples] * 2, 1)),
        io.BytesIO(data),
        url,
        bytearray(data),
    ):
        assert voice_qa(question)["question"] == expected
    answers = voice_qa([(rate, samples), io.BytesIO(data), url], batch_size=3)
    assert [answer["question"] for answer in answers] == [expected] * 3
    stream = list(voice_qa.stream((rate, samples)))
    assert stream[-1].result["question"] == expected


@needs_ffmpeg
@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["m4a", "mp4", "mov", "webm", "mkv", "aac", "wma"])
def test_a_memo_of_a_phone_is_heard_whole(suffix, tmp_path):
    """An m4a of more than a pipe's buffer has its table of contents behind the sound."""
    path = tmp_path / f"-memo.{suffix}"
    command = ["ffmpeg", "-v", "error", "-stream_loop", "1", "-i", EXAMPLES / "voz.wav", "-ar", "48000"]
    subprocess.run([*command, "-b:a", "128k", f"file:{path}"], check=True)
    assert path.stat().st_size > 100_000
    expected = 2 * soundfile.info(EXAMPLES / "voz.wav").duration
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes()), open(path, "rb")):
        samples, rate = load_audio(source, 16_000)
        assert rate == 16_000 and len(samples) / rate == pytest.approx(expected, abs=0.2)
    assert not list(tmp_path.glob("hfpipe-*"))


@pytest.mark.slow
@needs_ffmpeg
def test_a_cut_memo_is_truncated(tmp_path):
    for name, options in (("a.m4a", []), ("b.m4a", ["-movflags", "faststart"])):
        convert(EXAMPLES / "voz.wav", tmp_path / name, *options)
        data = (tmp_path / name).read_bytes()
        with pytest.raises(ValueError, match="truncated|no audio that libsndfile or FFmpeg can read"):
            load_audio(data[: len(data) // 2])


@needs_ffmpeg
@pytest.mark.slow
@pytest.mark.parametrize("text", [
    "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
    "ffconcat version 1.0\nfile '{path}'\n",
    "v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{path}</BaseURL></MPD>',
])  # fmt: skip
def test_a_playlist_opens_nothing(text, tmp_path):
    (tmp_path / "secret.m4a").write_bytes(b"")
    convert(EXAMPLES / "voz.wav", tmp_path / "secret.m4a")
    for name in ("list.m3u8", "list.txt", "list.m4a"):
        (tmp_path / name).write_text(text.format(path=tmp_path / "secret.m4a"))
        for source in (tmp_path / name, (tmp_path / name).read_bytes()):
            with pytest.raises(ValueError, match="no audio that libsndfile or FFmpeg can read"):
                load_audio(source)


@needs_ffmpeg
def test_a_video_gives_its_sound(tmp_path):
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=d=3:s=64x64", "-i", EXAMPLES / "pregunta.wav"]
    subprocess.run([*command, "-shortest", tmp_path / "video.mp4"], check=True)
    assert load_audio(tmp_path / "video.mp4")[0].any()
    subprocess.run([*command[:-2], tmp_path / "silent.mp4"], check=True)
    with pytest.raises(ValueError, match="no audio"):
        load_audio(tmp_path / "silent.mp4")


def test_ffmpeg_that_hangs_is_ended(monkeypatch, tmp_path):
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("hfpipe.pipeline.audio_decode.FFMPEG_TIMEOUT", 0.2)
    with pytest.raises(ValueError, match="no audio that libsndfile or FFmpeg can read"):
        decode(io.BytesIO(b"no audio"), "it")
