"""Find where sentences end, so that speech never stops mid-word."""

from sentencex import segment

SENTENCE_END = ".!?…"
CLOSING = "\"'»”’)]"  # may follow a sentence's final mark


def split_sentences(text: str, language: str = "es") -> list[str]:
    """Splits a text into its sentences, without the white space around them.

    "Sr.", "EE. UU." and "3.º" end no sentence; nor does a full stop before a lower-case letter ("las 3 p. m. y"),
    which sentencex takes for an end.
    """
    sentences: list[str] = []
    for piece in segment(language, text):
        starts_in_lower_case = piece.lstrip()[:1].islower()
        if sentences and starts_in_lower_case:
            sentences[-1] += piece
        else:
            sentences.append(piece)
    return [stripped for sentence in sentences if (stripped := " ".join(sentence.split()))]


def cut_at_sentence(text: str, language: str = "es") -> str:
    """Cuts a text that was broken off back to its last whole sentence; a single unfinished one, to its last word.

    An unfinished sentence that stands alone loses its last word, which may be half of one, and ends in "…".
    """
    sentences = split_sentences(text, language)
    if not sentences or _is_finished(sentences[-1]):
        return " ".join(sentences)
    if len(sentences) > 1:
        return " ".join(sentences[:-1])
    words = sentences[0].split()
    return " ".join(words[:-1] or words).rstrip(",;:—-") + "…"


def _is_finished(sentence: str) -> bool:
    return sentence.rstrip(CLOSING).endswith(tuple(SENTENCE_END))
