"""Normalize the text of an LLM for speech synthesis: words and punctuation without symbols, Markdown or emoji."""

import functools
import re
import unicodedata

import emoji
from markdown_it import MarkdownIt

from .text_dates import read_dates, read_decades, read_hours
from .text_locale import base_language
from .text_math import read_math, say_formula
from .text_measures import read_measures
from .text_money import name_sign, read_money
from .text_numbers import number_pattern, say_year
from .text_numerals import read_fractions, read_numbers, read_ordinals, read_products, read_scales
from .text_roman import read_roman
from .text_signs import name_math, read_digraphs, read_greek, read_scripts
from .text_telephones import read_telephones

LANGUAGES = ("es", "en")  # with numbers and symbols written out here; for others this is left to the TTS model

ABBREVIATIONS = {  # regular expressions, matched as whole words and regardless of case
    "es": {
        r"sr\.": "señor", r"sra\.": "señora", r"sres\.": "señores", r"sras\.": "señoras", r"srta\.": "señorita",
        r"dr\.": "doctor", r"dra\.": "doctora", r"dres\.": "doctores", r"prof\.": "profesor", r"profa\.": "profesora",
        r"lic\.": "licenciado", r"ing\.": "ingeniero", r"arq\.": "arquitecto", r"mtro\.": "maestro",
        r"mtra\.": "maestra", r"gral\.": "general", r"cnel\.": "coronel", r"d\.ª|dña\.": "doña",
        r"(?-i:D)\.(?= [A-ZÁÉÍÓÚ][a-záéíóúñ])": "don", r"sto\.": "santo", r"sta\.": "santa", r"hnos\.": "hermanos",
        r"uds\.(?<=\d uds\.)": "unidades", r"(?<!/)[uv]ds\.": "ustedes",
        r"(?<!/)[uv]d\.": "usted", r"etc\.": "etcétera", r"ee\. ?uu\.": "Estados Unidos",
        r"(?-i:EEUU|EE UU|EUA)": "Estados Unidos", r"jj\. ?oo\.": "Juegos Olímpicos",
        r"p\. ?ej\.": "por ejemplo", r"ej\.": "ejemplo", r"p\. ?d\.": "posdata", r"pág\.": "página",
        r"págs\.": "páginas", r"pp\.(?= ?\d)": "páginas", r"p\.(?= ?\d)": "página", r"cap\.": "capítulo",
        r"caps\.": "capítulos", r"art\.": "artículo", r"arts\.": "artículos", r"fig\.": "figura",
        r"figs\.": "figuras", r"vol\.": "volumen", r"vols\.": "volúmenes", r"párr\.": "párrafo",
        r"inc\.(?= ?(?:\d|[a-z]\)))": "inciso", r"ap\.(?= ?\d)": "apartado", r"núms\.": "números", r"núm\.": "número",
        r"nros\.": "números", r"nro\.": "número", r"n\.? ?[º°](?= ?\d)": "número", r"(?-i:N)o\.(?= ?\d)": "número",
        r"(?-i:N)os\.(?= ?\d)": "números", r"km\.?(?= ?\d)(?<!\d km)(?<!\d km\.)(?<!\dkm)": "kilómetro",
        r"tel\.": "teléfono", r"teléf\.": "teléfono", r"tels\.": "teléfonos", r"tlf\.": "teléfono",
        r"cel\.(?= ?[\d:+(])": "celular", r"(?<!No\. )ext\.(?= ?\d)": "extensión", r"avda?\.": "avenida",
        r"av\.": "avenida",
        r"c/(?= ?[A-ZÁÉÍÓÚ][a-z])": "calle", r"c/u": "cada uno", r"s/n": "sin número", r"p/(?= )": "para",
        r"c\. ?p\.(?= ?\d)": "código postal", r"dpto\.": "departamento", r"depto\.": "departamento",
        r"apdo\.": "apartado", r"edif\.": "edificio", r"izq\.": "izquierda", r"dcha\.": "derecha",
        r"izda\.": "izquierda", r"cía\.": "compañía", r"cra\.(?= ?\d)": "carrera", r"cl\.(?= ?\d)": "calle",
        r"(?-i:Col)\.(?= [A-ZÁÉÍÓÚ])": "colonia", r"ctra\.": "carretera", r"pl?za\.": "plaza", r"esq\.": "esquina",
        r"urb\.": "urbanización", r"admón\.": "administración", r"nte\.": "norte",
        r"(?-i:No)\. ext\.(?= ?\d)": "número exterior", r"(?-i:No)\. int\.(?= ?\d)": "número interior",
        r"num\.(?= ?\d)": "número",
        r"lda\.": "licenciada", r"ldo\.": "licenciado", r"excmo\.": "excelentísimo", r"excma\.": "excelentísima",
        r"ilmo\.": "ilustrísimo", r"ilma\.": "ilustrísima", r"mons\.": "monseñor", r"pdte\.": "presidente",
        r"ed\.": "edición", r"atte\.": "atentamente", r"cf\.": "compárese", r"i\. ?e\.": "esto es",
        r"a\. ?(?:de )?c\.": "antes de Cristo", r"d\. ?(?:de )?c\.": "después de Cristo",
        r"a\. ?e\. ?c\.": "antes de la era común", r"vs\.?": "contra", r"aprox\.": "aproximadamente",
        r"máx\.": "máximo", r"mín\.": "mínimo", r"hab\.": "habitantes",
        r"min\.(?<=\d min\.)": "minutos", r"mill\.": "millones", r"24/7": "veinticuatro horas al día", r"y/o": "y o",
    },
    "en": {
        r"mr\.": "Mister", r"mrs\.": "Missus", r"ms\.": "Miz", r"dr\.": "Doctor", r"prof\.": "Professor",
        r"e\. ?g\.": "for example", r"i\. ?e\.": "that is", r"etc\.": "et cetera", r"vs\.?": "versus",
        r"approx\.": "approximately", r"nos\.(?= ?\d)": "numbers", r"no\.(?= ?\d)": "number", r"fig\.": "figure",
        r"figs\.": "figures", r"pp\.(?= ?\d)": "pages", r"p\.(?= ?\d)": "page", r"vol\.": "volume",
        r"ch\.(?= ?\d)": "chapter", r"sec\.(?= ?\d)": "section", r"inc\.": "incorporated", r"ltd\.": "limited",
        r"ext\.(?= ?\d)": "extension", r"tel\.": "telephone", r"ave\.": "avenue",
        r"(?-i:St)\.(?<=[a-z] St\.)": "Street", r"(?-i:St)\.(?= [A-Z])": "Saint", r"(?-i:Mt)\.(?= [A-Z])": "Mount",
        r"(?-i:Rd)\.": "Road", r"(?-i:Blvd)\.": "Boulevard", r"jr\.": "junior",
        r"sr\.": "senior", r"dept\.": "department", r"max\.": "maximum", r"min\.": "minimum", r"w/o": "without",
        r"and/or": "and or", r"24/7": "twenty-four seven",
    },
}  # fmt: skip
PRODUCT = r"(?<=\d)\s*\*\s*(?=\d)|(?<=\w) \* (?=\w)"  # "3*4", "a * b"
SUM = r"(\([^()]*[-+−*^=][^()]*\))"  # what is divided, or divides: "(a + b)/2", but not "niño(s)/a"
MINUS = r"(?<=\b[nkxyzt])-(?=\d)|(?<=\d)-(?=[nkxyzt]\b)"  # "n-1"
TYPED = {  # what isn't a sign of its own: languages of programmers, "@", "#", typed powers
    "es": {
        r"\b([CFJ])#": r"\1 sharp", r"(?<!\w)\.NET\b": "punto NET", r"\b([A-G])♯": r"\1 sostenido",
        r"#\s?(?=\d)|№": "número", r"&": "y", r"@": "arroba", r"§+": "sección", r"~(?=\s*\d)": "aproximadamente",
        r"%": "por ciento", r"‰": "por mil", r"°": "grados", r"\^\{?2\}?(?!\d)": "al cuadrado",
        r"\^\{?3\}?(?!\d)": "al cubo", r"\^[({]?[-−](?=\d)": "a la menos", r"\^[({]?(?=\w)": "a la",
        r"(?<=[\w:])\\(?=\w)": "barra invertida", PRODUCT: "por", r"¶": "párrafo",
        rf"{SUM}\s?/\s?(?=[\w(])": r"\1 entre", rf"(?<=\w)\s?/\s?(?={SUM})": "entre",
        r"∂(\w?)/∂(\w)": r"derivada parcial de \1 respecto a \2", MINUS: "menos",
        r"(?<=\d)\s*·\s*(?=\d)": "por",
    },
    "en": {
        r"\b([CFJ])#": r"\1 sharp", r"(?<!\w)\.NET\b": "dot NET", r"\b([A-G])♯": r"\1 sharp",
        r"#\s?(?=\d)|№": "number", r"&": "and", r"@": "at", r"§+": "section", r"~(?=\s*\d)": "about",
        r"%": "percent", r"‰": "per mille", r"°": "degrees", r"\^\{?2\}?(?!\d)": "squared",
        r"\^\{?3\}?(?!\d)": "cubed", r"\^[({]?[-−](?=\d)": "to the power of minus",
        r"\^[({]?(?=\w)": "to the power of",
        r"(?<=[\w:])\\(?=\w)": "backslash", PRODUCT: "times", r"¶": "paragraph",
        rf"{SUM}\s?/\s?(?=[\w(])": r"\1 over", rf"(?<=\w)\s?/\s?(?={SUM})": "over",
        r"∂(\w?)/∂(\w)": r"partial derivative of \1 with respect to \2", MINUS: "minus",
        r"(?<=\d)\s*·\s*(?=\d)": "times",
    },
}  # fmt: skip
CODE_BLOCK = {"es": "bloque de código", "en": "code block", "fr": "bloc de code", "it": "blocco di codice",
              "pt": "bloco de código"}  # fmt: skip
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
# Faces, gestures, hearts, ©, ® and ™ convey tone and aren't read aloud.
TONE = re.compile("[\u00a9\u00ae\u2122\u263a\u270b\u270c\u2728\u2763\u2764\U0001f389\U0001f38a"
                  "\U0001f44a-\U0001f450\U0001f493-\U0001f49f\U0001f600-\U0001f64f\U0001f90c-\U0001f92f"
                  "\U0001f970-\U0001f97a]")  # fmt: skip
