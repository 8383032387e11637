"""Decode an audio file to float32 mono, block by block, so that hours of it need no more memory than their result."""

import contextlib
import io
import os
import shutil
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from .audio_headers import UNKNOWN_FRAMES, Header, Patched, read_header
from .engine_cancel import current_token, raise_if_cancelled
from .errors import AudioTooLong

VALID_SAMPLING_RATES = (1_000, 768_000)  # Hz
MAX_CHANNELS = 32  # the shorter axis of a 2-D array is its channels, up to this many
BLOCK = 1 << 17  # samples of all channels that are decoded at once
MP3_FRAME = 1152  # samples of each channel, or half as many
MAX_PEAK = 8.0  # codecs overshoot 1.0 by a little; integers kept as floats by thousands

# A file is truncated if it is shorter than its header says by more than 0.1 s and 5 %, or more than 0.1 s and 5 s.
# An encoder's delay counts as a frame or two more or less.
SPARE_SECONDS, MAX_SHORT_SECONDS, MAX_SHORT_SHARE = 0.1, 5.0, 0.05

FFMPEG_SAMPLING_RATE = 48_000  # Hz, for the formats that libsndfile doesn't read
FFMPEG_TIMEOUT = 900  # seconds; it decodes an hour in some ten
# Containers of sound alone: none of them names other files or addresses to open, as a playlist does.
FFMPEG_FORMATS = (
    "mov,matroska,webm,aac,ac3,eac3,asf,amr,amrnb,amrwb,ape,avi,caf,dts,flac,flv,gsm,mp3,mpc,mpc8,mpeg,mpegts,ogg,"
    "rm,tak,tta,voc,w64,wav,wv,aiff,au"
)
FFMPEG_CUT = (b"partial file", b"File ended prematurely")  # what it says of a file that ends too early


def decode(
    file: BinaryIO, name: str, sampling_rate: int | None = None, max_seconds: float = np.inf
) -> tuple[np.ndarray, int]:
    """Decode an audio file with libsndfile, or with FFmpeg if libsndfile doesn't know the format.

    It is read to its end, whatever its header says of its length.

    Args:
        file: seekable and binary; read from its start and left open.
        name: for messages.
        sampling_rate: Hz to resample to; None keeps the file's own.
        max_seconds: no more is decoded.

    Returns:
        float32 samples of shape (samples,) in [-1, 1], and their rate in Hz.

    Raises:
        ValueError: no audio, or damaged or truncated audio. AudioTooLong: there is more of it.
    """
    if not file.seek(0, io.SEEK_END):
        raise ValueError(f"{name} is empty (0 bytes); give an audio file (wav, flac, ogg, mp3) with speech in it.")
    header = read_header(file)
    try:
        sound = _open(header.file)
    except soundfile.LibsndfileError as error:
        if header.cut or header.cut_if_unreadable:
            raise ValueError(_truncated(name)) from error
        return _decode_with_ffmpeg(file, name, sampling_rate, max_seconds)
    with sound:
        rate = check_sampling_rate(sound.samplerate, name)
        samples, frames = _decode_sound(sound, file, name, sampling_rate, max_seconds)
        if header.retry and _unread(file) > MAX_SHORT_SHARE:
            # The header says less than there is. What follows may also be no sound but tags, which don't decode.
            try:
                with _open(header.retry) as whole:
                    more, more_frames = _decode_sound(whole, file, name, sampling_rate, max_seconds)
                if more_frames > frames * (1 + MAX_SHORT_SHARE):
                    return more, rate
            except AudioTooLong:
                raise
            except (ValueError, soundfile.LibsndfileError):
                pass
        _check_length(header, sound, frames, name)
    if not len(samples):
        raise ValueError(f"{name} has no samples; give audio with speech in it.")
    return samples, rate if sampling_rate is None else sampling_rate


def check_sampling_rate(rate, name: str) -> int:
    """Return a sampling rate in Hz as an int; raise ValueError if it is no rate, naming what it belongs to."""
    if not isinstance(rate, (int, float, np.integer, np.floating)) or not np.isfinite(rate) or rate != int(rate):
        raise ValueError(f"{name}: sampling_rate is {rate!r}; valid is a whole number of Hz, such as 16000.")
    low, high = VALID_SAMPLING_RATES
    if not low <= rate <= high:
        raise ValueError(f"{name}: sampling rate is {rate} Hz; valid is {low} to {high} Hz. Give the true rate.")
    return int(rate)


