"""Read BCP 47 language tags: the language picks the words; the region picks how numbers, dates and "$" are read."""

import functools
import re

from babel import Locale, UnknownLocaleError
from babel.dates import get_date_format
from babel.numbers import get_decimal_symbol, get_territory_currencies


@functools.cache
def base_language(tag: str) -> str:
    """Return the language subtag in lower case: "es" of "es-MX", "es_mx" and "ES"."""
    return re.split("[-_]", tag)[0].lower()


@functools.cache
def region_of(tag: str) -> str:
    """Return the region subtag in upper case, or "": "MX" of "es-MX", "es_mx" and "es-Latn-MX", "419" of "es-419"."""
    for part in re.split("[-_]", tag)[1:]:
        if len(part) == 1:  # an extension or private use
            break
        if re.fullmatch("[A-Za-z]{2}|[0-9]{3}", part):
            return part.upper()
    return ""


@functools.cache
def cldr_locale(tag: str) -> Locale:
    """Return the CLDR locale of a tag: that of its region where CLDR has one, else that of its language."""
    language, region = base_language(tag), region_of(tag)
    try:
        return Locale(language, region or None)
    except UnknownLocaleError:
        return Locale(language)


@functools.cache
def decimal_mark(tag: str) -> str:
    """Return the decimal separator that CLDR gives for the region, "." or ","; "" if the tag names no region.

    Spanish uses both: a comma in Spain and most of South America, a point in Mexico and Central America.
    """
    locale = cldr_locale(tag)
    return get_decimal_symbol(locale) if locale.territory else ""


@functools.cache
def is_month_first(tag: str) -> bool:
    """Return whether CLDR's short date of the locale has the month before the day, as in the United States."""
    pattern = get_date_format("short", locale=cldr_locale(tag)).pattern
    return pattern.find("M") < pattern.find("d")


@functools.cache
def local_currency(tag: str) -> str:
    """Return the ISO 4217 code of the region's own currency; "" if the tag names no country."""
    region = region_of(tag)
    currencies = get_territory_currencies(region) if region.isalpha() else []
    return currencies[0] if currencies else ""
