"""Name the mathematical signs of Unicode, and superscripts and subscripts, in Spanish and English."""

import re
import unicodedata

from .text_locale import base_language

NAMES = {
    "es": {
        "+": "más", "−": "menos", "±": "más o menos", "∓": "menos o más", "×": "por", "⋅": "por", "∙": "por",
        "∗": "por", "÷": "entre", "∕": "entre", "⁄": "entre", "=": "igual a", "≠": "distinto de", "<": "menor que",
        ">": "mayor que", "≤": "menor o igual que", "≥": "mayor o igual que", "⩽": "menor o igual que",
        "⩾": "mayor o igual que", "≪": "mucho menor que", "≫": "mucho mayor que", "≈": "aproximadamente",
        "≃": "aproximadamente igual a", "≅": "congruente con", "≡": "idéntico a", "∼": "semejante a",
        "≔": "se define como", "∝": "proporcional a", "∞": "infinito", "√": "raíz de", "∛": "raíz cúbica de",
        "∜": "raíz cuarta de", "∑": "suma de", "∏": "producto de", "∐": "coproducto de", "∫": "integral de",
        "∬": "integral doble de", "∭": "integral triple de", "∮": "integral cerrada de", "∂": "derivada parcial de",
        "∇": "nabla", "∆": "delta", "∈": "pertenece a", "∉": "no pertenece a", "∋": "contiene a",
        "⊂": "subconjunto de", "⊃": "superconjunto de", "⊆": "subconjunto o igual a",
        "⊇": "superconjunto o igual a", "∪": "unión", "⋃": "unión de", "∩": "intersección", "⋂": "intersección de",
        "∅": "conjunto vacío", "∖": "menos", "∀": "para todo", "∃": "existe", "∄": "no existe", "¬": "no",
        "∧": "y", "∨": "o", "⊕": "o exclusivo", "⊗": "producto tensorial", "→": "lleva a", "⟶": "lleva a",
        "↦": "se convierte en", "⇒": "implica", "⟹": "implica", "←": "viene de", "↔": "equivale a",
        "⇔": "si y solo si", "⟺": "si y solo si", "↑": "sube", "↓": "baja", "∴": "por lo tanto", "∵": "porque",
        "∠": "ángulo", "∡": "ángulo", "⊥": "perpendicular a", "∥": "paralelo a", "∣": "divide a", "∘": "compuesto con",
        "∶": "es a", "∷": "como", "~": "virgulilla", "|": "barra vertical", "♯": "sostenido", "℘": "p de Weierstrass",
        "⊢": "demuestra", "⊨": "satisface", "⊤": "verdadero", "∟": "ángulo recto", "∎": "queda demostrado",
        "⋯": "etcétera", "⋮": "etcétera", "⋱": "etcétera",
    },
    "en": {
        "+": "plus", "−": "minus", "±": "plus or minus", "∓": "minus or plus", "×": "times", "⋅": "times",
        "∙": "times", "∗": "times", "÷": "divided by", "∕": "over", "⁄": "over", "=": "equals",
        "≠": "is not equal to", "<": "less than", ">": "greater than", "≤": "at most", "≥": "at least",
        "⩽": "at most", "⩾": "at least", "≪": "much less than", "≫": "much greater than", "≈": "about",
        "≃": "about equal to", "≅": "congruent to", "≡": "identical to", "∼": "similar to", "≔": "is defined as",
        "∝": "proportional to", "∞": "infinity", "√": "square root of", "∛": "cube root of", "∜": "fourth root of",
        "∑": "sum of", "∏": "product of", "∐": "coproduct of", "∫": "integral of", "∬": "double integral of",
        "∭": "triple integral of", "∮": "closed integral of", "∂": "partial", "∇": "nabla", "∆": "delta",
        "∈": "in", "∉": "not in", "∋": "contains", "⊂": "subset of", "⊃": "superset of",
        "⊆": "subset of or equal to", "⊇": "superset of or equal to", "∪": "union", "⋃": "union of",
        "∩": "intersection", "⋂": "intersection of", "∅": "the empty set", "∖": "minus", "∀": "for all",
        "∃": "there exists", "∄": "there does not exist", "¬": "not", "∧": "and", "∨": "or", "⊕": "exclusive or",
        "⊗": "tensor product", "→": "to", "⟶": "to", "↦": "maps to", "⇒": "implies", "⟹": "implies",
        "←": "from", "↔": "is equivalent to", "⇔": "if and only if", "⟺": "if and only if", "↑": "up", "↓": "down",
        "∴": "therefore", "∵": "because", "∠": "angle", "∡": "angle", "⊥": "perpendicular to", "∥": "parallel to",
        "∣": "divides", "∘": "composed with", "∶": "to", "∷": "as", "~": "tilde", "|": "vertical bar",
        "♯": "sharp", "⊢": "proves", "⊨": "satisfies", "⊤": "true", "∎": "Q E D", "⋯": "and so on",
        "⋮": "and so on", "⋱": "and so on",
    },
}  # fmt: skip
# Words of Unicode's English names, for the hundreds of signs that have no Spanish name above.
UNICODE_WORDS = {
    "ARROW": "flecha", "ARROWS": "flechas", "HARPOON": "flecha", "LEFTWARDS": "a la izquierda",
    "RIGHTWARDS": "a la derecha", "UPWARDS": "arriba", "DOWNWARDS": "abajo", "UP": "arriba", "DOWN": "abajo",
    "LEFT": "izquierda", "RIGHT": "derecha", "DOUBLE": "doble", "TRIPLE": "triple", "LONG": "larga", "NOT": "no",
    "LESS-THAN": "menor que", "GREATER-THAN": "mayor que", "EQUAL": "igual", "EQUALS": "igual",
    "IDENTICAL": "idéntico",
    "EQUIVALENT": "equivalente", "EQUIVALENCE": "equivalencia", "APPROXIMATELY": "aproximadamente",
    "SUBSET": "subconjunto", "SUPERSET": "superconjunto", "UNION": "unión", "INTERSECTION": "intersección",
    "PLUS": "más", "MINUS": "menos", "MULTIPLICATION": "por", "TIMES": "por", "DIVISION": "entre",
    "DIVIDES": "divide a", "INTEGRAL": "integral", "SUMMATION": "suma", "PRODUCT": "producto",
    "COPRODUCT": "coproducto",
    "PRECEDES": "precede a", "SUCCEEDS": "sigue a", "TILDE": "virgulilla", "PARENTHESIS": "paréntesis",
    "BRACKET": "corchete", "BRACE": "llave", "CURLY": "llave", "CIRCLE": "círculo", "CIRCLED": "en círculo",
    "SQUARE": "cuadrado", "SQUARED": "en cuadrado", "TRIANGLE": "triángulo", "DIAMOND": "rombo", "STAR": "estrella",
    "LOZENGE": "rombo", "LOGICAL": "lógico", "AND": "y", "OR": "o", "DOT": "punto", "BAR": "barra", "ANGLE": "ángulo",
    "PERPENDICULAR": "perpendicular a", "PARALLEL": "paralelo a", "JOIN": "unión", "MEMBER": "pertenece a",
    "ELEMENT": "pertenece a", "CONTAINS": "contiene a", "INFINITY": "infinito", "EMPTY": "vacío", "SET": "conjunto",
    "PROPORTION": "proporción", "RATIO": "razón", "ROOT": "raíz", "PARTIAL": "derivada parcial", "NABLA": "nabla",
    "INCREMENT": "incremento", "SLASH": "barra", "SOLIDUS": "barra", "BACKSLASH": "barra invertida",
    "ASTERISK": "asterisco", "RING": "anillo", "TURNSTILE": "demuestra", "TACK": "perpendicular",
    "ASSERTION": "afirma",
    "SHARP": "sostenido", "CUBE": "cúbica", "FOURTH": "cuarta",
}  # fmt: skip
DIGRAPHS = {"<->": "↔", "<=>": "⇔", "->": "→", "=>": "⇒", "<-": "←", "<=": "≤", ">=": "≥", "!=": "≠", "==": "=",
            "+/-": "±", "+-": "±"}  # fmt: skip
