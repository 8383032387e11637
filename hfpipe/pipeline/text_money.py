"""Write amounts of money out in words, in Spanish and English: "1.500 €", "US$ 2 millones", "S/ 20", "5 €/kg"."""

import functools
import re
import unicodedata
from typing import NamedTuple

from babel.numbers import get_currency_name, list_currencies

from .text_locale import base_language, cldr_locale, local_currency, region_of
from .text_measures import say_per
from .text_numbers import BLANK, agree, is_feminine, number_pattern, say_number, split_number

SIGNS = {  # currency sign: ISO 4217 code; a bare "$" is not here, since its country depends on the text
    "€": "EUR", "£": "GBP", "¥": "JPY", "֏": "AMD", "؋": "AFN", "৳": "BDT", "฿": "THB", "៛": "KHR", "₠": "XEU",
    "₡": "CRC", "₢": "BRE", "₣": "FRF", "₤": "ITL", "₦": "NGN", "₧": "ESP", "₨": "PKR", "₩": "KRW", "₪": "ILS",
    "₫": "VND", "₭": "LAK", "₮": "MNT", "₯": "GRD", "₱": "PHP", "₲": "PYG", "₳": "ARA", "₴": "UAH", "₵": "GHS",
    "₸": "KZT", "₹": "INR", "₺": "TRY", "₼": "AZN", "₽": "RUB", "₾": "GEL", "⃀": "KGS", "﷼": "IRR",
    "US$": "USD", "$us": "USD", "U$S": "USD", "U$D": "USD", "MX$": "MXN", "MEX$": "MXN", "Mex$": "MXN", "COP$": "COP",
    "COL$": "COP", "Col$": "COP", "AR$": "ARS", "ARS$": "ARS", "CLP$": "CLP", "CL$": "CLP", "UY$": "UYU",
    "$U": "UYU", "$b": "BOB", "RD$": "DOP", "C$": "NIO", "R$": "BRL", "CU$": "CUP", "BZ$": "BZD", "TT$": "TTD",
    "J$": "JMD", "CA$": "CAD", "CAD$": "CAD", "AU$": "AUD", "A$": "AUD", "NZ$": "NZD", "HK$": "HKD", "NT$": "TWD",
    "S$": "SGD", "EC$": "XCD", "CN¥": "CNY", "JP¥": "JPY", "S/.": "PEN", "S/": "PEN", "B/.": "PAB", "B/": "PAB",
    "Bs.S": "VES", "Bs.D": "VES", "Bs.F": "VEF", "Bs.": "BOB", "Bs": "BOB", "Gs.": "PYG", "Gs": "PYG", "G$": "GYD",
    "Lps.": "HNL", "Lps": "HNL", "FCFA": "XAF", "Fr.": "CHF", "Rs.": "INR", "Rs": "INR", "Kč": "CZK", "zł": "PLN",
    "Ft": "HUF", "kr": "SEK",
}  # fmt: skip
SIGNS |= {sign.lower(): code for sign, code in SIGNS.items() if "$" in sign}
REGIONAL_SIGNS = {  # by region, where a sign means something else, or is too short to mean money elsewhere
    "VE": {"Bs.": "VES", "Bs": "VES"}, "GT": {"Q.": "GTQ", "Q": "GTQ"}, "HN": {"L.": "HNL", "L": "HNL"},
    "CR": {"¢": "CRC"}, "SV": {"¢": "SVC"}, "DK": {"kr": "DKK"}, "NO": {"kr": "NOK"}, "CN": {"¥": "CNY"},
    "CL": {"UF": "CLF"},
}  # fmt: skip
LETTER_SIGNS = {"Q": "GTQ", "L": "HNL"}  # read as money everywhere, but only right before a number: "Q50", "L 100"
QUARTER = r"(?<=Q)[1-4](?![\d.,]*\d)"  # "Q3" is one of the year
OTHER_SIGNS = {  # what CLDR doesn't name: singular and plural
    "es": {"₿": ("bitcóin", "bitcoines"), "¢": ("centavo", "centavos"), "¤": ("unidad monetaria",
           "unidades monetarias"), "₥": ("milésimo", "milésimos"), "₰": ("pfennig", "pfennigs"),
           "₶": ("libra tornesa", "libras tornesas"), "₷": ("espesmilo", "espesmilos"),
           "₻": ("marco nórdico", "marcos nórdicos"), "৲": ("rupia", "rupias"), "৻": ("ganda", "gandas"),
           "૱": ("rupia", "rupias"), "௹": ("rupia", "rupias"), "꠸": ("rupia", "rupias"), "𞲰": ("rupia", "rupias")},
    "en": {"₿": ("bitcoin", "bitcoins"), "¢": ("cent", "cents"), "¤": ("currency unit", "currency units"),
           "₥": ("mill", "mills"), "₰": ("pfennig", "pfennigs"), "₶": ("livre tournois", "livres tournois"),
           "₷": ("spesmilo", "spesmilos"), "₻": ("Nordic mark", "Nordic marks"), "৲": ("rupee", "rupees"),
           "৻": ("ganda", "gandas"), "૱": ("rupee", "rupees"), "௹": ("rupee", "rupees"), "꠸": ("rupee", "rupees"),
           "𞲰": ("rupee", "rupees")},
}  # fmt: skip
FULLWIDTH = str.maketrans("﹩＄￠￡￥￦", "$$¢£¥₩")
# Currencies named without their country, as people name them; others keep the country that CLDR's name has.
KNOWN = set(
    """ARS BOB BRL CLP COP CRC CUP DOP ESP EUR GBP GTQ HNL JPY MXN NIO PAB PEN PYG SVC USD UYU VEF VES""".split()
)
CENTS = {  # the hundredth, by language and ISO 4217 code, where it isn't a "centavo" or a "cent"
    "es": {"EUR": ("céntimo", "céntimos"), "PEN": ("céntimo", "céntimos"), "CRC": ("céntimo", "céntimos"),
           "VES": ("céntimo", "céntimos"), "VEF": ("céntimo", "céntimos"), "PYG": ("céntimo", "céntimos"),
           "ESP": ("céntimo", "céntimos"), "CHF": ("céntimo", "céntimos"), "UYU": ("centésimo", "centésimos"),
           "PAB": ("centésimo", "centésimos"), "GBP": ("penique", "peniques"), "JPY": ("sen", "sen")},
    "en": {"GBP": ("penny", "pence"), "JPY": ("sen", "sen"), "MXN": ("centavo", "centavos"),
           "COP": ("centavo", "centavos"), "ARS": ("centavo", "centavos"), "CLP": ("centavo", "centavos"),
           "BRL": ("centavo", "centavos"), "DOP": ("centavo", "centavos"), "CUP": ("centavo", "centavos"),
           "GTQ": ("centavo", "centavos"), "HNL": ("centavo", "centavos"), "NIO": ("centavo", "centavos"),
           "BOB": ("centavo", "centavos"), "PHP": ("centavo", "centavos"), "UYU": ("centésimo", "centésimos"),
           "CRC": ("céntimo", "céntimos"), "VES": ("céntimo", "céntimos"), "INR": ("paisa", "paise")},
}  # fmt: skip
SCALES = {
    "es": "mil millones|mil|millón|millones|billón|billones|trillones",
    "en": "thousand|million|billion|trillion",
}
SHORT_SCALES = {  # written right after the number, or before the sign: "1,5 M€", "$10k"
    "es": {"k": "mil", "K": "mil", "M": "millones", "MM": "millones"},
    "en": {"k": "thousand", "K": "thousand", "M": "million", "MM": "million", "m": "million", "B": "billion",
           "bn": "billion", "T": "trillion"},
}  # fmt: skip
LOWER_CASE_CODES = {"ARS", "BRL", "CLP", "COP", "EUR", "GBP", "JPY", "MXN", "PEN", "USD", "UYU"}  # "20 eur"
WORDS_AS_CODES = {"ALL", "CUP", "GEL", "MOP", "SOS", "TOP", "TRY"}  # "TOP 10"; money only after a number
PESOS = re.compile(r"\bpesos\b|\b(?:1|un) peso\b|\bM\. ?N\.|\b(?:MXN|COP|ARS|CLP|UYU|DOP|CUP)\b", re.IGNORECASE)
MILLIONS = {"mdp": "millones de pesos", "mdd": "millones de dólares"}  # as Mexican newspapers write them
NATIONAL = r"M\. ?N\.|m\. ?n\."  # "moneda nacional", written after an amount in Mexico


