"""Write telephone and identity numbers out digit by digit, in Spanish and English."""

import re

from .text_locale import base_language
from .text_numbers import SPOKEN_DIGITS, say_digits

PLUS = {"es": "más", "en": "plus"}
# Three or more groups of digits are a telephone number wherever they stand.
TELEPHONE = re.compile(
    r"\+\d[\d ()-]{6,}\d|\(\d{2,4}\) ?\d{3,4}[ -]\d{3,4}(?!\d)"
    r"|(?<![\d.,/-])\d{3}\.\d{3}\.\d{4}(?!\d|[.,]\d)"
    r"|(?<![\d.,/-])(?:1[ -])?\d{2,4}(?:[ -]\d{2,4}){2,}(?![\d/-]|[.,]\d)"
)
# Two groups are one if they are no range of years or of round numbers: "555-1234", but not "500-1000", "1990-1995".
PLAIN = re.compile(r"(?<![\w.,/-])([2-9]\d{2,3})-(\d{4})(?![\w/-]|[.,]\d)")
YEAR = re.compile(r"1[5-9]\d\d|20\d\d")
# Identity numbers with a check digit or letter: Chile's RUT, Spain's DNI and NIE, Argentina's CUIT, Colombia's NIT.
IDENTITY = re.compile(
    r"(?<![\w.])(?:\d{1,3}(?:\.\d{3}){2}-[\dkK]|\d{7,8}-[\dkK]|\d{2}-\d{8}-\d|\d{2}\.?\d{3}\.?\d{3}-?[A-HJ-NP-TV-Z]"
    r"|[XYZ]-?\d{7}-?[A-Z]|\d{3}\.?\d{3}\.?\d{3}-\d)(?!\w|[.,]\d)"
)
LETTERED = r"(?<!\w)(?-i:[A-Z]{1,4}\d[\dA-Z]{5,}|[A-Z]{2}\d\d(?: \d{2,4})+)(?!\w)"  # "B12345678", "ES91 2100"
# What is written after one of these words is such a number even if it looks like a range or an amount.
ANNOUNCED = re.compile(
    r"(?<!\w)(?:tel(?:éfono|f)?s?|tlf|móvil|celular|cel|fax|whatsapp|ext(?:ensión)?|ll[aá]m[ae](?:me|nos)?|marc[aáo]"
    r"|marque|dni|nie|nif|cif|rut|run|ruc|rfc|nit|cuit|cuil|curp|c[eé]dula|c\. ?[ci]|pasaporte|cuenta|folio|is[bs]n"
    r"|matrícula|iban|(?:tele)?phone|mobile|call|dial|ssn)"
    r"(?:\.|:|\s|\bal?\b|\bes\b|\bis\b|\bat\b|\bel\b|\bn\.?[º°]|\bn[uú]m(?:ero|\.)?|\bnumber\b|\bno\.|\bde\b)*"
    rf"(?P<number>{LETTERED}"
    r"|(?<![\w.,])\+?\(?\d(?:[\d ().-]*\d)?(?:-?[A-Za-z])?(?!\w|[.,]\d))",
    re.IGNORECASE,
)
SHORTEST_ANNOUNCED = 6  # digits; shorter ones may be "marque 1" and "llama al 911"


def read_telephones(text: str, language: str) -> str:
    """Write out telephone and identity numbers digit by digit, with a comma between groups."""

    def announced(match: re.Match) -> str:
        number = match["number"]
        if sum(map(str.isdigit, number)) < SHORTEST_ANNOUNCED:
            return match[0]
        return match[0][: match.start("number") - match.start()] + _say_groups(number, language)

    def telephone(match: re.Match) -> str:
        is_long = sum(map(str.isdigit, match[0])) >= SPOKEN_DIGITS - 1
        return _say_groups(match[0], language) if is_long or match[0][0] in "+(" else match[0]

    def plain(match: re.Match) -> str:
        is_range = int(match[1]) % 5 == int(match[2]) % 5 == 0 or YEAR.fullmatch(match[1]) and YEAR.fullmatch(match[2])
        return match[0] if is_range else _say_groups(match[0], language)

    text = ANNOUNCED.sub(announced, text)
    text = IDENTITY.sub(lambda match: _say_groups(match[0], language), text)
    return PLAIN.sub(plain, TELEPHONE.sub(telephone, text))


def _say_groups(number: str, language: str) -> str:
    groups = re.findall(r"\d+|[A-Za-z]+", number)
    plus = f"{PLUS[base_language(language)]} " if number.startswith("+") else ""
    said = (say_digits(group, language) if group.isdigit() else " ".join(group.upper()) for group in groups)
    return plus + ", ".join(said)
