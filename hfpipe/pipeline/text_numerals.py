"""Write numbers, ordinals and fractions out in words as they stand in a text, in Spanish and English."""

import re
import unicodedata

from .text_locale import base_language
from .text_measures import read_measures as read_measures
from .text_measures import signs_of_units, unit_names
from .text_money import read_money as read_money
from .text_numbers import (
    BLANK,
    DENOMINATORS,
    agree,
    cardinal,
    noun_after,
    number_pattern,
    say_decimal,
    say_number,
    say_ordinal,
)
from .text_numbers import roman as roman

ORDINAL_MARKS = {
    "es": r"\.?[ºª](?![^\W\d_]{2}|\d)|\.?er\b\.(?= [a-záéíóú])|\.?(?:er|ero|era|ro|ra|do|da|to|ta|mo|ma|vo|va|no|na)\b"
    r"|\.[ao]s\b|\.?ᵉʳ|\.?[ᵒᵃ]ˢ?",
    "en": r"(?:st|nd|rd|th)\b",
}
# Nouns that are numbered: "1° piso" is an ordinal before these; elsewhere "°" is degrees.
NUMBERED = (
    r"(?:piso|lugar|puesto|grado|año|curso|semestre|trimestre|bimestre|cuatrimestre|básico|básica|medio|división"
    r"|distrito|juzgado|premio|intento|turno|tiempo|cuarto|aniversario|edición|fila|sección|etapa|fase|ronda|planta"
    r"|clase|categoría|nivel|artículo|párrafo|capítulo|congreso|torneo|bachillerato|bachiller|mes|día|semana"
    r"|(?-i:[ABD])|batallón|tribunal|domicilio|apellido|nombre|parte|acto|tomo|eso|generación|vez|hijo|hija|copa|ley"
    r"|(?:de|del?) (?:la )?(?:primaria|secundaria|preparatoria|prepa|bachillerato|eso|bachiller|kínder|preescolar"
    r"|básica|carrera|infantil))(?:e?s)?\b"
)
WARM = 25  # "º" without a noun or an article means degrees from this number on: "hace 30º", but "quedó 3º"
SCALES = {
    "es": {"k": "mil", "K": "mil", "M": "millones", "MM": "millones"},
    "en": {"k": "thousand", "K": "thousand", "M": "million", "MM": "million", "B": "billion", "bn": "billion"},
}
KS_OF_A_NAME = {"2", "4", "5", "8"}  # "4K" is said by its letter
LARGEST_EXPANDED = 15  # zeros of "1e6" that are still said as a number


def read_ordinals(text: str, language: str) -> str:
    """Write out ordinals: "1º", "2.ª", "3er", "4ta", "1° piso", "1st".

    In Spanish, "º" and "°" are typed for one another. "°" is an ordinal before a noun that is numbered, and "º" is
    degrees after a number from 25 on that has neither such a noun nor an article beside it.
    """
    if base_language(language) == "en":
        return re.sub(r"(?<![\d.,])(\d{1,9})(?:st|nd|rd|th)\b", lambda match: say_ordinal(int(match[1]), "en"), text)
    also = rf"(?:{BLANK}(?:y|o|a|al){BLANK}\d{{1,3}}\.?[°º])?"
    text = re.sub(r"(?<=\d)\.°", ".º", text)
    text = re.sub(rf"(?<=[.,]\d)º|(?<=\d\d)º(?={BLANK}[CF]\b)|(?<=menos \d)º(?={BLANK}?[CF]?\b)", "°", text)
    text = re.sub(rf"(?<![\d.,])(\d{{1,3}})°(?={also}{BLANK}?{NUMBERED})", r"\1º", text, flags=re.IGNORECASE)

    def say(match: re.Match) -> str:
        mark, number = match[2].strip(".").replace("ᵉʳ", "er"), int(match[1])
        after = match.string[match.end() :]
        noun = noun_after(match)
        is_numbered = re.match(f"{BLANK}{NUMBERED}", after, flags=re.IGNORECASE)
        article = re.search(r"\b(?:el|la|los|las|del|al|un|una|su|n\.?|cada) $", match.string[: match.start()], re.I)
        if (
            match[2] == "º"
            and number >= WARM
            and not (is_numbered or article or (noun and not noun.startswith("baj")))
        ):
            return f"{match[1]}°"
        feminine = mark in ("ª", "ᵃ", "as", "ᵃˢ") or mark.endswith("a")
        short = mark == "er" or (mark in ("º", "ᵒ") and noun is not None and not agree("uno", noun).endswith("una"))
        said = say_ordinal(number, language, feminine=feminine, short=short)
        return f" {said}{'s' if mark.endswith(('s', 'ˢ')) else ''} "

    return re.sub(rf"(?<![\d.,])(\d{{1,9}})({ORDINAL_MARKS['es']})", say, text)


