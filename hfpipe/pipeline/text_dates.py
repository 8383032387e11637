"""Write dates, decades, hours and durations out in words, in Spanish and English."""

import datetime
import functools
import re

from babel.dates import get_month_names

from .text_locale import base_language, is_month_first
from .text_numbers import BLANK, agree, cardinal, say_ordinal, say_year

# A day and a month without a year look like a fraction, unless the day says otherwise or such a word comes before.
DATED = {
    "es": r"\b(?:el|del|al|desde|hasta|día|fecha|hoy|lunes|martes|miércoles|jueves|viernes|sábado|domingo),? ",
    "en": r"\b(?:on|by|until|from|since|date|today|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday),? ",
}
MORE_MONTHS = {"es": {"sep": 9, "set": 9, "setiembre": 9}, "en": {"sept": 9}}
CLOCK = re.compile(
    r"(\b(?:a|de|desde|hasta|son|hacia|sobre|para) las )(\d{1,2})\.([0-5]\d)(?![\d.,]|\s?%)", re.IGNORECASE
)
THIS_CENTURY = 50  # two-digit years below it are in the 2000s
UNITS_OF_TIME = {
    "es": (("hora", "horas"), ("minuto", "minutos"), ("segundo", "segundos")),
    "en": (("hour", "hours"), ("minute", "minutes"), ("second", "seconds")),
}


def say_date(day: int, month: int, year: int | None, language: str) -> str:
    """Return a date in words: "tres de mayo de dos mil veintiséis", "May third, twenty twenty-six"."""
    base = base_language(language)
    name = get_month_names("wide", locale=base)[month]
    if base == "es":
        said = f"{'primero' if day == 1 else cardinal(day, language)} de {name}"
        return said + (f" de {cardinal(year, language)}" if year else "")
    day_said = say_ordinal(day, language)
    said = f"{name} {day_said}" if is_month_first(language) else f"the {day_said} of {name}"
    return said + (f", {say_year(year, language)}" if year else "")


def read_dates(text: str, language: str) -> str:
    """Write out dates.

    "2026-11-24", "24/11/2026" and "5-mar-1990" are dates wherever they stand; "24/11" is one if only a date can have
    such numbers, or if a word before it tells so. In "05/03/2024" the region says which is the day: the month comes
    first in the United States, the Philippines, Puerto Rico and Panama, and in English of no region.
    """
    base = base_language(language)
    month_first = is_month_first(language)
    numbers, names = _months(base)

    def by_region(match: re.Match) -> str:
        day, month, year = match["first"], match["second"], match.groupdict().get("year")
        if month_first and int(day) <= 12 or int(month) > 12:
            day, month = month, day
        return _date(match[0], day, month, year, language)

    def named(match: re.Match) -> str:
        return _date(match[0], match["day"], numbers[match["month"].lower()], match["year"], language)

    text = re.sub(
        r"(?<![\d/-])(\d{4})([-/])(\d{1,2})\2(\d{1,2})(?:T(?=\d\d:)|(?![\d/-]))",
        lambda match: _date(match[0], match[4], match[3], match[1], language),
        text,
    )
    text = re.sub(
        r"(?<![\d/.-])(?P<first>\d{1,2})([/.-])(?P<second>\d{1,2})\2(?P<year>\d{4})(?![\d/-])", by_region, text
    )
    text = re.sub(
        r"(?<![\d/.-])(?P<first>\d{1,2})([/-])(?P<second>\d{1,2})\2(?P<year>\d\d)(?![\d/.-])", by_region, text
    )
    day_month = r"(?<![\d/.,])(?P<first>\d{1,2})/(?P<second>\d{1,2})(?![\d/]|[.,]\d)"
    short_date = functools.partial(_short_date, language=language)
    text = re.sub(f"(?i:(?P<word>{DATED[base]}))?" + day_month, short_date, text)
    text = re.sub(
        rf"(?<![\w-])(?P<day>\d{{1,2}})(?P<mark>[-/ ])(?:de )?(?P<month>{names})\.?(?P=mark)(?:del? )?"
        r"(?P<year>\d{4}|\d\d)(?![\w/-])",
        named,
        text,
        flags=re.IGNORECASE,
    )
    whole = "|".join(get_month_names("wide", locale=base).values())
    if base == "es":
        wide = get_month_names("wide", locale=base)
        short = r"\b(ene|feb|mar|abr|jun|jul|ago|sept?|set|oct|nov|dic)\.(?!\w)"
        text = re.sub(
            rf"(?i:(?<=\d de ){short}|{short}(?= (?:de )?\d{{4}}\b))",
            lambda match: wide[numbers[(match[1] or match[2]).lower()]],
            text,
        )
        return re.sub(rf"(?<![\d.,])1(?:\.?[º°]|ro\.?|ero)? de (?={whole})", "primero de ", text)
    text = re.sub(
        rf"\b({names})(?:\. (?=\d{{1,2}}\b)|\.? (?=\d{{1,2}},? \d{{4}}\b))",
        lambda match: f"{get_month_names('wide', locale='en')[numbers[match[1].lower()]]} ",
        text,
        flags=re.IGNORECASE,
    )
    text = re.sub(
        rf"\b({whole}) (\d{{1,2}})\b(?![:.,]\d|st|nd|rd|th)",
        lambda match: f"{match[1]} {say_ordinal(int(match[2]), language)}",
        text,
    )
    return re.sub(
        rf"(the )?(?<![\d.,])\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({whole})\b",
        lambda match: f"the {say_ordinal(int(match[2]), language)} of {match[3]}",
        text,
    )


