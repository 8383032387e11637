"""Write numbers, amounts of money, measurements, dates and times out in words, in Spanish and English."""

import datetime
import functools
import re
from typing import NamedTuple

from babel.dates import get_month_names
from babel.units import format_unit
from num2words import num2words

BLANK = "[ \u00a0\u202f\u2009]"
GROUPED = {  # by thousands separator: a comma in English and in Mexico, a dot in Spain and South America
    ".": r"\d{1,3}(?:\.\d{3})+(?!\d)",
    ",": r"[1-9]\d{0,2}(?:,\d{3})+(?!\d)",
    " ": rf"\d{{1,3}}(?:{BLANK}\d{{3}})+(?!\d)",
}
SPOKEN_DIGITS = 10  # from this many digits on, or with a leading zero, read digit by digit: phone or account numbers
LONGEST_NUMBER = 15  # digits of a number with thousands separators that is still read as a cardinal

UNITS = {  # unit symbol: CLDR unit identifier
    "km/h": "speed-kilometer-per-hour", "m/s": "speed-meter-per-second", "mph": "speed-mile-per-hour",
    "km²": "area-square-kilometer", "m²": "area-square-meter", "km2": "area-square-kilometer",
    "m2": "area-square-meter", "ha": "area-hectare", "m³": "volume-cubic-meter", "m3": "volume-cubic-meter",
    "km": "length-kilometer", "m": "length-meter", "cm": "length-centimeter", "mm": "length-millimeter",
    "ft": "length-foot", "mi": "length-mile", "kg": "mass-kilogram", "g": "mass-gram", "mg": "mass-milligram",
    "t": "mass-tonne", "lb": "mass-pound", "lbs": "mass-pound", "oz": "mass-ounce", "l": "volume-liter",
    "L": "volume-liter", "ml": "volume-milliliter", "mL": "volume-milliliter", "°C": "temperature-celsius",
    "ºC": "temperature-celsius", "°F": "temperature-fahrenheit", "°": "angle-degree", "%": "concentr-percent",
    "‰": "concentr-permille", "kWh": "energy-kilowatt-hour", "kcal": "energy-kilocalorie", "W": "power-watt",
    "kW": "power-kilowatt", "MW": "power-megawatt", "V": "electric-volt", "Hz": "frequency-hertz",
    "kHz": "frequency-kilohertz", "MHz": "frequency-megahertz", "GHz": "frequency-gigahertz",
    "KB": "digital-kilobyte", "MB": "digital-megabyte", "GB": "digital-gigabyte", "TB": "digital-terabyte",
    "h": "duration-hour", "min": "duration-minute", "s": "duration-second", "ms": "duration-millisecond",
}  # fmt: skip
UNITS |= {sign.lower(): name for sign, name in UNITS.items() if sign.lower() not in UNITS}
CURRENCIES = {  # by ISO 4217 code: singular, plural, and singular and plural of the hundredth
    "es": {
        "EUR": ("euro", "euros", "céntimo", "céntimos"), "USD": ("dólar", "dólares", "centavo", "centavos"),
        "MXN": ("peso", "pesos", "centavo", "centavos"), "COP": ("peso", "pesos", "centavo", "centavos"),
        "ARS": ("peso", "pesos", "centavo", "centavos"), "CLP": ("peso", "pesos", "centavo", "centavos"),
        "PEN": ("sol", "soles", "céntimo", "céntimos"), "GBP": ("libra", "libras", "penique", "peniques"),
        "JPY": ("yen", "yenes", "sen", "sen"),
    },
    "en": {
        "EUR": ("euro", "euros", "cent", "cents"), "USD": ("dollar", "dollars", "cent", "cents"),
        "MXN": ("peso", "pesos", "centavo", "centavos"), "COP": ("peso", "pesos", "centavo", "centavos"),
        "ARS": ("peso", "pesos", "centavo", "centavos"), "CLP": ("peso", "pesos", "centavo", "centavos"),
        "PEN": ("sol", "soles", "cent", "cents"), "GBP": ("pound", "pounds", "penny", "pence"),
        "JPY": ("yen", "yen", "sen", "sen"),
    },
}  # fmt: skip
# The country that "$" belongs to isn't known from the text alone, so it is read as dollars.
SIGNS = {"€": "EUR", "US$": "USD", "MX$": "MXN", "COP$": "COP", "S/": "PEN", "$": "USD", "£": "GBP", "¥": "JPY"}
SCALES = {"es": "mil|millón|millones|mil millones|billones", "en": "thousand|million|billion|trillion"}

