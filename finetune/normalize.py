"""Normalize transcripts before scoring, so that "1.500 €" and "mil quinientos euros" are the same words."""

import functools
import re
import unicodedata
from collections.abc import Callable

from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from hfpipe.pipeline import text_speakable
from hfpipe.pipeline.text_numerals import (
    number_pattern,
    read_measures,
    read_money,
    read_numbers,
    read_ordinals,
    roman,
)

# The voice's abbreviations, but only those that end in a dot: the rest ("vs", "24/7") is often read as written.
ABBREVIATIONS = {
    **{short: words for short, words in text_speakable.ABBREVIATIONS["es"].items() if short.endswith(r"\.")},
    r"a\. ?m\.": "am",
    r"p\. ?m\.": "pm",
    r"n(?:\.º|º|\.°|°)": "número",
}
SYMBOLS = {"&": " y ", "@": " arroba ", "+": " más ", "½": " medio "}

HUNDREDS = "doscient|trescient|cuatrocient|quinient|seiscient|setecient|novecient|ochocient"
TENS = "treinta|cuarenta|cincuenta|sesenta|setenta|ochenta|noventa"


def normalize_spanish(text: str, accents: bool = True) -> str:
    """Return Spanish text as lower-case words separated by single spaces, without digits, symbols or punctuation.

    Numbers, ordinals, amounts of money, percentages and times are spelled out. A dot before three digits groups
    thousands, as does a comma before three digits (Mexico); any other comma or dot is a decimal separator. Digits have
    no gender, so "veintiún" and "veintiuna" become "veintiuno", and "doscientas" becomes "doscientos". "$" is read as
    dollars, since the text alone doesn't tell which country's pesos are meant. "ñ" is a letter of its own and is kept:
    "año" stays "año".

    Args:
        text: a reference or a hypothesis.
        accents: False also removes acute accents and diaereses ("está" becomes "esta"), for references written
            without them.
    """
    text = unicodedata.normalize("NFC", text).lower()
    text = re.sub(r"\[[^\]]*\]|<[^>]*>", " ", text)  # annotations such as [ruido] and <unk>
    text = text.replace("\u2212", "-").replace("0/0", "%")
    for short, words in ABBREVIATIONS.items():
        text = re.sub(rf"(?<!\w){short}", f" {words} ", text)
    text = re.sub(r"\b(siglos? )([ivxlc]+)\b", lambda match: match[1] + str(roman(match[2])), text)
    text = re.sub(r"(?<![\d:,.])(\d{1,2}):([0-5]\d)(?: ?h(?:rs?|oras)?\b)?(?![\d:])", _time, text)
    text = read_money(text, "es")
    text = read_ordinals(text, "es")
    text = read_measures(text, "es")
    text = re.sub(rf"(?:(?<=\s)|^)-(?={number_pattern('es')})", " menos ", text)
    text = read_numbers(text, "es")
    for symbol, words in SYMBOLS.items():
        text = text.replace(symbol, words)
    text = re.sub(r"[^\w]|_", " ", text)
    text = _neutralize_gender(" ".join(text.lower().split()))
    return text if accents else strip_accents(text)


def strip_accents(text: str) -> str:
    """Remove acute accents and diaereses and keep every other letter: "averigüé" becomes "averigue"."""
    decomposed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", re.sub("[\u0301\u0308]", "", decomposed))


@functools.cache
def normalizer(language: str | None) -> Callable[[str], str]:
    """Return the text normalizer for a language: ours for "es", Whisper's own for any other.

    Args:
        language: ISO 639-1 code, or None if unknown.
    """
    if language == "es":
        return normalize_spanish
    return EnglishTextNormalizer({}) if language == "en" else BasicTextNormalizer()


def _time(match: re.Match) -> str:
    hours, minutes = int(match[1]), int(match[2])
    if hours > 24:
        return match[0]
    return f" {hours} {minutes} " if minutes else f" {hours} "


def _neutralize_gender(text: str) -> str:
    """Replace feminine and shortened numerals by the masculine form that digits are spelled out as."""
    text = re.sub(r"\bveinti(?:ún|un|una)\b", "veintiuno", text)
    text = re.sub(rf"\b((?:{TENS}) y|ciento|cientos) (?:un|una)\b", r"\1 uno", text)
    return re.sub(rf"\b({HUNDREDS})as\b", r"\1os", text)
