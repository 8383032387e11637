"""Whatever a header says of the length, what there is of the sound is heard; what is markedly short is refused."""

import io
import struct
import tempfile
import threading
import warnings

import numpy as np
import pytest
import soundfile
from ffmpeg import convert, needs_ffmpeg

from hfpipe.pipeline.audio import load_audio
from hfpipe.pipeline.engine_cancel import Cancelled, CancelToken, cancel_scope
from hfpipe.pipeline.errors import AudioTooLong

RATE = 24_000
SECONDS = 4
NOISE = (np.random.default_rng(0).normal(0, 0.1, SECONDS * RATE)).astype(np.float32)


def encode(kind, subtype=None, samples=NOISE) -> bytearray:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format=kind, subtype=subtype)
    return bytearray(buffer.getvalue())


def heard(data) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples, _ = load_audio(bytes(data))
        with tempfile.NamedTemporaryFile() as file:  # the disk's file can't seek wherever bytes in memory can
            file.write(data)
            file.flush()
            np.testing.assert_allclose(load_audio(file.name)[0], samples, rtol=0, atol=1e-7)
        return samples


def reference(data) -> np.ndarray:
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]


def wav(samples=NOISE, said=None, before=b"", after=b"", kind=b"RIFF", order="<") -> bytes:
    """Build a 16-bit PCM WAV, with chunks before and after the data, that says another size than there is."""
    pcm = np.round(samples * 32767).astype(f"{order}i2").tobytes()
    fmt = struct.pack(f"{order}HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"WAVE" + before + b"fmt " + struct.pack(f"{order}I", 16) + fmt
    body += b"data" + struct.pack(f"{order}I", len(pcm) if said is None else said) + pcm + after
    return kind + struct.pack(f"{order}I", len(body) & 0xFFFFFFFF) + body


def extensible() -> bytes:
    guid = bytes.fromhex("0100000000001000800000aa00389b71")
    fmt = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, 2 * RATE, 2, 16, 22, 16, 4) + guid
    pcm = np.round(NOISE * 32767).astype("<i2").tobytes()
    body = b"WAVEfmt " + struct.pack("<I", 40) + fmt + b"data" + bytes(4) + pcm
    return b"RIFF" + bytes(4) + body


def ds64(size: int) -> bytes:
    return b"ds64" + struct.pack("<IQQQI", 28, 0, size, 0, 0)


LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT\x0e\x00\x00\x00Lavf59.27.100\x00"
ODD = b"note" + struct.pack("<I", 3) + b"abc\0"
SIZE = 2 * len(NOISE)
PADDED = 0.02 * RATE  # what an encoder adds at either end