UNSAYABLE = set("#%&*/@§\\_[]{}^`")
SILENT_SIGNS = set("|")  # in Markdown it separates cells
REPEATED = re.compile(r"([-=~<>+*_#|])\1{2,}")  # rules and decorations: "====="
MARKS = re.compile(r"`+|\*{2,}|~~|(?<!\w)[*_]+(?=\w)|(?<=\w)\*(?!\s*\d)|^#+ ")  # left unpaired when a phrase is split
CELL = re.compile(r"\s*\|(?:[\s|:-]*\|)*\s*")  # separates the cells of a table
YEAR = re.compile(r"(?<![\d.,])(1[1-9]\d\d|20\d\d)\b(?![.,]\d)")

_markdown = MarkdownIt("commonmark").enable("table")


def speakable(text: str, language: str = "es") -> str:
    """Normalize a phrase of an answer for speech synthesis; return "" if there is nothing to read aloud.

    Markdown is reduced to its text, and links to their labels; a code block is announced instead of read. An emoji
    that stands for a word ("compra 🍅 y 🧅") is replaced by its name; faces, gestures and emoji outside of a sentence
    are dropped. In Spanish and English, numbers, ordinals, fractions, dates, times, amounts of money, units, formulas,
    URLs, email addresses, abbreviations and symbols are written out; in other languages this is left to the TTS model.
    "¿" and "¡" are kept.

    The region decides what is ambiguous: the currency of "$", whether "12.500" has decimals, and which number of
    "05/03/2024" is the day.

    Args:
        text: a phrase, as returned by `split_phrases`.
        language: BCP 47 tag of the text: "es", "es-MX", "en-GB".
    """
    base = base_language(language)
    if base in LANGUAGES:
        text = read_math(text, language)
    text = name_emoji(strip_markdown(text, language), base)
    if base in LANGUAGES:
        text = _read_signs(_read_amounts(text, language), language)
    text = re.sub(r"(?<=[(«“¿¡]) | (?=[.,;:!?…)»”])", "", " ".join(text.split()))
    return text if any(map(str.isalnum, text)) else ""


