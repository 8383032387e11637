"""Convert text to the phonemes that Kokoro knows, with espeak-ng."""

import functools
import re
import threading
import warnings

from .text_locale import base_language, region_of

MAX_TOKENS = 510  # the rows of a style table, one for each length of text
# Kokoro was trained on these single letters (misaki, espeak.py); espeak-ng writes two, with a tie when asked to
LIGATURES = {
    "t͡ʃ": "ʧ",
    "d͡ʒ": "ʤ",
    "t͡s": "ʦ",
    "d͡z": "ʣ",
    "a͡ɪ": "I",
    "a͡ʊ": "W",
    "e͡ɪ": "A",
    "o͡ʊ": "O",
    "ə͡ʊ": "Q",
    "ɔ͡ɪ": "Y",
}
RESPELLED = {"...": "…", "–": "—", "«": "“", "»": "”", "¿": "", "¡": "", "\n": " "}
PUNCTUATION = re.compile(r'((?<!\S)["“(]+|[;:,.!?…"”)—]+(?!\S)|—)')
SENTENCE_END = re.compile(r'[.!?…]+["”)]* ')
CLAUSE_END = re.compile(r'[,;:—]+["”)]* ')

ACCENTS = {"en-GB": "en-gb", "pt-PT": "pt"}  # espeak-ng's own codes; of Spanish, see `espeak_accent`

_lock = threading.Lock()  # espeak-ng keeps its state in globals


def phonemize(text: str, language: str, vocabulary) -> str:
    """Return the phonemes of a text, punctuation included.

    Args:
        text: in any writing that espeak-ng reads.
        language: espeak-ng's own code.
        vocabulary: the symbols that the model knows; others are left out, with a warning.

    Raises:
        ValueError: nothing in `text` can be said.
    """
    for old, new in RESPELLED.items():
        text = text.replace(old, new)
    parts = PUNCTUATION.split(text)  # words at the even places, marks at the odd ones
    words = [part for part in parts[::2] if part.strip()]
    with _lock:
        spelled = iter(_espeak(language).phonemize(words, strip=True) if words else ())
    parts[::2] = [part.replace(part.strip(), next(spelled)) if part.strip() else part for part in parts[::2]]
    symbols = " ".join("".join(parts).split())
    for pair, letter in LIGATURES.items():
        symbols = symbols.replace(pair, letter)
    symbols = re.sub("[͡-]", "", symbols)  # other ties, and the hyphens between words that are said as one
    if not any(symbol.isalpha() for symbol in symbols):
        raise ValueError(f"there is nothing to say in the text {text[:60]!r}; give at least one word or number.")
    unknown = sorted(set(symbols) - set(vocabulary))
    if unknown:
        warnings.warn(f"Kokoro has no sound for {' '.join(unknown)} in {text[:60]!r}; left out.", stacklevel=2)
        symbols = "".join(symbol for symbol in symbols if symbol not in unknown)
    return symbols if symbols.rstrip('"”)').endswith((".", "!", "?", "…")) else symbols + "."


def espeak_accent(tag: str, default: str) -> str:
    """Return espeak-ng's code of the accent of a BCP 47 tag: Latin American Spanish has no "z"; else the default."""
    language, region = base_language(tag), region_of(tag)
    if language == "es" and region not in ("", "ES"):
        return "es-419"
    return ACCENTS.get(f"{language}-{region}", default)


def start_espeak(language: str) -> None:
    """Start espeak-ng for a language, which takes half a second, once.

    Raises:
        ImportError: espeakng-loader or phonemizer-fork is missing.
    """
    with _lock:
        _espeak(language)


def split_phonemes(symbols: str) -> list[str]:
    """Split phonemes into pieces of at most 510, each as long as possible, at the strongest mark there is."""
    pieces = []
    while len(symbols) > MAX_TOKENS:
        ends = next(
            (
                found
                for mark in (SENTENCE_END, CLAUSE_END, re.compile(" "))
                if (found := [match.end() for match in mark.finditer(symbols, 0, MAX_TOKENS + 1)])
            ),
            [MAX_TOKENS],
        )
        pieces.append(symbols[: ends[-1]].rstrip())
        symbols = symbols[ends[-1] :]
    return [*pieces, symbols]


@functools.cache
def _espeak(language: str):
    """Return phonemizer's backend for one of espeak-ng's own language codes; call it with the lock held."""
    try:
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper
    except ImportError as error:
        raise ImportError("Kokoro needs espeakng-loader and phonemizer-fork: pip install 'hfpipe[offline]'") from error
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    return EspeakBackend(
        language,
        with_stress=True,
        tie=True,
        language_switch="remove-flags",
        punctuation_marks=re.compile("(?!)"),  # none: the marks inside "3,5" and "10:30" are espeak-ng's to read
    )