# num2words' ordinals from 11 on are archaic; these follow the Real Academia Española (Ortografía, 2010, VIII.2).
TENTHS = ("", "décimo", "vigésimo", "trigésimo", "cuadragésimo", "quincuagésimo", "sexagésimo", "septuagésimo",
          "octogésimo", "nonagésimo")  # fmt: skip
UNITHS = ("", "primero", "segundo", "tercero", "cuarto", "quinto", "sexto", "séptimo", "octavo", "noveno")
ORDINAL_MARKS = {
    "es": r"\.?[ºª]|\.?(?:er|ero|era|ro|ra|do|da|to|ta|mo|ma|vo|va|no|na)\b",
    "en": r"(?:st|nd|rd|th)\b",
}
ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
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
MASCULINE_IN_A = re.compile(r"(?:d[ií]a|mapa|[eoa]ma|grama|planeta|tranvía|yoga|sofá|cura|guardia|gorila|pijama)s?$")
FEMININE = re.compile(r"(?:as?|ción|ciones|sión|siones|dad|dades|tud|tudes|manos?)$")


class Written(NamedTuple):
    """A written number: integer digits, decimal separator, decimals, and whether it has thousands separators."""

    whole: str
    mark: str
    decimals: str
    is_grouped: bool


def number_pattern(language: str) -> str:
    """Return the regular expression, without capturing groups, of a number as written in a language."""
    groups = [pattern for mark, pattern in GROUPED.items() if language == "es" or mark != "."]
    return rf"(?:{'|'.join(groups)}|\d+)(?:[.,]\d+)?" if language == "es" else rf"(?:{'|'.join(groups)}|\d+)(?:\.\d+)?"


def say_number(number: str, language: str) -> str:
    """Return a number in words; long numbers without separators, such as phone numbers, are read digit by digit."""
    whole, mark, decimals, is_grouped = split_number(number, language)
    longest = LONGEST_NUMBER if is_grouped else SPOKEN_DIGITS - 1
    if len(whole) > longest or (len(whole) > 1 and whole[0] == "0"):
        said = say_digits(whole, language)
    else:
        said = _cardinal(int(whole), language)
    if not decimals:
        return said
    if language == "en":
        return f"{said} point {say_digits(decimals, language)}"
    zeros = len(decimals) - len(decimals.lstrip("0"))
    rest = decimals[zeros:]
    tail = say_digits(rest, language) if len(rest) > 2 else _cardinal(int(rest), language) if rest else ""
    return " ".join([said, "coma" if mark == "," else "punto", *["cero"] * zeros, tail]).strip()


def say_digits(digits: str, language: str) -> str:
    """Return the names of digits, one by one."""
    return " ".join(_cardinal(int(digit), language) for digit in digits)


def say_year(year: int, language: str) -> str:
    """Return a year in words; English reads it in pairs of digits."""
    return num2words(year, lang="en", to="year") if language == "en" else _cardinal(year, language)