def join(
    blocks: Iterable[np.ndarray], rate: int, target: int | None, name: str, max_seconds: float = np.inf
) -> tuple[np.ndarray, int]:
    """Average the channels of blocks of samples, resample them, and join them to one waveform.

    Args:
        blocks: of shape (frames, channels), integers or floats.
        rate: of the blocks, in Hz.
        target: Hz to resample to; None keeps the rate.
        name: for messages.
        max_seconds: no more blocks are taken.

    Returns:
        float32 samples of shape (samples,) in [-1, 1], and the number of frames that there were.

    Raises:
        ValueError: samples that are NaN, infinite or far beyond full scale. AudioTooLong: there are more blocks.
    """
    resampler = None if target in (None, rate) else soxr.ResampleStream(rate, target, 1, dtype="float32")
    joined, frames = bytearray(), 0  # it grows in place, where a list of blocks would need twice the memory at the end
    for block in blocks:
        raise_if_cancelled()
        frames += len(block)
        if frames > max_seconds * rate:
            raise AudioTooLong(f"{name} lasts more than {max_seconds:.0f} s; give a shorter one, or parts of it.")
        mono = _mix(block, name)
        joined += mono.tobytes() if resampler is None else _clip(resampler.resample_chunk(mono)).tobytes()
    if resampler is not None:
        joined += _clip(resampler.resample_chunk(np.zeros(0, np.float32), last=True)).tobytes()
    return np.frombuffer(joined, np.float32), frames


