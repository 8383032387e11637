"""Normalize the text of an LLM for speech synthesis: words and punctuation without symbols, Markdown or emoji."""

import re
import unicodedata

import emoji
from markdown_it import MarkdownIt

from .text_numerals import (
    SPOKEN_DIGITS,
    number_pattern,
    read_dates,
    read_fractions,
    read_hours,
    read_measures,
    read_money,
    read_numbers,
    read_ordinals,
    roman,
    say_digits,
    say_ordinal,
    say_year,
)

LANGUAGES = ("es", "en")  # with numbers and symbols written out here; for others this is left to the TTS model

ABBREVIATIONS = {  # regular expressions, matched as whole words and regardless of case
    "es": {
        r"sr\.": "señor", r"sra\.": "señora", r"sres\.": "señores", r"srta\.": "señorita", r"dr\.": "doctor",
        r"dra\.": "doctora", r"prof\.": "profesor", r"profa\.": "profesora", r"lic\.": "licenciado",
        r"ing\.": "ingeniero", r"ud\.": "usted", r"uds\.": "ustedes", r"etc\.": "etcétera",
        r"ee\. ?uu\.": "Estados Unidos",
        r"p\. ?ej\.": "por ejemplo", r"pág\.": "página", r"págs\.": "páginas", r"cap\.": "capítulo",
        r"art\.": "artículo", r"núm\.": "número", r"n\.? ?[º°](?= ?\d)": "número", r"tel\.": "teléfono",
        r"avda?\.": "avenida", r"a\. ?c\.": "antes de Cristo", r"d\. ?c\.": "después de Cristo",
        r"vs\.?": "contra", r"aprox\.": "aproximadamente", r"máx\.": "máximo", r"mín\.": "mínimo",
        r"24/7": "veinticuatro horas al día",
    },
    "en": {
        r"mr\.": "Mister", r"mrs\.": "Missus", r"ms\.": "Miz", r"dr\.": "Doctor", r"prof\.": "Professor",
        r"e\. ?g\.": "for example", r"i\. ?e\.": "that is", r"etc\.": "et cetera", r"vs\.?": "versus",
        r"approx\.": "approximately", r"no\.(?= ?\d)": "number", r"24/7": "twenty-four seven",
    },
}  # fmt: skip
SIGNS = {  # applied in this order
    "es": {
        r"&": "y", r"@": "arroba", r"#(?=\d)": "número", r"(?<=\d)\s*[×*]\s*(?=\d)": "por",
        r"÷": "entre", r"\+": "más", r"±": "más o menos", r"≈|~(?=\s*\d)": "aproximadamente",
        r"≠": "distinto de", r"≤": "menor o igual que", r"≥": "mayor o igual que",
        r"(?<=\s)<(?=\s*\w)": "menor que", r"(?<=\s)>(?=\s*\w)": "mayor que", r"=": "igual a",
        r"√": "raíz de", r"π": "pi", r"²": "al cuadrado",
        r"³": "al cubo", r"\^(?=\d)": "a la", r"%": "por ciento", r"°": "grados",
    },
    "en": {
        r"&": "and", r"@": "at", r"#(?=\d)": "number", r"(?<=\d)\s*[×*]\s*(?=\d)": "times",
        r"÷": "divided by", r"\+": "plus", r"±": "plus or minus", r"≈|~(?=\s*\d)": "about",
        r"≠": "is not equal to", r"≤": "at most", r"≥": "at least", r"(?<=\s)<(?=\s*\w)": "less than",
        r"(?<=\s)>(?=\s*\w)": "greater than", r"=": "equals", r"√": "square root of", r"π": "pi", r"²": "squared",
        r"³": "cubed", r"\^(?=\d)": "to the power of", r"%": "percent", r"°": "degrees",
    },
}  # fmt: skip
WORDS = {  # for the symbols between numbers, and in URLs and email addresses
    "es": {"minus": "menos", "to": "a", ".": "punto", "/": "barra", "@": "arroba", "-": "guion", "_": "guion bajo",
           ":": "dos puntos"},
    "en": {"minus": "minus", "to": "to", ".": "dot", "/": "slash", "@": "at", "-": "dash", "_": "underscore",
           ":": "colon"},
}  # fmt: skip
ADDRESS = re.compile(
    r"(?:https?://|www\.)[^\s<>\"»”)]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?<![\w@.])[\w-]+(?:\.[\w-]+)*"
    r"\.(?:com|org|net|edu|gob|gov|info|io|es|mx|co|ar|cl|pe)\b(?:/[^\s<>\"»”)]*)?",
    re.IGNORECASE,
)
TELEPHONE = re.compile(r"\+\d[\d ()-]{6,}\d|(?<![\d.,])\d{2,4}(?:[ -]\d{2,4}){2,}(?!\d|[.,]\d)")
# Faces, gestures, hearts, ©, ® and ™ convey tone and aren't read aloud.
TONE = re.compile("[\u00a9\u00ae\u2122\u263a\u270b\u270c\u2728\u2763\u2764\U0001f389\U0001f38a"
                  "\U0001f44a-\U0001f450\U0001f493-\U0001f49f\U0001f600-\U0001f64f\U0001f90c-\U0001f92f"
                  "\U0001f970-\U0001f97a]")  # fmt: skip