class Currency(NamedTuple):
    """The names of a currency: singular, plural, the hundredth in both or "", and whether Spanish has it feminine."""

    one: str
    several: str
    cent: str
    cents: str
    feminine: bool


@functools.cache
def currency(code: str, language: str, full: bool = False) -> Currency:
    """Return the names of a currency, without its country where people leave that out.

    Args:
        code: ISO 4217 code, or a sign that has none.
        full: name the country, unless the currency is one that is always named without.
    """
    base = base_language(language)
    if code in OTHER_SIGNS[base]:
        one, several = OTHER_SIGNS[base][code]
        return Currency(one, several, "", "", base == "es" and is_feminine(several.split()[0]))
    one, several = (
        re.sub(r" ?\([^)]*\)", "", get_currency_name(code, number, cldr_locale(base))) for number in (1, 2)
    )
    words = one.split()
    # CLDR's adjective tells the gender of "lempira hondureño".
    feminine = base == "es" and is_feminine(several.split()[0]) and not (len(words) == 2 and words[1].endswith("o"))
    if code in KNOWN or not full:
        one, several = _shorten(one, base), _shorten(several, base)
    default = ("centavo", "centavos") if base == "es" else ("cent", "cents")
    return Currency(one, several, *CENTS[base].get(code, default), feminine)