@pytest.mark.parametrize("data", [
    wav(), wav(said=0), wav(said=0xFFFFFFFF), wav(said=0x7FFFFFFF), wav(said=0x7FFFF000), wav(said=0xFFFFFFFE),
    wav(said=SIZE // 3), wav(said=2), wav(said=SIZE + 2), wav(said=SIZE + 100),
    wav(before=LIST + ODD), wav(said=0, before=LIST),
    wav(said=0xFFFFFFFF, before=b"JUNK" + struct.pack("<I", 28) + bytes(28)),
    wav(said=0xFFFFFFFF, before=ds64(SIZE), kind=b"RF64"), wav(said=0xFFFFFFFF, before=ds64(0), kind=b"RF64"),
    wav(said=0xFFFFFFFF, before=ds64(SIZE // 4), kind=b"RF64"), wav(said=0xFFFFFFFF, before=ds64(SIZE), kind=b"BW64"),
    wav(said=0xFFFFFFFF, before=ds64(2**64 - 1), kind=b"RF64"),
    wav(kind=b"RIFX", order=">"), wav(said=0, kind=b"RIFX", order=">"),
    extensible(),
])  # fmt: skip
def test_a_wav_is_heard_whole_whatever_its_header_says(data):
    np.testing.assert_array_equal(heard(data), reference(wav()))


@pytest.mark.parametrize("after", [LIST, ODD, LIST + ODD, b"id3 " + struct.pack("<I", 4) + b"ID3\3", b"\0"])
def test_chunks_behind_the_samples_are_not_heard(after):
    np.testing.assert_array_equal(heard(wav(after=after)), reference(wav()))


def test_an_odd_number_of_bytes_is_padded():
    samples = NOISE[:999]
    pcm = np.round(samples * 127 + 128).astype(np.uint8).tobytes()
    fmt = struct.pack("<HHIIHH", 1, 1, RATE, RATE, 1, 8)
    body = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", 999) + pcm + b"\0" + LIST
    data = b"RIFF" + struct.pack("<I", len(body)) + body
    assert len(heard(data)) == 999


def test_a_wav_in_which_nothing_was_recorded_has_no_samples():
    for data in (wav(NOISE[:0]), wav(NOISE[:0], after=LIST), wav(NOISE[:0], said=0xFFFFFFFF)):
        with pytest.raises(ValueError, match="no samples"):
            load_audio(data)


@pytest.mark.parametrize("data", [
    wav(NOISE[:RATE], said=SIZE), wav(NOISE[:0], said=SIZE), wav(said=0x7FFE0000),
    wav(NOISE[:RATE], said=0xFFFFFFFF, before=ds64(SIZE), kind=b"RF64"),
    wav()[:40], wav()[:20], wav()[:-SIZE // 2],
])  # fmt: skip
def test_a_wav_markedly_shorter_than_it_says_is_truncated(data):
    with pytest.raises(ValueError, match="truncated"):
        load_audio(data)


def test_a_little_short_is_noted():
    seconds = np.tile(NOISE, 10)
    with pytest.warns(UserWarning, match="ends 1.0 s before its header says"):
        samples, _ = load_audio(wav(seconds)[: -2 * RATE])
    assert len(samples) == len(seconds) - RATE


def test_a_minute_of_an_hour_is_markedly_short():
    """It is little of the whole, but somebody would miss it."""
    hour = np.zeros(3600 * 1000, np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, hour, 1000, format="WAV")
    with pytest.raises(ValueError, match="truncated"):
        load_audio(buffer.getvalue()[: -60 * 2000])


@pytest.mark.parametrize("frames", [0, 1, 1000, len(NOISE) - 1, len(NOISE), len(NOISE) + 100])
@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)])
def test_a_flac_is_heard_whole_whatever_its_header_says(frames, tag):
    data = encode("FLAC")
    data[21:26] = bytes([data[21] & 0xF0 | frames >> 32]) + (frames & 0xFFFFFFFF).to_bytes(4, "big")
    np.testing.assert_array_equal(heard(tag + data), reference(encode("FLAC")))


@pytest.mark.parametrize("frames", [2 * len(NOISE), 2**36 - 1])
def test_a_flac_markedly_shorter_than_it_says_is_truncated(frames):
    data = encode("FLAC")
    data[21:26] = bytes([data[21] & 0xF0 | frames >> 32]) + (frames & 0xFFFFFFFF).to_bytes(4, "big")
    with pytest.raises(ValueError, match="truncated"):
        load_audio(bytes(data))


def mp3(samples=NOISE) -> bytearray:
    data = encode("MP3", samples=samples)
    assert data.count(b"Info") + data.count(b"Xing") == 1
    return data


def without_frame(data) -> bytes:
    """Return an MP3 without the frame that says its length, as streamed encoders write it."""
    position = max(data.find(b"Info"), data.find(b"Xing"))
    start = data.rfind(b"\xff", 0, position)
    return bytes(data[data.index(data[start : start + 2], position) :])


def test_a_streamed_mp3_is_heard_whole():
    data = without_frame(mp3())
    assert abs(len(heard(data)) - len(NOISE)) < 3 * 1152
    assert len(heard(data + b"TAG" + bytes(125))) == len(heard(data))  # ID3v1
    assert len(heard(b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128) + data)) == len(heard(data))


@pytest.mark.parametrize("first, then", [(0.0, 0.1), (0.1, 0.0)])
def test_a_streamed_mp3_of_changing_bit_rate_is_heard_whole(first, then):
    """Its first frame says nothing of the length: silence takes few bytes, noise takes many."""
    buffer = io.BytesIO()
    loud = np.concatenate([np.full(5 * RATE, first), np.full(5 * RATE, then)]) * np.tile(NOISE * 10, 3)[: 10 * RATE]
    with soundfile.SoundFile(
        buffer, "w", RATE, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.2
    ) as file:
        file.write(loud)
    data = without_frame(bytearray(buffer.getvalue()))
    assert abs(len(heard(data)) - len(loud)) < 3 * 1152


def test_an_mp3_is_heard_whole_where_its_frame_says_less():
    data = mp3()
    position = max(data.find(b"Info"), data.find(b"Xing"))
    data[position + 8 : position + 12] = (10).to_bytes(4, "big")
    assert abs(len(heard(data)) - len(NOISE)) < 4 * 1152
    twice = bytes(mp3()) * 2  # joined as files, not as sound
    assert abs(len(heard(twice)) - 2 * len(NOISE)) < 6 * 1152


