"""Read what the headers of an audio file say of its length, and correct it where libsndfile would believe it wrongly.

libsndfile reads no further than a header says. A header may say too little or nothing: the writer had a pipe to write
to, ended early or never came back to it. Here such a file is read through corrected bytes; the file stays as it is.
"""

import io
import re
import struct
from typing import BinaryIO, NamedTuple

UNKNOWN_SIZE = 0x7FFF0000  # writers to a pipe put this or more as a 32-bit size that they can't know yet
UNKNOWN_FRAMES = 1 << 48  # libsndfile's own count of a stream of unknown length is larger
HEADER_BYTES = 1 << 16  # in which the headers at the start of a file are looked for
MAX_CHUNKS = 10_000  # of a WAV or AIFF file
OGG_PAGE = 27 + 255 + 255 * 255  # bytes of the largest page (RFC 3533 §6)
LARGE = 1 << 44  # bytes, more than any file has


class Patched(io.RawIOBase):
    """A file that is read with some of its bytes replaced.

    Args:
        file: seekable and binary; it is left open.
        patches: the new bytes by their position.
        size: what to answer to whoever asks for the length by seeking to the end; None is the truth.
    """

    def __init__(self, file: BinaryIO, patches: dict[int, bytes] | None = None, size: int | None = None):
        super().__init__()
        self._file, self._patches, self._position = file, patches or {}, 0
        self._end = file.seek(0, io.SEEK_END)
        self._size = self._end if size is None else size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, as `io.IOBase.seek` does, but for one before the start: libsndfile tries such."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end if offset else self._size}[whence]
        if base + offset >= 0:
            self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer) -> int:
        """Read the next bytes into a buffer, and return how many there were."""
        view, position = memoryview(buffer).cast("B"), self._position
        if position >= self._end:
            return 0
        self._file.seek(position)
        data = bytearray(self._file.read(len(view)))
        for start, new in self._patches.items():
            first, last = max(start, position), min(start + len(new), position + len(data))
            if first < last:
                data[first - position : last - position] = new[first - start : last - start]
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


class Header(NamedTuple):
    """What to read instead of a file, and what is known of its length.

    Attributes:
        file: the file with its header corrected.
        length: seconds, frames or bytes that the header says, in the unit of `present`; None if it says nothing that
            can be believed.
        present: what there is of `length`; None where only decoding tells: then `length` counts frames.
        frames_known: whether libsndfile's count of frames is a header's and not an estimate.
        cut: whether the file ends within a part of it that has to be whole.
        cut_if_unreadable: whether a file that doesn't open is one that was cut.
        retry: the file to read if much of `file` lies behind the end that its header says; None if it can't.
    """

    file: Patched
    length: int | None = None
    present: int | None = None
    frames_known: bool = True
    cut: bool = False
    cut_if_unreadable: bool = False
    retry: Patched | None = None