def read_scales(text: str, language: str) -> str:
    """Write out shortened and scientific numbers: "10k", "2M", "1e6", "3.5e-4"."""
    base, number = base_language(language), number_pattern(language)

    def scientific(match: re.Match) -> str:
        mantissa, exponent = match[1], int(match[2])
        decimals = len(re.split("[.,]", mantissa)[1]) if re.search("[.,]", mantissa) else 0
        if decimals <= exponent <= LARGEST_EXPANDED and exponent > 0:
            value = int(re.sub("[.,]", "", mantissa)) * 10 ** (exponent - decimals)
            return f" {cardinal(value, language)} "
        times, raised = ("por", "a la") if base == "es" else ("times", "to the power of")
        minus = {"es": "menos ", "en": "minus "}[base] if exponent < 0 else ""
        whole, mark, rest = re.split("([.,])", mantissa) if decimals else (mantissa, "", "")
        said = say_decimal(whole, mark, rest, language)
        return f" {said} {times} {cardinal(10, language)} {raised} {minus}{abs(exponent)} "

    def scaled(match: re.Match) -> str:
        count, scale = match[1], SCALES[base][match[2]]
        if match[2] == "K" and count in KS_OF_A_NAME:
            return match[0]
        if base == "en":
            return f" {say_number(count, language)} {scale} "
        if scale == "mil":
            return f" {'' if count == '1' else agree(say_number(count, language), 'miles')} mil "
        of = " de" if noun_after(match) else ""
        return f" {agree(say_number(count, language), scale)} {'millón' if count == '1' else scale}{of} "

    text = re.sub(  # "6,022×10²³": not thousands
        r"(?<![\w.,])(\d)([.,])(\d{3})(?=\s?(?:[×x·*]|por|times)\s?10[⁰-⁹¹²³⁻^])",
        lambda match: say_decimal(match[1], match[2], match[3], language),
        text,
    )
    text = re.sub(r"(?<![\w.,])(\d+(?:[.,]\d+)?)[eE]([+-]?\d{1,3})(?![\w.])", scientific, text)
    scales = "|".join(sorted(SCALES[base], key=len, reverse=True))
    return re.sub(rf"(?<![\w.,])({number})({scales})(?![\w/-])", scaled, text)


def read_products(text: str, language: str) -> str:
    """Write out "×" and "x" between numbers, "2x" and "x2": "3×2 m", "1920x1080 px", "10x más rápido"."""
    base = base_language(language)
    by, times = ("por", "veces") if base == "es" else ("by", "times")
    unit = rf"(?:{BLANK}?(?:{signs_of_units(base)}))?"
    text = re.sub(
        rf"(?<=\d)({unit}){BLANK}?[x×✕✖*]{BLANK}?(?=[-−]?\d)", _by(by, "times" if base == "en" else by), text
    )
    text = re.sub(r"(?<![\w.,])([\d.,]*\d)[x×](?!\w)", lambda match: f"{_feminine(match[1], language)} {times}", text)
    return re.sub(r"(?<!\w)[x×](?=\d)", f"{'por' if base == 'es' else 'times'} ", text)


def _by(by: str, times: str):
    """Return what "x" is replaced by between numbers: dimensions in English are "by", products "times"."""
    return lambda match: f"{match[1]} {by if 'x' in match[0] else times} "


def _feminine(number: str, language: str) -> str:
    said = say_number(number, language) if re.fullmatch(number_pattern(language), number) else number
    return agree(said, "horas") if base_language(language) == "es" else said


def read_numbers(text: str, language: str) -> str:
    """Write out all remaining numbers; in Spanish they agree in gender with the noun that follows."""

    def say(match: re.Match) -> str:
        said = say_number(match[0], language)
        noun = noun_after(match) if base_language(language) == "es" else None
        return f" {agree(said, noun) if noun else said} "

    return re.sub(number_pattern(language), say, text)


def read_fractions(text: str, language: str) -> str:
    """Write out fractions: "3/4", "½", "⅔", "1/2 kg"."""
    base = base_language(language)
    both, over = (" y ", "entre") if base == "es" else (" and ", "over")
    text = re.sub(
        rf"(\d{BLANK}?)?(\d/\d{{1,2}}|[¼-¾⅐-⅞]){BLANK}?({signs_of_units(base)})(?![\w/])",
        lambda match: f"{match[1] or ''}{match[2]} {unit_names(match[3], base)[bool(match[1])]}",
        text,
    )

    def vulgar(match: re.Match) -> str:
        return (both if match[1] is not None else "") + unicodedata.normalize("NFKC", match[2]).replace("⁄", "/")

    text = re.sub(rf"((?<=\d){BLANK}?)?([¼-¾⅐-⅞↉])", vulgar, text)

    def mixed(match: re.Match) -> str:
        said, noun = say_number(match[1], language), noun_after(match)
        return f"{agree(said, noun) if noun and base == 'es' else said}{both}{match[2]}"

    text = re.sub(rf"(?<![\d/.,])(\d+)(?:{BLANK}|{both})(\d/\d{{1,2}})(?![\d/])", mixed, text)

    def say(match: re.Match) -> str:
        above, below = int(match[1]), int(match[2])
        if not 2 <= below <= 10 or not 0 < above < 10:
            return f"{match[1]} {over} {match[2]}"
        name = DENOMINATORS[base][below - 2]
        if base == "en":
            is_mixed = match.string[: match.start()].endswith(" and ") and above == 1
            return f"{'a' if is_mixed else cardinal(above, 'en')} " + (
                name if above == 1 else "halves" if name == "half" else f"{name}s"
            )
        noun = noun_after(match)
        if above == 1 and below == 2:
            return "media" if noun and agree("uno", noun) == "una" else "medio"
        said = f"{'un' if above == 1 else cardinal(above, 'es')} {name}{'' if above == 1 else 's'}"
        return f"{said} de" if noun else said

    return re.sub(r"(?<![\d/.,])(\d{1,3})/(\d{1,3})(?![\d/])", say, text)