def split(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the samples (frames, channels) in blocks of as many frames as `decode` takes at once."""
    step = _frames_per_block(samples.shape[1])
    return (samples[start : start + step] for start in range(0, len(samples), step))


def _frames_per_block(channels: int) -> int:
    return max(1, BLOCK // max(1, channels))


def _mix(block: np.ndarray, name: str) -> np.ndarray:
    """Scale a block (frames, channels) of any sample type to [-1, 1], and average its channels to float32."""
    if block.dtype.kind == "u":  # unsigned PCM is centered on half its range
        half = np.iinfo(block.dtype).max / 2 + 0.5
        block = (block.astype(np.float64) - half) / half
    elif block.dtype.kind == "i":
        block = block.astype(np.float64) / -float(np.iinfo(block.dtype).min)
    if not np.isfinite(block).all():
        raise ValueError(f"{name} has samples that are NaN or infinite; record or convert it again.")
    mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float64)
    peak = float(np.abs(mono).max(initial=0))
    if peak > MAX_PEAK:
        raise ValueError(
            f"{name} has float samples up to {peak:.0f}; valid is [-1, 1]. "
            "Divide by 32768 if they were 16-bit, or give int16."
        )
    return _clip(mono).astype(np.float32)


def _clip(samples: np.ndarray) -> np.ndarray:
    return np.clip(samples, -1.0, 1.0)


class _Stream(soundfile.SoundFile):
    """A sound file that is read straight on: soundfile seeks after each block, after which an MP3 decodes wrongly."""

    def seekable(self) -> bool:
        return False


def _open(file: Patched) -> soundfile.SoundFile:
    file.seek(0)
    return _Stream(file, "r")


def _decode_sound(
    sound: soundfile.SoundFile, file: BinaryIO, name: str, sampling_rate: int | None, max_seconds: float
) -> tuple[np.ndarray, int]:
    if sound.channels > MAX_CHANNELS:
        raise ValueError(f"{name} has {sound.channels} channels; valid is up to {MAX_CHANNELS}.")
    rate = check_sampling_rate(sound.samplerate, name)
    return join(_blocks(sound, file, name), rate, sampling_rate, name, max_seconds)


def _blocks(sound: soundfile.SoundFile, file: BinaryIO, name: str) -> Iterator[np.ndarray]:
    """Yield a sound's samples (frames, channels), each block in the memory of the last."""
    buffer = np.empty((_frames_per_block(sound.channels), sound.channels), np.float32)
    # An MP3's last frame may be cut, and an error costs all that was asked for with it.
    step = MP3_FRAME if sound.format == "MP3" else len(buffer)
    filled, ended = 0, False
    while not ended:
        try:
            read = len(sound.read(out=buffer[filled : filled + step]))
        except soundfile.LibsndfileError as error:
            if sound.format != "MP3" or _unread(file) > 0:
                raise ValueError(
                    f"{name} is damaged or truncated ({error}). Copy, download or record it again."
                ) from error
            read = 0
        filled, ended = filled + read, read == 0
        if filled and (ended or filled + step > len(buffer)):
            yield buffer[:filled]
            filled = 0


def _unread(file: BinaryIO) -> float:
    """Return the share of a file that lies behind its position."""
    position = file.tell()
    return 1 - position / file.seek(0, io.SEEK_END)


def _check_length(header: Header, sound: soundfile.SoundFile, frames: int, name: str) -> None:
    """Raise ValueError if a file is markedly shorter than its header says, and warn if it is noticeably shorter."""
    if header.cut:
        raise ValueError(_truncated(name))
    said = header.length
    if said is not None and header.present is not None:
        said = round(frames * said / header.present) if header.present else UNKNOWN_FRAMES
    elif said is None and header.present is None and header.frames_known and sound.frames < UNKNOWN_FRAMES:
        said = sound.frames
    if not said or said <= frames:
        return
    seconds = said / sound.samplerate
    missing = (said - frames) / sound.samplerate
    if missing > max(SPARE_SECONDS, min(MAX_SHORT_SECONDS, MAX_SHORT_SHARE * seconds)):
        raise ValueError(_truncated(name))
    if missing > SPARE_SECONDS:
        warnings.warn(f"{name} ends {missing:.1f} s before its header says; taken as it is.", stacklevel=4)


def _truncated(name: str) -> str:
    return f"{name} is truncated: it ends before its header says. Copy, download or record it again."


def _decode_with_ffmpeg(
    file: BinaryIO, name: str, sampling_rate: int | None, max_seconds: float
) -> tuple[np.ndarray, int]:
    """Decode with FFmpeg from a file: an m4a has its table of contents at its end, so FFmpeg must seek."""
    if shutil.which("ffmpeg") is None:
        raise ValueError(
            f"{name} is no audio that libsndfile reads (wav, flac, ogg, mp3, aiff, au). If it is m4a, webm, aac, wma "
            "or video, install FFmpeg (apt-get install ffmpeg, brew install ffmpeg) or convert it to wav."
        )
    file.seek(0)
    beginning = file.read(8)
    with _on_disk(file) as path, tempfile.TemporaryFile() as messages:
        command = [
            *("ffmpeg", "-nostdin", "-hide_banner", "-v", "error", "-protocol_whitelist", "file"),
            *("-format_whitelist", FFMPEG_FORMATS, "-i", f"file:{path}", "-map", "0:a:0", "-vn", "-sn", "-dn"),
            *("-ac", "1", "-ar", str(FFMPEG_SAMPLING_RATE), "-f", "f32le", "pipe:1"),
        ]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages) as process:
            timer, token = threading.Timer(FFMPEG_TIMEOUT, process.kill), current_token()
            timer.start()
            try:
                blocks = _pipe_blocks(process)
                with token.on_cancel(process.kill) if token else contextlib.nullcontext():
                    samples, frames = join(blocks, FFMPEG_SAMPLING_RATE, sampling_rate, name, max_seconds)
            finally:
                timer.cancel()
                process.kill()
        raise_if_cancelled()
        messages.seek(0)
        said = messages.read(1 << 16)
    if any(words in said for words in FFMPEG_CUT):
        raise ValueError(_truncated(name))
    if not frames:
        raise ValueError(
            f"{name} holds no audio that libsndfile or FFmpeg can read (its first bytes are {beginning!r}). "
            "Give a wav, flac, ogg or mp3 file."
        )
    return samples, sampling_rate or FFMPEG_SAMPLING_RATE


@contextlib.contextmanager
def _on_disk(file: BinaryIO) -> Iterator[str]:
    """Yield the absolute path of an open file, or of a private copy of one that lies in memory."""
    if isinstance(file, io.BufferedReader) and isinstance(name := getattr(file.raw, "name", None), str):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(name)):
                yield os.path.abspath(name)
                return
    with tempfile.TemporaryDirectory(prefix="hfpipe-") as folder:
        path = os.path.join(folder, "audio")
        with open(path, "wb") as copy:
            file.seek(0)
            shutil.copyfileobj(file, copy, 1 << 20)
        yield path


def _pipe_blocks(process: subprocess.Popen) -> Iterator[np.ndarray]:
    assert process.stdout
    while data := process.stdout.read(4 * BLOCK):
        yield np.frombuffer(data[: len(data) // 4 * 4], np.float32).reshape(-1, 1)