def read_money(text: str, language: str) -> str:
    """Write out amounts of money: "1.500 €", "$3.50", "US$ 2 millones", "20 EUR", "$5–10", "5 €/kg".

    Two decimals are read as hundredths, such as cents; any other number of them as a decimal fraction. "$" is what the
    text names beside the amount ("$5 MXN", "$5 pesos"), else the currency of the tag's region if that is a peso or a
    dollar, else, with no region, pesos if the text speaks of pesos; else dollars.
    """
    text = re.sub(r"(?<=\d)[.,][-–—](?!\d)", "", text)  # "5.-"
    text = re.sub(r"(?<![\d.,])(\d+)([€£])(\d\d)(?!\d)", r"\1.\3 \2", text.translate(FULLWIDTH))  # "5€50"
    base, dollar = base_language(language), _dollar(text, language)
    if base == "es":
        for short, words in MILLIONS.items():
            text = re.sub(rf"[$]?({number_pattern(language)}){BLANK}?{short}(?!\w)", rf"\1 {words}", text)

    def say(match: re.Match) -> str:
        groups = match.groupdict()
        before, after = groups.get("before") or "", groups["after"] or ""
        code = groups.get("code") or ""
        sign = next((each for each in (after, code, before) if _code(each, language)), "") or before
        names = currency(_code(sign, language) or dollar, language, full=sign[:1].isalpha())
        if " " in after:  # "pesos mexicanos"
            names = names._replace(one=after, several=after)
        number, scale, other, per = match["number"], match["scale"], match["other"], match["per"] or ""
        said = _amount(other or number, scale, names, language)
        if other:
            to = "a" if base == "es" else "to"
            said = f"{_agreed(say_number(number, language), names, language)} {to} {said}"
        if match["minus"] or groups.get("minus_inside"):
            said = f"{'menos' if base == 'es' else 'minus'} {said}"
        return f" {said}{''.join(f' {say_per(each, language)}' for each in per.split('/')[1:])} "

    before, after = _amounts(language)
    return after.sub(say, before.sub(say, text))


def name_sign(sign: str, language: str) -> str:
    """Return the name of a currency sign that stands without an amount, in the singular."""
    code = _dollar("", language) if sign == "$" else _code(sign, language)
    return currency(code, language).one if code else unicodedata.name(sign).lower().replace(" sign", "")


@functools.cache
def _amounts(language: str) -> tuple[re.Pattern, re.Pattern]:
    """Return the patterns of amounts with the sign before the number, and after it."""
    base, number = base_language(language), number_pattern(language)
    signs = _any([*SIGNS, *REGIONAL_SIGNS.get(region_of(language), {}), *set(OTHER_SIGNS[base]) - {"¢"}, "$"])
    codes = _any([*(_codes() - WORDS_AS_CODES), *map(str.lower, LOWER_CASE_CODES)])
    minus = r"(?:(?<!\w)(?P<minus>[-−]))?"
    scale = rf"(?:{BLANK}?(?P<scale>(?:{SCALES[base]}|{_any(SHORT_SCALES[base])})(?!\w|\.{BLANK}?N\.))"
    scale += rf"(?:{BLANK}(?:de|of)(?= ))?)?"
    per = rf"(?P<per>(?:{BLANK}?/{BLANK}?(?:100{BLANK}?)?[^\W\d_]+[²³]?)+)?"
    after = rf"{signs}|¢|{_any([*_codes(), *map(str.lower, LOWER_CASE_CODES)])}|{NATIONAL}"
    range_to = rf"(?:{BLANK}?(?:[-–—]|(?<= )(?:a|to)(?= )){BLANK}?(?:{signs})?{BLANK}?(?P<other>{number}))?"
    amount = rf"(?P<number>{number}){range_to}{scale}"
    return (
        re.compile(
            rf"{minus}(?<!\w)(?:(?P<code>{codes}|US){BLANK}?)??"
            rf"(?P<before>{signs}|{codes}|(?:{_any(LETTER_SIGNS)})(?!{QUARTER})(?=\d|{BLANK}\d+[.,]\d\d\b)){BLANK}?"
            rf"(?P<minus_inside>[-−])?{amount}"
            rf"(?:{BLANK}?(?P<after>(?:{after}|US)(?!\w)|(?i:{_any(_named(language))})(?!\w)))?{per}"
        ),
        re.compile(
            rf"{minus}(?<![\d.,]){amount}{BLANK}?(?P<after>(?:{after})(?![\w])|(?i:{_any(_plain_names(language))})(?!\w)){per}"
        ),
    )