def say_ordinal(number: int, language: str, *, feminine: bool = False, short: bool = False) -> str:
    """Return an ordinal in words; in Spanish, numbers outside of 1 to 99 are read as cardinals, as is usual in speech.

    Args:
        feminine: use the Spanish feminine form, such as "primera".
        short: use the Spanish form before a masculine noun: "primer", "tercer".
    """
    if language == "en":
        return num2words(number, lang="en", to="ordinal")
    if not 0 < number < 100:
        return _cardinal(number, language)
    said = f"{TENTHS[number // 10]} {UNITHS[number % 10]}".strip()
    said = {"décimo primero": "undécimo", "décimo segundo": "duodécimo"}.get(said, said)
    if feminine:
        return re.sub(r"o\b", "a", said)
    return said.removesuffix("o") if short and number % 10 in (1, 3) else said


def say_date(day: int, month: int, year: int | None, language: str) -> str:
    """Return a date in words: "tres de mayo de dos mil veintiséis", "May third, twenty twenty-six"."""
    name = get_month_names("wide", locale=language)[month]
    if language == "en":
        return f"{name} {say_ordinal(day, 'en')}" + (f", {say_year(year, 'en')}" if year else "")
    said = f"{'primero' if day == 1 else _cardinal(day, language)} de {name}"
    return said + (f" de {_cardinal(year, language)}" if year else "")


def read_dates(text: str, language: str) -> str:
    """Write out dates: "2026-11-24", "24/11/2026" (in English "11/24/2026"), "1 de mayo", "May 1"."""

    def say(match: re.Match) -> str:
        first, second = match[1], match[3]
        day, month = (second, first) if language == "en" and int(first) <= 12 else (first, second)
        return _date(match[0], day, month, match[4], language)

    text = re.sub(
        r"(?<![\d-])(\d{4})-(\d\d)-(\d\d)(?![\d-])",
        lambda match: _date(match[0], match[3], match[2], match[1], language),
        text,
    )
    text = re.sub(r"(?<![\d/.-])(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?![\d/-])", say, text)
    months = "|".join(get_month_names("wide", locale=language).values())
    if language == "en":
        day = rf"\b({months}) (\d{{1,2}})\b(?![:.,]\d)"
        return re.sub(day, lambda match: f"{match[1]} {say_ordinal(int(match[2]), 'en')}", text)
    return re.sub(rf"(?<![\d.,])1 de (?={months})", "primero de ", text)


def read_hours(text: str, language: str) -> str:
    """Write out times of day: "3:30", "15:00 h", "8 p. m."."""
    half = rf"(?:{BLANK}?([ap])\.?{BLANK}?m\b\.?)"
    clock = rf"(?<![\d:.,])(\d{{1,2}}):([0-5]\d)(?::[0-5]\d)?(?:{BLANK}?h(?:rs?|oras)?\b\.?)?{half}?(?![\d:])"
    plain = rf"(?<![\d:.,])(\d{{1,2}})(){half}(?![\d:])"

    def say(match: re.Match) -> str:
        hour, minutes, period = int(match[1]), int(match[2] or 0), (match[3] or "").lower()
        if hour > 24:
            return match[0]
        said = (_spanish_hour if language == "es" else _english_hour)(hour, minutes, period)
        is_end = match[0].endswith(".") and not match.string[match.end() :].strip()
        return f" {said}{'.' if is_end else ' '}"

    return re.sub(plain, say, re.sub(clock, say, text, flags=re.IGNORECASE), flags=re.IGNORECASE)


def read_money(text: str, language: str) -> str:
    """Write out amounts of money: "1.500 €", "$3.50", "US$ 2 millones", "20 EUR".

    Two decimals are read as hundredths, such as cents; any other number of them as a decimal fraction.
    """
    names, number = CURRENCIES[language], number_pattern(language)
    signs = "|".join(sorted(map(re.escape, [*SIGNS, *names]), key=len, reverse=True))
    scale = rf"(?:{BLANK}({SCALES[language]})\b)?"

    def say(number: str, scale: str | None, sign: str) -> str:
        code = SIGNS.get(sign.upper(), sign.upper())
        return _amount(number, scale, names[code], language)

    before = rf"(?<!\w)({signs}){BLANK}?({number}){scale}"
    after = rf"({number}){scale}{BLANK}?(?:de )?({signs})(?!\w)"
    text = re.sub(before, lambda match: say(match[2], match[3], match[1]), text, flags=re.IGNORECASE)
    return re.sub(after, lambda match: say(match[1], match[2], match[3]), text, flags=re.IGNORECASE)


