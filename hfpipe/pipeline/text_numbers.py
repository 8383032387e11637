"""Write numbers out in words, in Spanish and English. `language` is a BCP 47 tag: "es", "es-MX", "en"."""

import re
from typing import NamedTuple

from num2words import num2words

from .text_locale import base_language, decimal_mark

BLANK = "[ \u00a0\u202f\u2009]"
GROUPED = {  # by thousands separator: a comma in English and in Mexico, a dot in Spain and South America
    ".": r"\d{1,3}(?:\.\d{3})+(?!\d)",
    ",": r"[1-9]\d{0,2}(?:,\d{3})+(?!\d)",
    " ": rf"\d{{1,3}}(?:{BLANK}\d{{3}})+(?!\d)",
}
SPOKEN_DIGITS = 10  # from this many digits on, or with a leading zero, read digit by digit: phone or account numbers
LONGEST_NUMBER = 15  # digits of a number with thousands separators that is still read as a cardinal

# num2words' ordinals from 11 on are archaic; these follow the Real Academia Española (Ortografía, 2010, VIII.2).
HUNDREDTHS = ("", "centésimo", "ducentésimo", "tricentésimo", "cuadringentésimo", "quingentésimo", "sexcentésimo",
              "septingentésimo", "octingentésimo", "noningentésimo")  # fmt: skip
TENTHS = ("", "décimo", "vigésimo", "trigésimo", "cuadragésimo", "quincuagésimo", "sexagésimo", "septuagésimo",
          "octogésimo", "nonagésimo")  # fmt: skip