UNSAYABLE = set("#%&*/@§\\_[]{}|~^`<>=+$")
MARKS = re.compile(r"`+|\*{2,}|~~|(?<!\w)[*_]+(?=\w)|(?<=\w)\*(?!\s*\d)|^#+ ")  # left unpaired when a phrase is split
CELL = re.compile(r"\s*\|(?:[\s|:-]*\|)*\s*")  # separates the cells of a table
NUMBERED = re.compile(r"\b([Ss]iglos?|[Cc]apítulo|[Tt]omo|[Tt]ítulo|[Vv]olumen|[Aa]cto|[Ll]ibro) ([IVXLC]+)\b")
ROMAN = re.compile(r"\b([A-ZÁÉÍÓÚ][a-záéíóúñ]+) ([IVX]{1,5})(?![\w.])")
KINGS = set(
    """Alejandro Alfonso Benedicto Carlos Clemente Eduardo Enrique Federico Felipe Fernando Francisco Gregorio
    Guillermo Jaime Jorge Juan León Luis Napoleón Nicolás Pablo Pedro Pío Ramiro Sancho""".split()
)
QUEENS = {"Catalina", "Cristina", "Isabel", "Juana", "Margarita", "María"}
DECADE = re.compile(r"\b((?:1[1-9]|20)?[2-9]0)s\b")  # "1990s", "90s"
YEAR = re.compile(r"(?<![\d.,])(1[1-9]\d\d|20\d\d)\b(?![.,]\d)")

_markdown = MarkdownIt("commonmark").enable("table")


def speakable(text: str, language: str = "es") -> str:
    """Normalize a phrase of an answer for speech synthesis; return "" if there is nothing to read aloud.

    Markdown is reduced to its text, and links to their labels. An emoji that stands for a word ("compra 🍅 y 🧅") is
    replaced by its name; faces, gestures and emoji outside of a sentence are dropped. In Spanish and English, numbers,
    ordinals, fractions, dates, times, amounts of money, units, URLs, email addresses, abbreviations and symbols are
    written out; in other languages this is left to the TTS model. "¿" and "¡" are kept.

    Args:
        text: a phrase, as returned by `text_phrases`.
        language: ISO 639-1 code of the text.
    """
    text = name_emoji(strip_markdown(text), language)
    if language in LANGUAGES:
        text = _read_addresses(text, language)
        text = _read_abbreviations(text, language)
        text = _read_telephones(text, language)
        if language == "en":
            text = DECADE.sub(lambda match: re.sub("y$", "ies", say_year(int(match[1]), "en")), text)
        text = read_hours(read_dates(text, language), language)
        if language == "es":
            text = _read_roman(text)
        text = _read_ranges(text, language)
        text = read_ordinals(read_fractions(read_money(text, language), language), language)
        text = read_measures(text, language)
        for sign, word in SIGNS[language].items():
            text = re.sub(sign, f" {word} ", text)
        text = _read_plain_numbers(text, language)
        text = "".join(" " if _is_unsayable(character) else character for character in text)
    text = re.sub(r"(?<=[(«“¿¡]) | (?=[.,;:!?…)»”])", "", " ".join(text.split()))
    return text if any(map(str.isalnum, text)) else ""


def strip_markdown(text: str) -> str:
    """Strip Markdown markup: "1. **Lava** la [fruta](https://…)" becomes "1. Lava la fruta"."""
    blocks, number = [], ""
    for token in _markdown.parse(text):
        if token.type == "list_item_open" and token.info:
            number = f"{token.info}. "
        elif token.type in ("fence", "code_block"):
            blocks.append(token.content)
        elif token.type == "inline":
            words = "".join(map(_words_of, token.children or []))
            blocks.append(number + CELL.sub(", ", MARKS.sub("", words).strip(" |")))
            number = ""
    return " ".join(f"{block}," if block[-1:].isalnum() else block for block in blocks[:-1]) + " ".join(
        ["", *blocks[-1:]]
    )


