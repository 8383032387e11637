"""Write Spanish the way that it is spoken: "1.500 €" and "mil quinientos euros" are the same words."""

import functools
import re
import unicodedata
from collections.abc import Callable

from num2words import num2words

CURRENCIES = {  # the sign: one, several, one hundredth, several hundredths
    "€": ("euro", "euros", "céntimo", "céntimos"),
    "us$": ("dólar", "dólares", "centavo", "centavos"),
    "mx$": ("peso", "pesos", "centavo", "centavos"),
    "$": ("dólar", "dólares", "centavo", "centavos"),
    "£": ("libra", "libras", "penique", "peniques"),
    "¥": ("yen", "yenes", "sen", "sen"),
}
UNITS = {  # the sign after a number: one, several
    "%": ("por ciento", "por ciento"),
    "‰": ("por mil", "por mil"),
    "°c": ("grado celsius", "grados celsius"),
    "°f": ("grado fahrenheit", "grados fahrenheit"),
    "°": ("grado", "grados"),
    "km/h": ("kilómetro por hora", "kilómetros por hora"),
    "km": ("kilómetro", "kilómetros"),
    "cm": ("centímetro", "centímetros"),
    "mm": ("milímetro", "milímetros"),
    "kg": ("kilogramo", "kilogramos"),
}
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

# num2words' ordinals from 11 on are of another age; these are the Academy's (Ortografía 2010, VIII.2).
TENTHS = ("", "décimo", "vigésimo", "trigésimo", "cuadragésimo", "quincuagésimo", "sexagésimo", "septuagésimo",
          "octogésimo", "nonagésimo")  # fmt: skip
UNITHS = ("", "primero", "segundo", "tercero", "cuarto", "quinto", "sexto", "séptimo", "octavo", "noveno")
ORDINAL_ENDINGS = "er|ero|era|ro|ra|do|da|to|ta|mo|ma|vo|va|no|na"
ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}

THOUSANDS = {
    ".": r"\d{1,3}(?:\.\d{3})+(?!\d)",
    ",": r"[1-9]\d{0,2}(?:,\d{3})+(?!\d)",
    " ": r"\d{1,3}(?:[ \u00a0\u202f\u2009]\d{3})+(?!\d)",
}
NUMBER = rf"(?:{'|'.join(THOUSANDS.values())}|\d+)(?:[.,]\d+)?"
SPOKEN_DIGITS = 10  # so many digits in a row, or a zero in front, are a telephone or an account: digit by digit

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
    text = re.sub(r"\b(siglos? )([ivxlc]+)\b", lambda match: match[1] + _words(_roman(match[2])), text)
    text = re.sub(r"(?<![\d:,.])(\d{1,2}):([0-5]\d)(?: ?h(?:rs?|oras)?\b)?(?![\d:])", _time, text)
    text = _money(text)
    text = re.sub(rf"(\d+)(?:\.?([ºª])|\.?({ORDINAL_ENDINGS})\b)", _ordinal, text)
    signs = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
    text = re.sub(rf"({NUMBER})[ \u00a0\u202f]?({signs})(?!\w)", _measure, text)
    text = re.sub(rf"(?:(?<=\s)|^)-(?={NUMBER})", " menos ", text)
    text = re.sub(NUMBER, lambda match: f" {_words(match[0])} ", text)
    for sign, word in SYMBOLS.items():
        text = text.replace(sign, word)
    text = re.sub(r"[^\w]|_", " ", text)
    text = _level_gender(" ".join(text.split()))
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


def _words(number: str | int) -> str:
    """Says a number, as written with separators or without."""
    whole, mark, decimals = _split(str(number))
    if not whole.isascii() or not decimals.isascii():  # digits of other scripts
        whole, decimals = (str(int(part)) if part else "" for part in (whole, decimals))
    if len(whole) >= SPOKEN_DIGITS or (len(whole) > 1 and whole[0] == "0"):
        said = _digits(whole)
    else:
        said = num2words(int(whole), lang="es")
    if decimals:
        zeros = len(decimals) - len(decimals.lstrip("0"))
        rest = decimals[zeros:]
        tail = _digits(rest) if len(rest) > 2 else num2words(int(rest), lang="es") if rest else ""
        said = " ".join([said, "coma" if mark == "," else "punto", *["cero"] * zeros, tail])
    return said.strip()


