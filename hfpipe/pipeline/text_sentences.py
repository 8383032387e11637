"""Find where sentences end, so that speech never stops mid-word and pauses where a listener expects it."""

import re
from collections.abc import Callable

from sentencex import segment

SENTENCE_END = ".!?…"
CLOSING = "\"'»”’)]"  # may follow a sentence's final mark
OPENING = re.compile(r"(?<=\s)[«“‘(\[¿¡]+\s*$")

# Where a sentence that is too long may be cut, best first: after a clause, after a word, and at last anywhere. A mark
# that also stands inside numbers ("3,5", "3:30") ends nothing unless a space follows; CJK marks need none.
FINER_CUTS = (
    re.compile(r"(?<=[,;:،—–)])\s+|(?<=[、，；：])"),
    re.compile(r"\s+"),
    re.compile(r"(?<=.)", re.DOTALL),
)


def split_sentences(text: str, language: str = "es") -> list[str]:
    """Splits a text into its sentences, without the white space around them.

    "Sr.", "EE. UU." and "3.º" end no sentence; nor does a full stop before a lower-case letter ("las 3 p. m. y"),
    which sentencex takes for an end.
    """
    return [sentence.strip() for sentence in split_pieces(text, language)]


def cut_at_sentence(text: str, language: str = "es") -> str:
    """Cuts a text that was broken off back to its last whole sentence; a single unfinished one, to its last word.

    An unfinished sentence that stands alone loses its last word, which may be half of one, and ends in "…".
    """
    pieces = split_pieces(text, language)
    if not pieces or pieces[-1].rstrip().rstrip(CLOSING).endswith(tuple(SENTENCE_END)):
        return "".join(pieces).strip()
    if len(pieces) > 1:
        return "".join(pieces[:-1]).strip()
    words = pieces[0].split()
    return " ".join(words[:-1] or words).rstrip(",;:—-") + "…"


def split_text(text: str, fits: Callable[[str], bool], language: str = "es") -> list[str]:
    """Cuts a text into pieces that fit, as few as cutting greedily gives, at the best places there are.

    Sentences stay whole where they fit, then clauses, then words; only a word that doesn't fit alone is cut within.

    Args:
        text: any text; its pieces say all of it, in order, but for the white space around cuts.
        fits: tells whether a piece is short enough. A single character is taken to fit.
        language: ISO 639-1 code, for where sentences end.
    """
    pieces = split_pieces(" ".join(text.split()), language)
    return [piece.strip() for piece in _pack(pieces, fits, FINER_CUTS) if piece.strip()]


def _pack(units: list[str], fits: Callable[[str], bool], finer_cuts: tuple[re.Pattern, ...]) -> list[str]:
    """Joins units while they fit; one that doesn't fit alone is cut finer."""
    pieces = [""]
    for unit in units:
        if fits((pieces[-1] + unit).strip()):
            pieces[-1] += unit
        elif not finer_cuts or fits(unit.strip()):
            pieces.append(unit)
        else:
            ends = [match.end() for match in finer_cuts[0].finditer(unit) if 0 < match.end() < len(unit)]
            parts = [unit[start:end] for start, end in zip([0, *ends], [*ends, len(unit)], strict=True)]
            pieces += _pack(parts, fits, finer_cuts[1:])
    return pieces


def split_pieces(text: str, language: str) -> list[str]:
    """Splits a text into sentences that join up to it again, its white space made single blanks or line breaks.

    A line's end ends a sentence: headings and items of lists have no full stop.
    """
    lines = [" ".join(line.split()) for line in text.split("\n")]
    found = [pieces for line in lines if (pieces := _split_line(line, language))]
    for pieces in found[:-1]:
        pieces[-1] = pieces[-1].rstrip() + "\n"
    return [piece for pieces in found for piece in pieces]


def _split_line(line: str, language: str) -> list[str]:
    pieces: list[str] = []
    opened = ""  # marks that sentencex leaves at the end of a sentence and that open the next
    for piece in segment(language, line):
        piece, opened = opened + piece, ""
        if mark := OPENING.search(piece):
            piece, opened = piece[: mark.start()], mark.group()
        if pieces and piece.lstrip()[:1].islower():
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return [piece for piece in [*pieces, opened] if piece.strip()]
