"""Write Roman numerals out in words: centuries, chapters, monarchs and popes, congresses, years."""

import re

from .text_locale import base_language
from .text_numbers import NO_NOUNS, cardinal, is_feminine, roman, say_ordinal, say_year

KINGS = set(
    """Abderramán Adriano Alberto Alejandro Alfonso Amadeo Balduino Benedicto Bermudo Bonifacio Calixto Carlos
    Celestino Clemente Constantino Cristián Darío Eduardo Enrique Esteban Eugenio Federico Felipe Fernando Francisco
    Gregorio Guillermo Gustavo Harald Hassan Honorio Humberto Inocencio Iván Jacobo Jaime Jerjes Jorge José Juan Julio
    León Leopoldo Luis Manuel Martín Maximiliano Miguel Mohamed Moctezuma Napoleón Nicolás Ordoño Otón Pablo Pedro
    Pío Ramiro Ramsés Ricardo Roberto Sancho Silvestre Sixto Teodosio Tutmosis Urbano Víctor""".split()
)
QUEENS = set("Ana Beatriz Berenguela Blanca Catalina Cleopatra Cristina Isabel Juana Leonor Margarita María Urraca "
             "Victoria".split())  # fmt: skip
MONARCHS = set(
    """Alexander Alfonso Benedict Catherine Charles Clement Constantine Edward Elizabeth Ferdinand Francis Frederick
    George Gregory Gustav Henry Innocent Isabella James John Leo Louis Mary Napoleon Nicholas Paul Peter Philip Pius
    Ramses Richard Urban Victoria William""".split()
)
NUMBERED = {
    "es": r"siglos?|milenio|capítulos?|tomo|título|volumen|acto|libro|parte|artículo|sección|apartado|anexo|tabla"
    r"|figura|lección|tema|unidad|canto|escena|dinastía|región|fase|tipo|grado|nivel|clase|grupo|factor|temporada"
    r"|episodio|página|par|cuadro|lámina|apéndice|módulo|bloque",
    "en": r"chapters?|book|part|volume|act|scene|section|article|appendix|table|figure|type|phase|grade|level|class"
    r"|unit|lesson|season|episode|war|bowl|stage|schedule",
}
CANONICAL = r"(?=[MDCLXVI])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
NAMED = re.compile(rf"\b([A-ZÁÉÍÓÚ][a-záéíóúñ]+) ({CANONICAL})(?!\w|\.\w|['’]\w)")
INITIAL = re.compile(r"\.\s+[A-ZÁÉÍÓÚ]")
BEFORE_NAME = re.compile(
    rf"(?:\b([Ee]l|[Ll]a|[Dd]el|[Aa]l|[Uu]n|[Uu]na|[Ss]u|[Ee]sta|[Ee]ste) |^\s*|(?<=[a-záéíóú,;:(¡¿] ))({CANONICAL}) "
    r"(?=([A-ZÁÉÍÓÚa-záéíóúñ][a-záéíóúñ]+))"
)
NO_NAMES = set("A Al Del El En La Las Los Su The Un Una Y".split())
LONG = re.compile(rf"(?<![\w.])({CANONICAL})(?![\w'’])")
EVENTS = set("Guerra República Congreso Centenario Concilio Copa Cumbre Edición Encuentro Festival Foro Internacional "
             "Jornada Jornadas Plan Concurso Torneo Bienal Asamblea Legislatura".split())  # fmt: skip