def read_ordinals(text: str, language: str) -> str:
    """Write out ordinals: "1º", "2.ª", "3er", "4ta", "1st"."""

    def say(match: re.Match) -> str:
        mark = match[2].removeprefix(".")
        feminine = language == "es" and (mark == "ª" or mark.endswith("a"))
        return f" {say_ordinal(int(match[1]), language, feminine=feminine, short=mark == 'er')} "

    return re.sub(rf"(?<![\d.,])(\d{{1,9}})({ORDINAL_MARKS[language]})", say, text)


def read_measures(text: str, language: str) -> str:
    """Write out numbers with units: "5 km", "20 °C", "50 %"."""
    pattern = rf"({number_pattern(language)}){BLANK}?({_signs()})(?:/([^\W\d_]+))?(?![\w/])"

    def say(match: re.Match) -> str:
        said = count(match[1], _unit(UNITS[match[2]], language), language)
        return f"{said}{'por' if language == 'es' else 'per'} {match[3]}" if match[3] else said

    return re.sub(pattern, say, text)


def read_numbers(text: str, language: str) -> str:
    """Write out all remaining numbers; in Spanish they agree in gender with the noun that follows."""

    def say(match: re.Match) -> str:
        said = say_number(match[0], language)
        noun = _noun_after(match) if language == "es" else None
        return f" {agree(said, noun) if noun else said} "

    return re.sub(number_pattern(language), say, text)


def read_fractions(text: str, language: str) -> str:
    """Write out fractions: "3/4", "½", "1/2 kg"."""
    unit = rf"((?<=\d/)\d{{1,2}}|(?<=[½¼¾])){BLANK}?({_signs()})(?![\w/])"
    text = re.sub(unit, lambda match: f"{match[1]} {_unit(UNITS[match[2]], language)[0]}", text)
    for sign, fraction in {"½": "1/2", "¼": "1/4", "¾": "3/4"}.items():
        both = " y " if language == "es" else " and "
        text = re.sub(rf"(?<=\d){BLANK}?{sign}", both + fraction, text).replace(sign, fraction)

    def say(match: re.Match) -> str:
        above, below = int(match[1]), int(match[2])
        if not 2 <= below <= 10 or not 0 < above < 10:
            return f"{match[1]} {'entre' if language == 'es' else 'over'} {match[2]}"
        name = DENOMINATORS[language][below - 2]
        if language == "en":
            return f"{_cardinal(above, 'en')} " + (name if above == 1 else "halves" if name == "half" else f"{name}s")
        noun = _noun_after(match)
        if above == 1 and below == 2:
            return "media" if noun and agree("uno", noun) == "una" else "medio"
        said = f"{'un' if above == 1 else _cardinal(above, 'es')} {name}{'' if above == 1 else 's'}"
        return f"{said} de" if noun else said

    return re.sub(r"(?<![\d/.,])(\d{1,3})/(\d{1,3})(?![\d/])", say, text)


def count(number: str, names: tuple[str, str], language: str) -> str:
    """Return a number in words with its noun: "un euro", "dos euros", "un millón de euros".

    Args:
        number: as written.
        names: the noun, in the singular and in the plural.
        language: "es" or "en".
    """
    one, several = names
    said = say_number(number, language)
    if language == "es" and one != several:
        said = agree(said, several if number != "1" else one)
        of = "de " if re.search(r"mill(ón|ones)$", said) else ""
        return f" {said} {of}{one if number == '1' else several} "
    return f" {said} {one if number == '1' else several} "