def read_decades(text: str, language: str) -> str:
    """Write out decades: "1990s", "los 90s", "'90s", "90's"."""
    if base_language(language) == "en":
        pattern = r"(?<![\w.,])['’]?((?:1[1-9]|20)?[1-9]0|(?:1[1-9]|20)00)['’]?s\b"
        return re.sub(pattern, lambda match: _plural(say_year(int(match[1]), "en")), text)

    def say(match: re.Match) -> str:
        before, year = match[1] or "", int(match[3])
        if not before and year < 100 and not match[2] and not match[4]:  # "90s" are seconds
            return match[0]
        year = year - 1900 if 1920 <= year < 2000 else year
        return f"{before or 'los '}{cardinal(year, language)}"

    article = r"(\b(?:los|las|años) )?"
    text = re.sub(r"\b(los|años) ['’](?=[2-9]0\b)", r"\1 ", text)
    return re.sub(rf"{article}(?<![\w.,/-])(['’])?((?:1[1-9]|20)\d0|[2-9]0)(['’])?s\b", say, text, flags=re.IGNORECASE)


def read_hours(text: str, language: str) -> str:
    """Write out times of day and durations: "3:30", "15:00 h", "8 p. m.", "14h30", "1:02:03"."""
    base = base_language(language)
    half = rf"(?:{BLANK}?([ap])\.?{BLANK}?m\b\.?)"
    hours_sign = rf"(?:{BLANK}?h(?:rs?|s|oras)?\b\.?)?"
    clock = rf"(?<![\d:.,])(\d{{1,2}}):([0-5]\d){hours_sign}{half}?(?![\d:])"
    plain = rf"(?<![\d:.,])(\d{{1,2}})(){half}(?![\d:])"
    to = " a " if base == "es" else " to "
    text = re.sub(rf"(?<=[0-5]\d){BLANK}?[-–—]{BLANK}?(?=\d{{1,2}}:[0-5]\d)", to, text)
    text = re.sub(
        rf"(?<![\d:.,-])(\d{{1,2}})[-–](\d{{1,2}})(?={BLANK}?(?:h|hrs?|[ap]\.?{BLANK}?m)\b)", rf"\1{to}\2", text
    )
    if base == "es":
        text = re.sub(rf"(?<![\d.,])(\d{{1,2}})\.([0-5]\d)(?={BLANK}?h(?:rs?|s|oras)?\b)", r"\1:\2", text)  # "15.30 h"
        text = CLOCK.sub(r"\1\2:\3", text)  # "a las 7.30"

    def say(match: re.Match) -> str:
        hour, minutes, period = int(match[1]), int(match[2] or 0), (match[3] or "").lower()
        if hour > 24:
            return match[0]
        said = (_spanish_hour if base == "es" else _english_hour)(hour, minutes, period)
        is_end = match[0].endswith(".") and not match.string[match.end() :].strip()
        return f" {said.removesuffix('.') if is_end else said}{'.' if is_end else ' '}"

    def three(match: re.Match) -> str:
        return " " + _duration([int(part) for part in match.groups()], language) + " "

    def short(match: re.Match) -> str:
        hour, minutes = int(match[1]), int(match[2])
        if match["minutes"]:
            return f" {_duration([hour, minutes], language)} "
        one, several = UNITS_OF_TIME[base][0]
        zero = "" if minutes > 9 else "cero " if base == "es" else "oh "
        return f" {_of_time(hour, one, several, language)} {zero if minutes else ''}{cardinal(minutes, language)} "

    text = re.sub(rf"(?<![\d:.,])(\d{{1,3}}):([0-5]\d):([0-5]\d)(?![\d:.,]\d){hours_sign}", three, text)
    text = re.sub(
        rf"(?<![\w.,:])(\d{{1,2}}){BLANK}?h{BLANK}?([0-5]?\d)(?:{BLANK}?(?P<minutes>m(?:in)?)\b\.?)?(?![\w/])",
        short,
        text,
    )
    text = re.sub(plain, say, re.sub(clock, say, text, flags=re.IGNORECASE), flags=re.IGNORECASE)
    return re.sub(r"(?<=\d):(?=\d)", to, text)  # "16:9", "escala 1:100"