def read_roman(text: str, language: str) -> str:
    """Write out Roman numerals where what stands beside them tells that they are some.

    Monarchs and popes have ordinals up to ten in Spanish, and always in English ("Felipe sexto", "Henry the eighth").
    Single letters are read only after a monarch, a noun that is numbered or an article: "Malcolm X", "vitamina C" and
    "plan B" stay.
    """
    base = base_language(language)
    if base == "es":
        text = re.sub(r"\b([Ss])(s?)\. ?(?=[IVX])", r"\1iglo\2 ", text)
        text = re.sub(r"\b([Ss]iglos?) ([ivx]+)\b", lambda match: f"{match[1]} {match[2].upper()}", text)
    to = " a " if base == "es" else " to "

    def numbered(match: re.Match) -> str:
        rest = f"{to if match[3] in '-–' else match[3]}{roman(match[4])}" if match[4] else ""
        return f"{match[1]} {roman(match[2])}{rest}"

    numerals = rf"({CANONICAL})(?!\w)(?:(,? (?:y|a|al|and|to) |[-–])({CANONICAL})(?!\w))?"
    text = re.sub(rf"(?i:\b({NUMBERED[base]}) ){numerals}", numbered, text)
    if base == "es":
        text = NAMED.sub(_say_named, BEFORE_NAME.sub(_say_before, text))
        return _read_long(
            re.sub(r"(?<![\w.])([IVX]{1,4})(?= de (?!Vendetta)[A-Z][a-záéíóúñ]+\b)", _say_of, text), language
        )
    century = rf"\b({CANONICAL})(?= centur(?:y|ies)\b)"
    text = re.sub(century, lambda match: say_ordinal(roman(match[1]), "en"), NAMED.sub(_say_english, text))
    return _read_long(text, language)


def _read_long(text: str, language: str) -> str:
    """Read what can't be anything else than a Roman numeral: "MCMXCIV", "XVIII"."""

    def say(match: re.Match) -> str:
        letters = match[1]
        # Of three letters only those of I, V and X are read: "DIM" or "MCM" is a word or an acronym. "XXX" is a mark.
        is_word = len(letters) < 3 or (len(letters) == 3 and (set(letters) - set("IVX") or letters == "XXX"))
        return match[0] if is_word else say_year(roman(letters), language)

    return LONG.sub(say, text)


def _ordinal(letters: str, feminine: bool = False) -> str:
    number = roman(letters)
    return say_ordinal(number, "es", feminine=feminine) if number <= 10 else cardinal(number, "es")


def _say_named(match: re.Match) -> str:
    name, letters = match[1], match[2]
    is_initial = len(letters) == 1 and INITIAL.match(match.string, match.end())
    if (name in QUEENS or name in KINGS) and not is_initial:
        return f"{name} {_ordinal(letters, feminine=name in QUEENS)}"
    is_word = len(letters) == 1 or set(letters) - set("IVXL") or name in NO_NAMES or letters == "XL"
    return match[0] if is_word else f"{name} {roman(letters)}"  # not "Malcolm X", "Disco CD", "Camisa XL"


def _say_of(match: re.Match) -> str:
    """Read "V de Alemania" of "Carlos I de España y V de Alemania"."""
    return _ordinal(match[1])


def _say_english(match: re.Match) -> str:
    name, letters = match[1], match[2]
    is_pronoun = letters == "I" and re.match(r" (?!of\b)\w", match.string[match.end() :])
    if name in MONARCHS and not is_pronoun:
        return f"{name} the {say_ordinal(roman(letters), 'en')}"
    is_word = len(letters) == 1 or set(letters) - set("IVXL") or name in NO_NAMES or letters == "XL"
    return match[0] if is_word else f"{name} {roman(letters)}"


def _say_before(match: re.Match) -> str:
    """Read "la II Guerra", "el XIX Congreso" as ordinals."""
    article, letters, noun = match[1], match[2], match[3]
    is_one = (
        noun in EVENTS
        or (noun[0].isupper() and (article or len(letters) > 1))
        or (article and len(letters) > 1 and noun not in NO_NOUNS)
    )
    if not is_one or set(letters) - set("IVXL"):
        return match[0]
    feminine = (article or "").lower() in ("la", "una", "esta") or is_feminine(noun.lower())
    said = say_ordinal(roman(letters), "es", feminine=feminine, short=not feminine)
    return f"{article} {said} " if article else f"{said} "
