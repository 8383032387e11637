"""Cut a text that is too long to say at once, where a listener expects a pause."""

import re
from collections.abc import Callable

# A full stop after a title or an initial ("Sr. García") ends no sentence.
ABBREVIATION = r"(?<!\b[^\W\d_]\.)(?<!\b(?:Sr|Dr|Ud|Mr|Ms|St|Hr)\.)(?<!\b(?:Sra|Dra|Mrs|Mme|Sig)\.)(?<!\bSrta\.)"
# Where a text may be cut, best first: after a sentence, a clause, a word, and at last anywhere. A mark that also
# stands inside numbers ("3.5", "3:30") ends nothing unless a space follows; CJK marks need none.
CUTS = (
    re.compile(ABBREVIATION + r"(?<=[.!?…।؟])[\"'»”)]*\s+|(?<=[。！？])|\n+"),
    re.compile(r"(?<=[,;:،—–)])\s+|(?<=[、，；：])"),
    re.compile(r"\s+"),
    re.compile(r"(?<=.)", re.DOTALL),
)


def split_text(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Cuts a text into pieces that fit, as few as cutting greedily gives, at the best places there are.

    Sentences stay whole where they fit, then clauses, then words; only a word that doesn't fit alone is cut within.

    Args:
        text: any text; its pieces say all of it, in order, but for the white space around cuts.
        fits: tells whether a piece is short enough. A single character is taken to fit.
    """
    return [piece.strip() for piece in _pack(text, fits, CUTS) if piece.strip()]


def _pack(text: str, fits: Callable[[str], bool], cuts: tuple[re.Pattern, ...]) -> list[str]:
    if not cuts or fits(text.strip()):
        return [text]
    ends = [match.end() for match in cuts[0].finditer(text) if 0 < match.end() < len(text)]
    pieces = [""]
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        unit = text[start:end]
        if fits((pieces[-1] + unit).strip()):
            pieces[-1] += unit
        else:
            pieces += _pack(unit, fits, cuts[1:])
    return pieces