def agree(said: str, noun: str) -> str:
    """Inflect a Spanish number to agree with its noun: "veintiún años", "veintiuna casas", "doscientas personas"."""
    if FEMININE.search(noun) and not MASCULINE_IN_A.search(noun):
        said = re.sub(r"(cient|quinient)os\b(?! mill)", r"\1as", said)
        return re.sub(r"(?<!\w)uno$|(?<=veinti)uno$", "una", said)
    return re.sub(r"veintiuno$", "veintiún", re.sub(r"(?<!\w)uno$", "un", said))


def roman(letters: str) -> int:
    """Return the value of a Roman numeral."""
    values = [ROMAN[letter] for letter in letters.upper()]
    return sum(-value if value < max(values[i:]) else value for i, value in enumerate(values))


def split_number(number: str, language: str) -> Written:
    """Split a written number at its decimal separator, and remove its thousands separators."""
    for mark, pattern in GROUPED.items():
        match = re.fullmatch(rf"({pattern})(?:([.,])(\d+))?", number)
        if match and (language == "es" or mark != "."):
            return Written(re.sub(r"\D", "", match[1]), match[2] or "", match[3] or "", True)
    whole, mark, decimals = number.partition("," if "," in number else ".")
    return Written(whole, mark, decimals, False)


def _cardinal(number: int, language: str) -> str:
    return num2words(number, lang=language).replace(",", "")


def _noun_after(match: re.Match) -> str | None:
    """Return the Spanish noun that follows a number, or None; a heuristic without part-of-speech tagging."""
    following = re.match(rf"{BLANK}(?:mil{BLANK})?([^\W\d_]+)", match.string[match.end() :])
    return following[1] if following and following[1].islower() and following[1] not in NO_NOUNS else None


def _date(written: str, day: str, month: str, year: str, language: str) -> str:
    try:
        date = datetime.date(int(year), int(month), int(day))
    except ValueError:  # not a calendar date
        return written
    return f" {say_date(date.day, date.month, date.year, language)} "


def _spanish_hour(hour: int, minutes: int, period: str) -> str:
    said = agree(_cardinal(hour, "es"), "horas")
    if minutes:
        parts = {15: "y cuarto", 30: "y media"} if hour <= 12 else {}
        both = "y " if hour <= 12 else ""
        said += " " + parts.get(minutes, both + _cardinal(minutes, "es"))
    elif not period and hour > 12:
        said += " horas"
    if hour == 12 and not minutes and period:
        return said + (" del mediodía" if period == "p" else " de la noche")
    if period == "p":
        return said + (" de la tarde" if hour < 8 or hour == 12 else " de la noche")
    return said + (" de la mañana" if period else "")


def _english_hour(hour: int, minutes: int, period: str) -> str:
    said = _cardinal(hour, "en")
    if minutes:
        said += (" oh " if minutes < 10 else " ") + _cardinal(minutes, "en")
    elif not period:
        said += " o'clock" if hour <= 12 else " hundred hours"
    return f"{said} {period}.m." if period else said


@functools.cache
def _signs() -> str:
    return "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))


@functools.cache
def _unit(name: str, language: str) -> tuple[str, str]:
    one, several = (format_unit(number, name, locale=language) for number in (1, 2))
    return one.removeprefix("1").strip(), several.removeprefix("2").strip()


def _amount(number: str, scale: str | None, names: tuple[str, str, str, str], language: str) -> str:
    if scale:
        said = agree(say_number(number, language), scale) if language == "es" else say_number(number, language)
        of = " de" if scale.lower() != "mil" and language == "es" else ""
        return f" {said} {scale}{of} {names[1]} "
    whole, _, decimals, _ = split_number(number, language)
    if len(decimals) != 2:
        return count(number, names[:2], language)
    said = count(whole, names[:2], language)
    both = "con" if language == "es" else "and"
    return said if int(decimals) == 0 else f"{said}{both}{count(str(int(decimals)), names[2:], language)}"
