"""Write Spanish the way that it is spoken: "1.500 €" and "mil quinientos euros" are the same words."""

import functools
import re
import unicodedata
from collections.abc import Callable

from hfpipe.pipeline.text_numerals import (
    number_pattern,
    read_measures,
    read_money,
    read_numbers,
    read_ordinals,
    roman,
)

ABBREVIATIONS = {
    r"sr\.": "señor",
    r"sra\.": "señora",
    r"sres\.": "señores",
    r"srta\.": "señorita",
    r"dr\.": "doctor",
    r"dra\.": "doctora",
    r"ud\.": "usted",
    r"uds\.": "ustedes",
    r"etc\.": "etcétera",
    r"ee\. ?uu\.": "estados unidos",
    r"a\. ?m\.": "am",
    r"p\. ?m\.": "pm",
    r"n(?:\.º|º|\.°|°|úm\.)": "número",
}
SYMBOLS = {"&": " y ", "@": " arroba ", "+": " más ", "½": " medio "}

HUNDREDS = "doscient|trescient|cuatrocient|quinient|seiscient|setecient|novecient|ochocient"
TENS = "treinta|cuarenta|cincuenta|sesenta|setenta|ochenta|noventa"


def normalise(text: str, accents: bool = True) -> str:
    """Turns Spanish text into lower-case words with single spaces: no digits, no signs, no punctuation.

    Numbers, ordinals, amounts of money, percentages and times are written in words. A dot before three digits groups
    thousands, as a comma before three digits does in Mexico; any other comma or dot is a decimal one. Digits don't
    show gender, so "veintiún" and "veintiuna" become "veintiuno", and "doscientas" "doscientos". "$" is read as
    dollars, as the text alone doesn't tell whose pesos. "ñ" is a letter of its own and stays: "año" stays "año".

    Args:
        text: as somebody wrote it.
        accents: False also drops acute accents and diaereses ("está" becomes "esta"), for references written
            without them.
    """
    text = unicodedata.normalize("NFC", text).lower()
    text = re.sub(r"\[[^\]]*\]|<[^>]*>", " ", text)  # [ruido], <unk>: heard, not said
    text = text.replace("\u2212", "-").replace("0/0", "%")
    for short, word in ABBREVIATIONS.items():
        text = re.sub(rf"(?<!\w){short}", f" {word} ", text)
    text = re.sub(r"\b(siglos? )([ivxlc]+)\b", lambda match: match[1] + str(roman(match[2])), text)
    text = re.sub(r"(?<![\d:,.])(\d{1,2}):([0-5]\d)(?: ?h(?:rs?|oras)?\b)?(?![\d:])", _time, text)
    text = read_money(text, "es")
    text = read_ordinals(text, "es")
    text = read_measures(text, "es")
    text = re.sub(rf"(?:(?<=\s)|^)-(?={number_pattern('es')})", " menos ", text)
    text = read_numbers(text, "es")
    for sign, word in SYMBOLS.items():
        text = text.replace(sign, word)
    text = re.sub(r"[^\w]|_", " ", text)
    text = _level_gender(" ".join(text.lower().split()))
    return text if accents else strip_accents(text)


def strip_accents(text: str) -> str:
    """Drops acute accents and diaereses, and leaves every other letter as it is: "averigüé" to "averigue"."""
    decomposed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", re.sub("[\u0301\u0308]", "", decomposed))


@functools.cache
def normaliser(language: str | None) -> Callable[[str], str]:
    """Gives the function that normalises text of a language: ours for "es", Whisper's own for the others.

    Args:
        language: ISO 639-1 code; None is an unknown language.
    """
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    if language == "es":
        return normalise
    return EnglishTextNormalizer({}) if language == "en" else BasicTextNormalizer()


def _time(match: re.Match) -> str:
    hours, minutes = int(match[1]), int(match[2])
    if hours > 24:
        return match[0]
    return f" {hours} {minutes} " if minutes else f" {hours} "


def _level_gender(text: str) -> str:
    text = re.sub(r"\bveinti(?:ún|un|una)\b", "veintiuno", text)
    text = re.sub(rf"\b((?:{TENS}) y|ciento|cientos) (?:un|una)\b", r"\1 uno", text)
    return re.sub(rf"\b({HUNDREDS})as\b", r"\1os", text)