@functools.cache
def _months(base: str) -> tuple[dict[str, int], str]:
    """Return the months by their names and abbreviations in lower case, and a regular expression of these."""
    numbers = dict(MORE_MONTHS[base])
    for width in ("wide", "abbreviated"):
        numbers |= {name.lower().rstrip("."): number for number, name in get_month_names(width, locale=base).items()}
    return numbers, "|".join(sorted(numbers, key=len, reverse=True))


def _short_date(match: re.Match, language: str) -> str:
    """Read "31/12" as a date if its numbers or the word before it allow for nothing else."""
    word = match.groupdict().get("word") or ""
    first, second = int(match["first"]), int(match["second"])
    day, month = (second, first) if is_month_first(language) and first <= 12 or second > 12 else (first, second)
    has_zero = "0" in (match["first"][0], match["second"][0])
    if not (word or has_zero or (12 < day <= 31 and 0 < month <= 12)):
        return match[0]
    written = match[0][len(word) :]
    said = _date(written, str(day), str(month), None, language)
    return word + said.lstrip() if word else said


def _date(written: str, day: str, month: str | int, year: str | None, language: str) -> str:
    number = int(year) if year else None
    if year and len(year) == 2:
        number = int(year) + (2000 if int(year) < THIS_CENTURY else 1900)
    try:
        date = datetime.date(number or 2000, int(month), int(day))  # 2000 has a 29th of February
    except ValueError:  # not a calendar date
        return written
    return f" {say_date(date.day, date.month, number, language)} "


def _plural(said: str) -> str:
    return re.sub("y$", "ies", said) if said.endswith("y") else f"{said}s"


def _of_time(number: int, one: str, several: str, language: str) -> str:
    said = cardinal(number, language)
    if base_language(language) == "es":
        said = agree(said, several)
    return f"{said} {one if number == 1 else several}"


def _duration(parts: list[int], language: str) -> str:
    base = base_language(language)
    said = [_of_time(part, *names, language) for part, names in zip(parts, UNITS_OF_TIME[base], strict=False)]
    return " ".join(said)


def _spanish_hour(hour: int, minutes: int, period: str) -> str:
    said = agree(cardinal(hour, "es"), "horas")
    if hour == 0:
        return f"cero {'cero ' if minutes < 10 else ''}{cardinal(minutes, 'es')}" if minutes else "cero horas"
    if minutes:
        parts = {15: "y cuarto", 30: "y media"} if hour <= 12 else {}
        both = "y " if hour <= 12 else "cero " if minutes < 10 else ""
        said += " " + parts.get(minutes, both + cardinal(minutes, "es"))
    elif not period and hour > 12:
        said += " horas"
    if hour == 12 and period == "a":
        return f"{said} de la noche"
    if hour == 12 and period and not minutes:
        return f"{said} del mediodía"
    if period == "p":
        return said + (" de la tarde" if hour < 8 or hour == 12 else " de la noche")
    return said + (" de la mañana" if period else "")


def _english_hour(hour: int, minutes: int, period: str) -> str:
    if hour == 0:
        return "midnight" if not minutes else f"zero {'oh ' if minutes < 10 else ''}{cardinal(minutes, 'en')}"
    said = cardinal(hour, "en")
    if minutes:
        said += (" oh " if minutes < 10 else " ") + cardinal(minutes, "en")
    elif not period:
        said += " o'clock" if hour <= 12 else " hundred hours"
    return f"{said} {period}.m." if period else said