def _digits(digits: str) -> str:
    return " ".join(num2words(int(digit), lang="es") for digit in digits)


def _split(number: str) -> tuple[str, str, str]:
    """Splits a written number into its whole digits, its decimal mark and its decimals."""
    for mark, pattern in THOUSANDS.items():
        if match := re.fullmatch(rf"({pattern})(?:([.,])(\d+))?", number):
            if match[2] != mark:
                return re.sub(r"\D", "", match[1]), match[2] or "", match[3] or ""
    whole, mark, decimals = re.fullmatch(r"(\d+)(?:([.,])(\d+))?", number).groups()
    return whole, mark or "", decimals or ""


def _plural(words: tuple[str, str], number: str) -> str:
    """Says a number with its noun: "un euro", "dos euros", "un millón de euros"."""
    if number == "1":
        return f" {'un ' if words[0] != words[1] else 'uno '}{words[0]} "
    said = _words(number)
    of = "de " if re.search(r"mill(ón|ones)$", said) and words[0] != words[1] else ""
    return f" {said} {of}{words[1]} "


def _measure(match: re.Match) -> str:
    return _plural(UNITS[match[2]], match[1])


def _money(text: str) -> str:
    signs = "|".join(sorted(map(re.escape, CURRENCIES), key=len, reverse=True))
    text = re.sub(rf"({signs})[ \u00a0\u202f]?({NUMBER})", lambda match: _amount(match[2], match[1]), text)
    return re.sub(rf"({NUMBER})[ \u00a0\u202f]?({signs})", lambda match: _amount(match[1], match[2]), text)


def _amount(number: str, sign: str) -> str:
    """Says an amount of money: two decimals are its hundredths, and any other number of them is a decimal."""
    one, several, cent, cents = CURRENCIES[sign]
    whole, _, decimals = _split(number)
    if len(decimals) != 2:
        return _plural((one, several), number)
    said = _plural((one, several), whole)
    return said if int(decimals) == 0 else f"{said}con {_plural((cent, cents), str(int(decimals)))}"


def _time(match: re.Match) -> str:
    hours, minutes = int(match[1]), int(match[2])
    if hours > 24:
        return match[0]
    said = num2words(hours, lang="es")
    return f" {said} {num2words(minutes, lang='es')} " if minutes else f" {said} "


def _ordinal(match: re.Match) -> str:
    """Says "1º", "2.ª", "3er", "4ta": those below a hundred; others are said as plain numbers."""
    number, sign, ending = int(match[1]), match[2], match[3] or ""
    if not 0 < number < 100:
        return f" {_words(number)} "
    said = f"{TENTHS[number // 10]} {UNITHS[number % 10]}".strip()
    said = {"décimo primero": "undécimo", "décimo segundo": "duodécimo"}.get(said, said)
    if sign == "ª" or ending.endswith("a"):
        said = re.sub(r"o\b", "a", said)
    elif ending == "er" and number % 10 in (1, 3):
        said = said.removesuffix("o")
    return f" {said} "


def _roman(letters: str) -> int:
    values = [ROMAN[letter] for letter in letters]
    return sum(-value if value < max(values[i:]) else value for i, value in enumerate(values))


def _level_gender(text: str) -> str:
    text = re.sub(r"\bveinti(?:ún|un|una)\b", "veintiuno", text)
    text = re.sub(rf"\b((?:{TENS}) y|ciento|cientos) (?:un|una)\b", r"\1 uno", text)
    return re.sub(rf"\b({HUNDREDS})as\b", r"\1os", text)
