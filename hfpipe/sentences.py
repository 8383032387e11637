"""Find where sentences end, so that speech never stops mid-word."""

from sentencex import segment

SENTENCE_END = ".!?…"
CLOSING = "\"'»”’)]"  # may follow a sentence's final mark


def split_sentences(text: str, language: str = "es") -> list[str]:
    """Splits a text into its sentences, without the white space around them.

    "Sr.", "EE. UU." and "3.º" end no sentence; nor does a full stop before a lower-case letter ("las 3 p. m. y"),
    which sentencex takes for an end.
    """
    return [sentence.strip() for sentence in _pieces(text, language)]


def cut_at_sentence(text: str, language: str = "es") -> str:
    """Cuts a text that was broken off back to its last whole sentence; a single unfinished one, to its last word.

    An unfinished sentence that stands alone loses its last word, which may be half of one, and ends in "…".
    """
    pieces = _pieces(text, language)
    if not pieces or pieces[-1].rstrip().rstrip(CLOSING).endswith(tuple(SENTENCE_END)):
        return "".join(pieces).strip()
    if len(pieces) > 1:
        return "".join(pieces[:-1]).strip()
    words = pieces[0].split()
    return " ".join(words[:-1] or words).rstrip(",;:—-") + "…"


def _pieces(text: str, language: str) -> list[str]:
    """Splits a text, its white space made single blanks, into sentences that join up to it again."""
    pieces: list[str] = []
    for piece in segment(language, " ".join(text.split())):
        if pieces and piece.lstrip()[:1].islower():
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return [piece for piece in pieces if piece.strip()]