def name_emoji(text: str, language: str) -> str:
    """Replace the emoji that stand for a word by their names in the given language, and remove the others."""
    said, end = [], 0
    for found in emoji.emoji_list(text):
        said.append(text[end : found["match_start"]])
        before = "".join(said).rstrip()
        is_word = before and before[-1] not in ".!?…:" and not TONE.search(found["emoji"])
        name = emoji.demojize(found["emoji"], language=language) if is_word and language in emoji.LANGUAGES else ""
        said.append(f" {name.strip(':').replace('_', ' ')} " if name else " ")
        end = found["match_end"]
    return "".join([*said, text[end:]])


def _words_of(token) -> str:
    if token.type in ("softbreak", "hardbreak"):
        return " "
    if token.type == "image":
        return "".join(map(_words_of, token.children))
    return token.content if token.type in ("text", "code_inline") else ""


def _read_addresses(text: str, language: str) -> str:
    """Read out URLs, email addresses and bare domain names: "es punto wikipedia punto org"."""
    words = WORDS[language]

    def say(match: re.Match) -> str:
        address = match[0].rstrip(".,;:!?'")
        rest = match[0][len(address) :]
        address = re.sub(r"^(https?://)?(www\.)?", "", re.split(r"[?#]", address)[0], flags=re.IGNORECASE).strip("/")
        return re.sub(r"[./@_:-]", lambda mark: f" {words[mark[0]]} ", address) + rest

    return ADDRESS.sub(say, text)


def _read_abbreviations(text: str, language: str) -> str:
    for short, word in ABBREVIATIONS[language].items():

        def say(match: re.Match, word: str = word) -> str:
            is_end = match[0].endswith(".") and not match.string[match.end() :].strip(" »”\"')")
            return f"{word}{'.' if is_end else ''}"

        text = re.sub(rf"(?<![\w.]){short}(?!\w)", say, text, flags=re.IGNORECASE)
    return text


def _read_telephones(text: str, language: str) -> str:
    """Read out phone numbers digit by digit, with a comma between groups."""

    def say(match: re.Match) -> str:
        groups = re.findall(r"\d+", match[0])
        if sum(map(len, groups)) < SPOKEN_DIGITS - 1:
            return match[0]
        plus = SIGNS[language][r"\+"] + " " if match[0].startswith("+") else ""
        return plus + ", ".join(say_digits(group, language) for group in groups)

    return TELEPHONE.sub(say, text)


def _read_roman(text: str) -> str:
    """Read out Roman numerals of centuries, chapters, monarchs and popes, the latter two as ordinals up to ten."""
    text = NUMBERED.sub(lambda match: f"{match[1]} {roman(match[2])}", text)

    def say(match: re.Match) -> str:
        name, number, is_queen = match[1], roman(match[2]), match[1] in QUEENS
        if (is_queen or name in KINGS) and number <= 10:
            return f"{name} {say_ordinal(number, 'es', feminine=is_queen)}"
        return match[0] if len(match[2]) == 1 else f"{name} {number}"  # "Malcolm X", "Apolo XI"

    return ROMAN.sub(say, text)


def _read_ranges(text: str, language: str) -> str:
    """Read out hyphens and minus signs at numbers: "10-12" is a range, "-4" is negative, "5 - 3" is a subtraction."""
    number, words = number_pattern(language), WORDS[language]
    text = re.sub(rf"(?<![\w.,-])({number})[-–]({number})(?![\w-])", rf"\1 {words['to']} \2", text)
    text = re.sub(r"(?<=\d) [-−–] (?=\d)", f" {words['minus']} ", text)
    return re.sub(rf"(?:(?<=[\s(])|^)[-−](?={number})", f"{words['minus']} ", text)


def _read_plain_numbers(text: str, language: str) -> str:
    """Read out version numbers ("3.1.4") part by part, English years in pairs of digits, and all remaining numbers."""
    dot = f" {WORDS[language]['.']} " if language == "es" else " point "
    text = re.sub(r"(?<![\d.,])\d+(?:\.\d+){2,}(?![\d,])", lambda match: _version(match[0], dot, language), text)
    if language == "en":
        text = YEAR.sub(lambda match: say_year(int(match[0]), "en"), text)
    return read_numbers(text, language)


def _version(written: str, dot: str, language: str) -> str:
    is_number = re.fullmatch(number_pattern(language), written)
    return written if is_number else dot.join(written.split("."))


def _is_unsayable(character: str) -> bool:
    """Return whether a character is a symbol or control character, rather than a letter, digit or punctuation mark."""
    return character in UNSAYABLE or unicodedata.category(character)[0] in "SC"