def strip_markdown(text: str, language: str = "es") -> str:
    """Strip Markdown markup: "1. **Lava** la [fruta](https://…)" becomes "1. Lava la fruta".

    A code block is replaced by the words of `CODE_BLOCK`, or left as text in a language that isn't there. LaTeX in a
    code block is read in Spanish and English.
    """
    base = base_language(language)
    blocks, number = [], ""
    for token in _markdown.parse(re.sub(r"(?<=\b\w)\*(?=\w\b)", "∗", text)):  # "a*b" isn't emphasis
        if token.type == "list_item_open" and token.info:
            number = f"{token.info}. "
        elif token.type == "fence" and base in CODE_BLOCK:
            is_math = base in LANGUAGES and token.info.strip().lower() in ("math", "latex", "tex")
            if token.content.strip():
                blocks.append(say_formula(token.content, language) if is_math else CODE_BLOCK[base])
        elif token.type in ("fence", "code_block"):
            blocks.append(token.content)
        elif token.type == "inline":
            words = "".join(map(_words_of, token.children or ()))
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
        end = found["match_end"]
        if unicodedata.category(found["emoji"][0]) == "Sm":  # "↔" is read as the sign that it is
            said.append(found["emoji"][0])
            continue
        before = "".join(said).rstrip()
        is_word = before and before[-1] not in ".!?…:" and not TONE.search(found["emoji"])
        name = emoji.demojize(found["emoji"], language=language) if is_word and language in emoji.LANGUAGES else ""
        said.append(f" {name.strip(':').replace('_', ' ')} " if name else " ")
    return "".join([*said, text[end:]])