def read_header(file: BinaryIO) -> Header:
    """Return what an audio file's header says of its length, and the file to read instead of it.

    Args:
        file: seekable and binary; its position is moved.
    """
    size = file.seek(0, io.SEEK_END)
    start = _skip_id3(file)
    kind = _read(file, start, 12)
    if kind[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and kind[8:] == b"WAVE":
        return _wav(file, start, size)
    if kind[:4] == b"FORM" and kind[8:] in (b"AIFF", b"AIFC"):
        return _aiff(file, start, size)
    if kind[:4] == b"fLaC":
        return _flac(file, start)
    if kind[:4] == b"OggS":
        return Header(Patched(file), cut=_ogg_is_cut(file, size))
    if re.match(rb"\xff[\xe2-\xff]", kind):
        return _mp3(file, start)
    return Header(Patched(file))


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _skip_id3(file: BinaryIO) -> int:
    """Return where the ID3v2 tags at the start of a file end (id3.org, ID3v2.4 §3.1)."""
    start = 0
    while (tag := _read(file, start, 10))[:3] == b"ID3" and len(tag) == 10:
        size = 0
        for byte in tag[6:]:
            size = size << 7 | byte & 0x7F
        start += 10 + size + (10 if tag[5] & 0x10 else 0)  # a footer, if there is one
    return start


def _wav(file: BinaryIO, start: int, size: int) -> Header:
    """Correct the size of a WAV's data (Microsoft RIFF; EBU Tech 3306 for RF64 and BW64, whose sizes have 64 bits)."""
    order = ">" if _read(file, start, 4) == b"RIFX" else "<"
    position, wide, wide_at = start + 12, None, None
    for _ in range(MAX_CHUNKS):
        chunk = _read(file, position, 8)
        if len(chunk) < 8:
            break
        kind, length = struct.unpack(f"{order}4sI", chunk)
        if kind == b"ds64":
            wide_at, sizes = position + 16, _read(file, position + 16, 8)
            wide = struct.unpack("<Q", sizes)[0] if len(sizes) == 8 else None
        elif kind == b"data":
            data = position + 8
            present = max(0, size - data)
            if length == 0xFFFFFFFF and wide is not None:
                said = wide if 0 < wide < LARGE else None
            else:
                said = length if 0 < length < UNKNOWN_SIZE else None
            if said is None and length == 0 and _chunks_follow(file, data, size, order):
                said = 0  # nothing was recorded
            if said is not None and said < present and not _chunks_follow(file, data + said + said % 2, size, order):
                said = None  # what follows is no chunk, so it is sound
            available = present if said is None else min(said, present)
            return Header(_wav_of_size(file, start, data, available, order, wide_at), said or None, available)
        position += 8 + length + length % 2
    return Header(Patched(file), cut_if_unreadable=True)


def _wav_of_size(file: BinaryIO, start: int, data: int, size: int, order: str, wide_at: int | None) -> Patched:
    """Return a WAV whose data are `size` bytes from position `data` on."""
    if size < UNKNOWN_SIZE:
        kind = b"RIFX" if order == ">" else b"RIFF"
        return Patched(file, {start: kind, data - 4: struct.pack(f"{order}I", size)})
    if wide_at is not None:
        return Patched(file, {start: b"RF64", data - 4: b"\xff" * 4, wide_at: struct.pack("<Q", size)})
    return Patched(file, {data - 4: struct.pack(f"{order}I", min(size, 0xFFFFFFFF))})


def _chunks_follow(file: BinaryIO, position: int, size: int, order: str) -> bool:
    """Return whether chunks, or what a writer leaves between them and the end, go from a position to the end."""
    for _ in range(MAX_CHUNKS):
        if size - position < 8:
            return True
        kind, length = struct.unpack(f"{order}4sI", _read(file, position, 8))
        if not re.fullmatch(rb"[ -~]{4}", kind):
            return False
        position += 8 + length + length % 2
        if position > size + 1:
            return False
    return True


def _aiff(file: BinaryIO, start: int, size: int) -> Header:
    """Read the frames that an AIFF's COMM chunk says (Apple, Audio Interchange File Format 1.3)."""
    position = start + 12
    cut = size < start + 8 + int.from_bytes(_read(file, start + 4, 4), "big")
    for _ in range(MAX_CHUNKS):
        chunk = _read(file, position, 14)
        if len(chunk) < 14:
            break
        if chunk[:4] == b"COMM":
            frames = int.from_bytes(chunk[10:14], "big")
            return Header(Patched(file), frames if 0 < frames < UNKNOWN_SIZE else None, cut_if_unreadable=cut)
        length = int.from_bytes(chunk[4:8], "big")
        position += 8 + length + length % 2
    return Header(Patched(file), cut_if_unreadable=True)


def _flac(file: BinaryIO, start: int) -> Header:
    """Take the number of frames out of a FLAC's STREAMINFO, so that it is decoded to its end (RFC 9639 §8.2)."""
    total_at = start + 4 + 4 + 13  # 4 bits of it in the first of 5 bytes
    total = _read(file, total_at, 5)
    if len(total) < 5:
        return Header(Patched(file), cut_if_unreadable=True)
    frames = int.from_bytes(total, "big") & 0xFFFFFFFFF
    patched = Patched(file, {total_at: bytes([total[0] & 0xF0, 0, 0, 0, 0])})
    return Header(patched, frames or None, frames_known=False)


def _ogg_is_cut(file: BinaryIO, size: int) -> bool:
    """Return whether an Ogg's last page ends before its table of lengths says (RFC 3533 §6)."""
    end = _read(file, max(0, size - OGG_PAGE), OGG_PAGE)
    page = end[end.rfind(b"OggS") :]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _mp3(file: BinaryIO, start: int) -> Header:
    """Find the frame that says how long an MP3 is: without one, libsndfile's count is a guess from the file's size.

    Xing and Info lie behind the first frame's side information, VBRI behind 32 bytes of it.
    """
    frame = _read(file, start, 64)
    found = re.search(rb"Xing|Info|VBRI", frame[4:48])
    if found:
        tag = start + 4 + found.start()
        fields = _read(file, tag + 4, 14).ljust(14, b"\0")
        if found[0] == b"VBRI":
            frames = fields[10:14]
        else:  # a flag says whether they are there
            frames = fields[4:8] if fields[3] & 1 else b""
        said = any(frames)
        if said:  # without its name the frame is a frame of silence
            return Header(Patched(file), retry=Patched(file, {tag: bytes(4)}, size=LARGE))
    return Header(Patched(file, size=LARGE), frames_known=False)
