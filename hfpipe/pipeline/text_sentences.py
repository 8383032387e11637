"""Split text into sentences, and text that is too long for a model into shorter chunks."""

import re
from collections.abc import Callable

from sentencex import segment

from .text_locale import base_language

SENTENCE_END = ".!?…"
CLOSING = "\"'»”’)]"  # may follow the punctuation that ends a sentence
OPENING = re.compile(r"(?<=\s)[«“‘(\[¿¡]+\s*$")

# Lines that open and close what is kept in one piece: a code block, or a formula on lines of its own.
BLOCKS = (
    (re.compile(r"\s*(?:```|~~~)(?!.*```)"), re.compile(r"\s*(?:```|~~~)\s*$")),
    (re.compile(r"\s*\$\$(?!.*\$\$)"), re.compile(r".*\$\$\s*$")),
    (re.compile(r"\s*\\\[(?!.*\\\])"), re.compile(r".*\\\]")),
)

# Where to split a sentence that is too long, in order of preference: after a clause, after a word, anywhere. Marks
# that also occur inside numbers ("3,5", "3:30") only count when a space follows; CJK marks need no space.
FINER_CUTS = (
    re.compile(r"(?<=[,;:،—–)])\s+|(?<=[、，；：])"),
    re.compile(r"\s+"),
    re.compile(r"(?<=.)", re.DOTALL),
)


def split_sentences(text: str, language: str = "es") -> list[str]:
    """Split a text into sentences, without the whitespace around them.

    Abbreviations such as "Sr.", "EE. UU." and "3.º" don't end a sentence, and neither does a full stop before a
    lowercase letter ("las 3 p. m. y"), where sentencex would split.
    """
    return [sentence.strip() for sentence in split_pieces(text, language)]


def cut_at_sentence(text: str, language: str = "es") -> str:
    """Drop the unfinished last sentence of a truncated text.

    If the text is a single unfinished sentence, only its last word is dropped, which may be incomplete, and "…" is
    appended.
    """
    pieces = split_pieces(text, language)
    if not pieces or pieces[-1].rstrip().rstrip(CLOSING).endswith(tuple(SENTENCE_END)):
        return "".join(pieces).strip()
    if len(pieces) > 1:
        return "".join(pieces[:-1]).strip()
    words = pieces[0].split()
    return " ".join(words[:-1] or words).rstrip(",;:—-") + "…"


def split_text(text: str, fits: Callable[[str], bool], language: str = "es") -> list[str]:
    """Split a text greedily into chunks that fit, at sentence boundaries where possible.

    A sentence that doesn't fit is split into clauses, a clause into words, and a word only if it doesn't fit on its
    own.

    Args:
        text: any text. The chunks contain all of it, in order, except for the whitespace around the splits.
        fits: returns whether a chunk is short enough. A single character is assumed to fit.
        language: BCP 47 tag that selects the sentence boundary rules.
    """
    pieces = split_pieces(" ".join(text.split()), language)
    return [piece.strip() for piece in _pack(pieces, fits, FINER_CUTS) if piece.strip()]


def _pack(units: list[str], fits: Callable[[str], bool], finer_cuts: tuple[re.Pattern, ...]) -> list[str]:
    """Join units while they fit, and split a unit that doesn't fit on its own at the next finer cut."""
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
    """Split a text into sentences whose concatenation is the text with its whitespace collapsed.

    Runs of whitespace become single spaces, or single line breaks. A line break ends a sentence, since headings and
    list items have no full stop. A code block or a displayed formula is one piece, with its line breaks; so is one
    that is still open at the end of the text.
    """
    found: list[list[str]] = []
    block, closing = "", None
    for line in (" ".join(line.split()) for line in text.split("\n")):
        if closing:
            block += f"\n{line}" if line else ""
            if closing.match(line):
                found.append([block])
                closing = None
        elif closing := _closing(line):
            block = line
        elif pieces := _split_line(line, language):
            found.append(pieces)
    if closing:
        found.append([block])
    for pieces in found[:-1]:
        pieces[-1] = pieces[-1].rstrip() + "\n"
    return [piece for pieces in found for piece in pieces]


def opens_block(line: str) -> bool:
    """Return whether a line opens a code block or a displayed formula that goes on after it."""
    return _closing(line) is not None


def _closing(line: str) -> re.Pattern | None:
    return next((end for start, end in BLOCKS if start.match(line)), None)


def _split_line(line: str, language: str) -> list[str]:
    pieces: list[str] = []
    opened = ""  # opening punctuation that sentencex leaves at the end of the previous sentence
    for piece in segment(base_language(language), line):
        piece, opened = opened + piece, ""
        if mark := OPENING.search(piece):
            piece, opened = piece[: mark.start()], mark.group()
        if pieces and piece.lstrip()[:1].islower():
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return [piece for piece in [*pieces, opened] if piece.strip()]