def _read_amounts(text: str, language: str) -> str:
    """Write out what has digits, except for plain numbers: each step leaves words to the next."""
    text = _read_abbreviations(_read_addresses(text, language), language)
    text = read_telephones(_complete_numbers(read_digraphs(text)), language)
    text = read_decades(text, language)
    text = read_hours(read_dates(text, language), language)
    text = read_roman(text, language)
    text = read_fractions(_read_ranges(text, language), language)
    text = read_money(text, language)
    text = read_ordinals(read_products(text, language), language)
    text = read_measures(read_scales(text, language), language)
    return read_scripts(text, language)


def _complete_numbers(text: str) -> str:
    """Write "1'500,000" and ".5" as the other numbers are written: "1,500,000", "0.5"."""
    text = re.sub(r"(?<=\d)['’](?=\d{3}([.,]?)(?:\d{3})?(?!\d))", lambda match: match[1] or "\u2009", text)
    return re.sub(r"(?<![\w./])\.(?=\d+(?![\d.]))", "0.", text)


def _read_signs(text: str, language: str) -> str:
    """Name every sign that is left, then write out the numbers that are left."""
    base = base_language(language)
    text = REPEATED.sub(" ", text)
    for sign, word in TYPED[base].items():
        text = re.sub(sign, f" {word} ", text)
    text = re.sub(r"(?<=[^\W\d_])-(?=\d)|(?<=\d)-(?=[^\W\d_])", " ", text)  # "covid-19"
    text = re.sub(r"(?<=\w)/(?=\w)", f" {WORDS[base]['/']} ", text)
    text = _read_plain_numbers(read_greek(text, language), language)
    return "".join(map(functools.partial(_name_sign, language=language), text))


def _words_of(token) -> str:
    if token.type in ("softbreak", "hardbreak"):
        return " "
    if token.type == "image":
        return "".join(map(_words_of, token.children))
    return token.content if token.type in ("text", "code_inline") else ""


def _read_addresses(text: str, language: str) -> str:
    """Read out URLs, email addresses and bare domain names: "es punto wikipedia punto org"."""
    words = WORDS[base_language(language)]

    def say(match: re.Match) -> str:
        address = match[0].rstrip(".,;:!?'")
        rest = match[0][len(address) :]
        address = re.sub(r"^(https?://)?(www\.)?", "", re.split(r"[?#]", address)[0], flags=re.IGNORECASE).strip("/")
        return re.sub(r"[./@_:-]", lambda mark: f" {words[mark[0]]} ", address) + rest

    return ADDRESS.sub(say, text)


def _read_abbreviations(text: str, language: str) -> str:
    for short, word in ABBREVIATIONS[base_language(language)].items():

        def say(match: re.Match, word: str = word) -> str:
            is_end = match[0].endswith(".") and not match.string[match.end() :].strip(" »”\"')")
            return f"{word}{'.' if is_end else ''}"

        end = "" if short.endswith(")") else r"(?!\w)"
        text = re.sub(rf"(?<![\w.]){short}{end}", say, text, flags=re.IGNORECASE)
    return text


def _read_ranges(text: str, language: str) -> str:
    """Read out hyphens and minus signs at numbers: "10-12" is a range, "-4" is negative, "5 - 3" is a subtraction."""
    number, words = number_pattern(language), WORDS[base_language(language)]
    text = re.sub(rf"(?<![\w.,-])({number})([%°]?)[-–—]({number})(?![\w-]*-|\d)", rf"\1\2 {words['to']} \3", text)
    text = re.sub(r"(?<=\d) – (?=\d)", f" {words['to']} ", text)
    text = re.sub(r"(?<=\d) [-−] (?=\d)", f" {words['minus']} ", text)
    return re.sub(rf"(?:(?<=[\s(])|^)[-−](?={number})", f"{words['minus']} ", text)


def _read_plain_numbers(text: str, language: str) -> str:
    """Read out version numbers ("3.1.4") part by part, English years in pairs of digits, and all remaining numbers."""
    dot = f" {WORDS['es']['.']} " if base_language(language) == "es" else " point "
    text = re.sub(r"(?<![\d.,])\d+(?:\.\d+){2,}(?!\d|,\d)", lambda match: _version(match[0], dot, language), text)
    if base_language(language) == "en":
        text = YEAR.sub(lambda match: say_year(int(match[0]), "en"), text)
    return read_numbers(text, language)


def _version(written: str, dot: str, language: str) -> str:
    is_number = re.fullmatch(number_pattern(language), written)
    return written if is_number else dot.join(written.split("."))


def _name_sign(character: str, language: str) -> str:
    """Return a sign of money or mathematics by its name, any other symbol as a space, and the rest as it is."""
    category = unicodedata.category(character)
    if category == "Sc":
        return f" {name_sign(character, language)} "
    if category == "Sm" and character not in SILENT_SIGNS:
        return f" {name_math(character, language)} "
    return " " if character in UNSAYABLE or category[0] in "SC" else character