GREEK = {
    "es": dict(zip("αβγδεζηθικλμνξοπρσςτυφχψω", "alfa beta gamma delta épsilon zeta eta theta iota kappa lambda mi ni "
                   "xi ómicron pi ro sigma sigma tau ípsilon fi ji psi omega".split(), strict=True)),
    "en": dict(zip("αβγδεζηθικλμνξοπρσςτυφχψω",
           "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu "
                   "xi omicron pi rho sigma sigma tau upsilon phi chi psi omega".split(), strict=True)),
}  # fmt: skip
POWERS = {"es": {"2": "al cuadrado", "3": "al cubo"}, "en": {"2": "squared", "3": "cubed"}}
RAISED = {"es": "a la", "en": "to the power of"}
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼ⁿⁱ", "0123456789+-=ni", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌ₐₑₒₓₕₖₗₘₙₚₛₜᵢⱼᵣᵤᵥ", "0123456789+-=aeoxhklmnpstijruv", strict=True))
SIGNED = {"es": {"+": "más", "-": "menos", "=": "igual a"}, "en": {"+": "plus", "-": "minus", "=": "equals"}}
FORMULA = re.compile(  # chemical elements with a number below, or with a charge
    r"(?<!\w)(?=[A-Za-z()]*(?:[₀-₉]|[²³⁰-⁹]*[⁺⁻]))(?P<elements>(?:\(?[A-Z][a-z]?\)?[₀-₉]*){1,9})(?P<charge>[²³⁰-⁹]*[⁺⁻])?(?![\w⁰-⁹])"
)
PLAIN_FORMULAS = re.compile(r"\b(?:CO2|H2O|H2O2|N2O|NO2|SO2|O2|O3|N2|H2|CH4|NH3|H2SO4|CaCO3|NO3|C6H12O6)\b")