def test_an_mp3_with_a_frame_loses_what_the_encoder_added():
    np.testing.assert_allclose(heard(mp3()), reference(mp3()), rtol=0, atol=1e-7)
    cover = bytes(mp3()) + b"APETAGEX" + np.random.default_rng(1).bytes(20_000)
    assert len(heard(cover)) == len(heard(mp3()))


def test_an_mp3_markedly_shorter_than_its_frame_says_is_truncated():
    for share in (0.3, 0.8):
        with pytest.raises(ValueError, match="truncated"):
            load_audio(bytes(mp3()[: int(share * len(mp3()))]))


def test_a_cut_streamed_mp3_cannot_be_told_and_is_heard_as_it_is():
    data = without_frame(mp3())
    assert 0.4 < len(heard(data[: len(data) // 2])) / len(heard(data)) < 0.6


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_cut_within_a_page_is_truncated(subtype):
    data = bytes(encode("OGG", subtype))
    assert abs(len(heard(data)) - len(NOISE)) <= PADDED
    for share in (0.05, 0.5, 0.95):
        with pytest.raises(ValueError, match="truncated"):
            load_audio(data[: int(share * len(data))])
    assert abs(len(heard(data + bytes(100))) - len(NOISE)) <= PADDED


@pytest.mark.parametrize("frames", [len(NOISE), len(NOISE) + 100, 0xFFFFFFFF])
def test_an_aiff_is_heard_whole(frames):
    data = encode("AIFF")
    position = data.index(b"COMM") + 10
    data[position : position + 4] = frames.to_bytes(4, "big")
    np.testing.assert_array_equal(heard(data), reference(encode("AIFF")))


def test_an_aiff_markedly_shorter_than_it_says_is_truncated():
    data = encode("AIFF")
    for cut in (len(data) // 2, 30):
        with pytest.raises(ValueError, match="truncated"):
            load_audio(bytes(data[:cut]))


@pytest.mark.parametrize("kind, subtype", [
    ("WAV", "PCM_16"), ("WAV", "IMA_ADPCM"), ("WAV", "GSM610"), ("FLAC", None), ("MP3", None), ("OGG", "VORBIS"),
    ("OGG", "OPUS"), ("AIFF", "PCM_24"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("W64", "PCM_16"), ("RF64", "PCM_16"),
])  # fmt: skip
def test_blocks_join_to_what_is_decoded_at_once(kind, subtype):
    stereo = np.stack([np.tile(NOISE, 3), np.tile(NOISE[::-1], 3)], axis=1)
    data = bytes(encode(kind, subtype, stereo[:, 0] if subtype == "GSM610" else stereo))
    whole = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]
    expected = np.clip(whole.mean(axis=1, dtype=np.float64), -1, 1).astype(np.float32)
    np.testing.assert_allclose(heard(data), expected, rtol=0, atol=1e-7 if kind == "MP3" else 0)


def check_limit(data) -> None:
    for sampling_rate in (None, 16_000):
        for limit in (SECONDS - 0.3, 1):
            with pytest.raises(AudioTooLong, match=r"more than \d s; give a shorter one"):
                load_audio(bytes(data), sampling_rate, max_seconds=limit)
        samples, rate = load_audio(bytes(data), sampling_rate, max_seconds=SECONDS + 0.2)
        assert len(samples) == pytest.approx(SECONDS * rate, rel=0.05)


@pytest.mark.parametrize(
    "data",
    [encode("WAV"), encode("FLAC"), encode("OGG"), encode("MP3"), wav(said=RATE), wav(said=0)],
    ids=["wav", "flac", "ogg", "mp3", "wav that says half a second", "wav that says nothing"],
)
def test_what_lasts_too_long_is_refused_by_its_samples(data):
    check_limit(data)


@needs_ffmpeg
def test_a_memo_that_lasts_too_long_is_refused(tmp_path):
    soundfile.write(tmp_path / "noise.wav", NOISE, RATE)
    convert(tmp_path / "noise.wav", tmp_path / "memo.m4a")
    check_limit((tmp_path / "memo.m4a").read_bytes())


def test_who_gave_up_waits_for_no_decoding(tmp_path, monkeypatch):
    token = CancelToken()
    threading.Timer(0.3, token.cancel).start()
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with cancel_scope(token):
        for data in (b"not what libsndfile reads", encode("WAV")):
            with pytest.raises(Cancelled):
                load_audio(bytes(data))