UNITHS = ("", "primero", "segundo", "tercero", "cuarto", "quinto", "sexto", "séptimo", "octavo", "noveno")
ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
DENOMINATORS = {
    "es": ("medio", "tercio", "cuarto", "quinto", "sexto", "séptimo", "octavo", "noveno", "décimo"),
    "en": ("half", "third", "quarter", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
}

# Spanish words that may follow a number but aren't a noun that it agrees with.
NO_NOUNS = set(
    """a al ahora am antes cada como con cuando de del desde después donde e el en entre era es esa ese esta este fue
    fuera ha hasta hay la las le lo los más menos mil ni no o para pero pm por porque que se sea según si sin sino
    sobre son su sus también tras u un una uno y ya""".split()
)
MASCULINE_IN_A = re.compile(
    r"(?:d[ií]a|mapa|[eoa]ma|grama|planeta|tranvía|yoga|sofá|cura|guardia|gorila|pijama)s?$|(?:cami|avi)[oó]n(?:es)?$"
)
FEMININE = re.compile(
    r"(?:as?|[csxg]i[oó]n(?:es)?|(?:re)?uni[oó]n(?:es)?|opini[oó]n(?:es)?|raz[oó]n(?:es)?|dad|dades|tud|tudes"
    r"|\b(?:manos?|mujer(?:es)?|noches?|tardes?|partes?|ve[zc](?:es)?|clases?|calles?|llaves?|torres?|series?"
    r"|flor(?:es)?|lu[zc](?:es)?|vo[zc](?:es)?|frases?|bases?|claves?|fases?|im[aá]gen(?:es)?|actri[zc](?:es)?"
    r"|leyes|ley|red|redes|sed|pared|paredes|cumbres?|crisis|tesis|dosis|hip[oó]tesis))$"
)


class Written(NamedTuple):
    """A written number: integer digits, decimal separator, decimals, and whether it has thousands separators."""

    whole: str
    mark: str
    decimals: str
    is_grouped: bool


def number_pattern(language: str) -> str:
    """Return the regular expression, without capturing groups, of a number as written in a language."""
    is_spanish = base_language(language) == "es"
    groups = [pattern for mark, pattern in GROUPED.items() if is_spanish or mark != "."]
    return rf"(?:{'|'.join(groups)}|\d+)" + (r"(?:[.,]\d+)?" if is_spanish else r"(?:\.\d+)?")


def say_number(number: str, language: str) -> str:
    """Return a number in words; long numbers without separators, such as phone numbers, are read digit by digit."""
    whole, mark, decimals, is_grouped = split_number(number, language)
    longest = LONGEST_NUMBER if is_grouped else SPOKEN_DIGITS - 1
    if len(whole) > longest or (len(whole) > 1 and whole[0] == "0"):
        said = say_digits(whole, language)
    else:
        said = cardinal(int(whole), language)
    return f"{said} {_fraction(mark, decimals, language)}" if decimals else said


def say_decimal(whole: str, mark: str, decimals: str, language: str) -> str:
    """Return a number in words whose mark is known to be the decimal separator."""
    return f"{cardinal(int(whole), language)} {_fraction(mark, decimals, language)}".strip()


def _fraction(mark: str, decimals: str, language: str) -> str:
    """Return the decimals of a number in words: "coma cinco", "point five"; "" if there are none."""
    if not decimals:
        return ""
    if base_language(language) == "en":
        return f"point {say_digits(decimals, language)}"
    zeros = len(decimals) - len(decimals.lstrip("0"))
    rest = decimals[zeros:]
    tail = say_digits(rest, language) if len(rest) > 2 else cardinal(int(rest), language) if rest else ""
    return " ".join(["coma" if mark == "," else "punto", *["cero"] * zeros, tail]).strip()


def say_digits(digits: str, language: str) -> str:
    """Return the names of digits, one by one."""
    return " ".join(cardinal(int(digit), language) for digit in digits)


def say_year(year: int, language: str) -> str:
    """Return a year in words; English reads it in pairs of digits."""
    return num2words(year, lang="en", to="year") if base_language(language) == "en" else cardinal(year, language)


def say_ordinal(number: int, language: str, *, feminine: bool = False, short: bool = False) -> str:
    """Return an ordinal in words; in Spanish, numbers outside of 1 to 1000 are read as cardinals.

    Args:
        feminine: use the Spanish feminine form, such as "primera".
        short: use the Spanish form before a masculine noun: "primer", "tercer".
    """
    if base_language(language) == "en":
        return num2words(number, lang="en", to="ordinal")
    if not 0 < number <= 1000:
        return cardinal(number, language)
    if number == 1000:
        said = "milésimo"
    else:
        said = " ".join(f"{HUNDREDTHS[number // 100]} {TENTHS[number // 10 % 10]} {UNITHS[number % 10]}".split())
    said = said.replace("décimo primero", "undécimo").replace("décimo segundo", "duodécimo")
    said = re.sub(r"\bdécimo (o?)(?=\w)", "decimo", said)  # "decimoctavo", "decimotercero", but "vigésimo tercero"
    if feminine:
        return re.sub(r"o\b", "a", said)
    return re.sub("(?<=primer|tercer)o$", "", said) if short else said


def count(number: str, names: tuple[str, str], language: str) -> str:
    """Return a number in words with its noun: "un euro", "dos euros", "un millón de euros".

    Args:
        number: as written.
        names: the noun, in the singular and in the plural.
    """
    one, several = names
    noun = one if number == "1" else several
    said = say_number(number, language)
    if base_language(language) == "en":
        return f" {said} {noun} "
    if one != several:
        said = agree(said, noun.split()[0])
    return f" {said} {'de ' if re.search(r'mill(ón|ones)$', said) else ''}{noun} "


def agree(said: str, noun: str) -> str:
    """Inflect a Spanish number to agree with its noun: "veintiún años", "veintiuna casas", "doscientas personas"."""
    if is_feminine(noun):
        said = re.sub(r"(cient|quinient)os\b(?!.*mill)", r"\1as", said)
        return re.sub(r"(?<!\w)uno$|(?<=veinti)uno$", "una", said)
    return re.sub(r"veintiuno$", "veintiún", re.sub(r"(?<!\w)uno$", "un", said))


def roman(letters: str) -> int:
    """Return the value of a Roman numeral."""
    values = [ROMAN[letter] for letter in letters.upper()]
    return sum(-value if value < max(values[i:]) else value for i, value in enumerate(values))


def split_number(number: str, language: str) -> Written:
    """Split a written number at its decimal separator, and remove its thousands separators.

    In Spanish, one comma or point before three digits is ambiguous. With a region in the tag, the mark that is that
    region's decimal separator is read as one ("12.500" is 12.5 in es-MX and 12500 in es-ES); without, it groups
    thousands.
    """
    is_spanish = base_language(language) == "es"
    ambiguous = re.fullmatch(r"[1-9]\d{0,2}([.,])\d{3}", number)
    if not (is_spanish and ambiguous and ambiguous[1] == decimal_mark(language)):
        for mark, pattern in GROUPED.items():
            match = re.fullmatch(rf"({pattern})(?:([.,])(\d+))?", number)
            if match and match[2] != mark and (is_spanish or mark != "."):
                return Written(re.sub(r"\D", "", match[1]), match[2] or "", match[3] or "", True)
    whole, mark, decimals = re.split(r"([.,])(?=\d+$)", number) if re.search("[.,]", number) else (number, "", "")
    return Written(re.sub(r"\D", "", whole), mark, decimals, False)


def cardinal(number: int, language: str) -> str:
    """Return a whole number in words."""
    said = num2words(number, lang=base_language(language)).replace(",", "")
    if base_language(language) == "es":  # num2words has "setenta y uno millones"
        said = re.sub(r"\bveintiuno (?=mil)", "veintiún ", re.sub(r"\buno (?=mil)", "un ", said))
    return said


def noun_after(match: re.Match) -> str | None:
    """Return the Spanish noun that follows a number, or None; a heuristic without part-of-speech tagging."""
    following = re.match(rf"{BLANK}(?:mil{BLANK})?([^\W\d_]+)", match.string[match.end() :])
    return following[1] if following and following[1].islower() and following[1] not in NO_NOUNS else None


def is_feminine(noun: str) -> bool:
    """Return whether a Spanish noun, in the singular or plural, is feminine, as far as its ending tells."""
    return bool(FEMININE.search(noun)) and not MASCULINE_IN_A.search(noun)