@functools.cache
def _codes() -> frozenset[str]:
    return frozenset(list_currencies()) - {"XXX"}  # ISO 4217's code for "no currency"


@functools.cache
def _named(language: str) -> dict[str, str]:
    """Return the names of the known currencies as they follow an amount, in lower case, with their codes."""
    base = base_language(language)
    names = {}
    for code in sorted(KNOWN, key=lambda code: code in ("MXN", "USD")):
        whole = [get_currency_name(code, number, cldr_locale(base)) for number in (1, 2)]
        for name in [*whole, *(_shorten(each, base) for each in whole)]:
            names[name.lower()] = code
    return names


@functools.cache
def _plain_names(language: str) -> list[str]:
    """Return the names that always mean money, unlike "libras": those of pesos, dollars, euros and soles."""
    codes = {"ARS", "CLP", "COP", "CUP", "DOP", "EUR", "MXN", "PEN", "USD", "UYU"}
    return [name for name, code in _named(language).items() if code in codes and name not in ("sol", "soles")]


def _code(sign: str, language: str) -> str:
    """Return the ISO 4217 code of a sign, code or name, or "" for a bare "$" and what is none."""
    base, regional = base_language(language), REGIONAL_SIGNS.get(region_of(language), {})
    if sign in OTHER_SIGNS[base]:
        return regional.get(sign, sign)
    known = {"US": "USD", **SIGNS, **LETTER_SIGNS, **regional}
    if re.fullmatch(NATIONAL, sign):
        return "MXN"
    code = known.get(sign) or _named(language).get(sign.lower()) or sign.upper()
    return code if code in _codes() else ""


def _dollar(text: str, language: str) -> str:
    """Return the ISO 4217 code of a bare "$"."""
    local = local_currency(language)
    if local:
        name = get_currency_name(local, 1, cldr_locale("es"))
        return local if name.startswith(("peso", "dólar")) and local != "PHP" else "USD"
    return "MXN" if base_language(language) == "es" and not region_of(language) and PESOS.search(text) else "USD"


def _shorten(name: str, base: str) -> str:
    words = name.split()
    if base == "en":
        return words[-1]
    return words[1] if words[0] in ("nuevo", "nuevos", "antiguo", "antiguos") else words[0]


def _any(signs) -> str:
    return "|".join(sorted(map(re.escape, signs), key=len, reverse=True))


def _agreed(said: str, names: Currency, language: str) -> str:
    if base_language(language) == "en":
        return said
    return agree(said, "libras" if names.feminine else "pesos")


def _count(number: str, names: Currency, language: str) -> str:
    said = _agreed(say_number(number, language), names, language)
    of = "de " if base_language(language) == "es" and re.search(r"mill(ón|ones)$", said) else ""
    return f"{said} {of}{names.one if number == '1' else names.several}"


def _amount(number: str, scale: str | None, names: Currency, language: str) -> str:
    base = base_language(language)
    if scale:
        scale = SHORT_SCALES[base].get(scale, scale)
        if scale == "millones" and number == "1":
            scale = "millón"
        said = say_number(number, language)
        if base == "en":
            return f"{said} {scale} {names.several}"
        if scale == "mil":
            return f"{'' if number == '1' else _agreed(said, names, language) + ' '}mil {names.several}"
        return f"{agree(said, 'millones')} {scale} de {names.several}"
    # Prices have two decimals at most, so three digits are a group of thousands in every region.
    whole, _, decimals, is_grouped = split_number(number, base)
    if is_grouped and not decimals:
        return _count(whole, names, language)
    if len(decimals) != 2:
        return _count(number, names, language)
    said = _count(whole, names, language)
    if int(decimals) == 0:
        return said
    both = " con " if base == "es" else " and "
    cents = names._replace(one=names.cent, several=names.cents, feminine=False)
    return (
        said + both + (_count(str(int(decimals)), cents, language) if names.cent else say_number(decimals, language))
    )