def name_math(sign: str, language: str) -> str:
    """Return the name of a sign of Unicode's category Sm: from `NAMES`, else from its parts or its name in Unicode."""
    base = base_language(language)
    if name := NAMES[base].get(sign):
        return name
    plain = unicodedata.normalize("NFKD", sign)
    if plain != sign:  # "≢" is "≡" with a stroke; "﹢" and "⁺" are "+"
        denied = {"es": "no ", "en": "not "}[base] if "\u0338" in plain else ""
        return denied + " ".join(_name_plain(each, base) for each in plain if each != "\u0338")
    return _name_plain(sign, base)


def read_scripts(text: str, language: str) -> str:
    """Write out superscripts, subscripts and chemical formulas: "x²", "10⁻³", "x₁", "CO₂", "Ca²⁺"."""
    base = base_language(language)
    text = FORMULA.sub(lambda match: _formula(match["elements"], match["charge"] or ""), text)
    text = PLAIN_FORMULAS.sub(lambda match: _formula(match[0], ""), text)
    text = re.sub(
        f"[{''.join(SUPERSCRIPTS)}]+",
        lambda match: f" {say_power(''.join(map(SUPERSCRIPTS.__getitem__, match[0])), language)} ",
        text,
    )
    return re.sub(
        f"[{''.join(SUBSCRIPTS)}]+",
        lambda match: f" {_spaced(''.join(map(SUBSCRIPTS.__getitem__, match[0])), base)} ",
        text,
    )


def read_digraphs(text: str) -> str:
    """Replace signs typed as two or three characters by the one that they stand for: "->", "<=", "!="."""
    pattern = "|".join(map(re.escape, DIGRAPHS))
    return re.sub(rf"(?<![-<=>!+])(?:{pattern})(?![-<=>])", lambda match: f" {DIGRAPHS[match[0]]} ", text)


def read_greek(text: str, language: str) -> str:
    """Name single Greek letters: "rayos α", "Δt"; words in Greek stay."""
    names = GREEK[base_language(language)]
    letters = "".join(names) + "".join(names).upper()
    return re.sub(
        rf"(?<![\u0370-\u03ff])[{letters}ϑϕϵ](?![\u0370-\u03ff])",
        lambda match: f" {names[unicodedata.normalize('NFKC', match[0]).lower()]} ",
        text,
    )


def say_power(exponent: str, language: str) -> str:
    """Return an exponent in words, its digits left as they are: "al cuadrado", "a la menos 3"."""
    base = base_language(language)
    if exponent in ("+", "-"):  # an electric charge
        return SIGNED[base][exponent]
    return POWERS[base].get(exponent) or f"{RAISED[base]} {_spaced(exponent, base)}"


def _spaced(exponent: str, base: str) -> str:
    return " ".join(SIGNED[base].get(part, part) for part in re.findall(r"\d+|\D", exponent))


def _formula(elements: str, charge: str) -> str:
    """Set the elements, numbers and charge of a chemical formula apart: "C O 2", "Ca 2 ⁺"."""
    digits = "".join(SUBSCRIPTS.get(each, each) for each in elements)
    parts = [*re.findall(r"[A-Z][a-z]?|\d+", digits), "".join(map(SUPERSCRIPTS.__getitem__, charge[:-1])), charge[-1:]]
    return " ".join(part for part in parts if part)


def _name_plain(sign: str, base: str) -> str:
    if sign in NAMES[base]:
        return NAMES[base][sign]
    if letter := GREEK[base].get(sign.lower()):
        return letter
    name = unicodedata.name(sign, "")
    if base == "en":
        return re.sub("[^a-z ]", " ", name.lower()) or "sign"
    words = [UNICODE_WORDS[word] for word in name.split() if word in UNICODE_WORDS]
    return " ".join(words) or "signo matemático"
