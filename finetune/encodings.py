"""Decode the bytes of a table, whichever program and system wrote them."""

import re

ENCODINGS = {  # single-byte encodings that programs write Spanish in: name for the note
    "cp1252": "Windows-1252",  # of which ISO 8859-1 is a part, as far as text goes
    "cp850": "cp850 (MS-DOS)",
    "mac_roman": "Mac Roman",
}
SAMPLE = 10_000  # lines by which the encoding is chosen
LOWER, UPPER = "áéíóúüñ", "ÁÉÍÓÚÜÑ"
OTHER_LETTERS = "àèìòùâêîôûäëïöçãõåæøœßÀÈÌÒÙÂÊÎÔÛÄËÏÖÇÃÕÅÆØŒ"  # of the neighboring languages
MARKS = "“”‘’«»–—…€ºª°\u00a0"


def decode(data: bytes) -> tuple[str, str]:
    """Decode a table's bytes; return its text, and a note on how it was read, "" for valid UTF-8 or UTF-16.

    Lines that aren't UTF-8 are read in the encoding of `ENCODINGS` that yields the most plausible Spanish, and only
    those: tables that were pasted together have lines of several encodings.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace"), ""
    nulls = data[::2].count(0), data[1::2].count(0)
    if sum(nulls) > len(data) // 4:  # UTF-16 without a byte order mark: every other byte of Latin text is 0
        encoding = "utf-16-le" if nulls[1] > nulls[0] else "utf-16-be"
        return data.decode(encoding, errors="replace"), "read as UTF-16, although it has no byte order mark"
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        pass
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    invalid = [i for i, line in enumerate(lines) if not _is_utf8(line)]
    sample = b"\n".join(lines[i] for i in invalid[:SAMPLE])
    best = max(ENCODINGS, key=lambda encoding: plausibility(sample.decode(encoding, errors="replace")))
    wrong = set(invalid)
    text = "\n".join(line.decode(best if i in wrong else "utf-8", errors="replace") for i, line in enumerate(lines))
    is_mixed = any(not line.isascii() for i, line in enumerate(lines) if i not in wrong)
    what = f"{len(invalid)} lines aren't UTF-8 like the rest (the first is line {invalid[0] + 1})"
    return text, f"{what if is_mixed else 'not UTF-8'}: read as {ENCODINGS[best]}"


def plausibility(text: str) -> float:
    """Return a score of how plausible the letters and marks beyond ASCII are, as Spanish and where they stand.

    A wrongly decoded text has symbols and capitals in the middle of words: "a¤o", "MÈxico", "íHola!".
    """
    return sum(_score(text, match.start()) for match in re.finditer(r"[^\x00-\x7f]", text))


def _score(text: str, i: int) -> float:
    character, before, after = text[i], text[max(0, i - 1) : i], text[i + 1 : i + 2]
    if character == "\ufffd" or "\x80" <= character <= "\x9f":
        return -2.0
    if character in "¿¡":
        return 1.0 if not before.isalnum() and not after.isspace() and after not in ".,;:)" else -1.0
    if character in MARKS:
        is_within_a_word = before.isalpha() and after.isalpha()
        return -1.0 if is_within_a_word and character != "’" else 0.0
    if character not in LOWER + UPPER + OTHER_LETTERS:
        return -1.0
    if character.isupper():
        is_misplaced = before.islower() or bool(re.match("[A-Z][a-z]", text[i + 1 : i + 3]))
    else:
        is_misplaced = after.isupper() or bool(re.fullmatch("[A-ZÁÉÍÓÚÜÑ]{2}", text[max(0, i - 2) : i]))
    if is_misplaced:
        return -1.0
    return 1.0 if character in LOWER + UPPER else 0.5


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
