r"""Write LaTeX formulas out in words, in Spanish and English: "\(E = mc^2\)" is "E igual a m c al cuadrado"."""

import re

from .text_locale import base_language
from .text_numbers import number_pattern, say_number
from .text_signs import GREEK, NAMES, name_math, say_power

SIGNS = {  # command: the sign of Unicode that it sets
    "times": "×", "cdot": "⋅", "ast": "∗", "div": "÷", "pm": "±", "mp": "∓", "le": "≤", "leq": "≤", "leqslant": "⩽",
    "ge": "≥", "geq": "≥", "geqslant": "⩾", "ne": "≠", "neq": "≠", "lt": "<", "gt": ">", "ll": "≪", "gg": "≫",
    "approx": "≈", "simeq": "≃", "cong": "≅", "equiv": "≡", "sim": "∼", "propto": "∝", "infty": "∞", "partial": "∂",
    "nabla": "∇", "in": "∈", "notin": "∉", "ni": "∋", "subset": "⊂", "supset": "⊃", "subseteq": "⊆", "supseteq": "⊇",
    "cup": "∪", "cap": "∩", "emptyset": "∅", "varnothing": "∅", "setminus": "∖", "forall": "∀", "exists": "∃",
    "neg": "¬", "lnot": "¬", "land": "∧", "wedge": "∧", "lor": "∨", "vee": "∨", "oplus": "⊕", "otimes": "⊗",
    "to": "→", "rightarrow": "→", "longrightarrow": "⟶", "mapsto": "↦", "Rightarrow": "⇒", "implies": "⇒",
    "Longrightarrow": "⟹", "leftarrow": "←", "gets": "←", "leftrightarrow": "↔", "Leftrightarrow": "⇔", "iff": "⇔",
    "uparrow": "↑", "downarrow": "↓", "therefore": "∴", "because": "∵", "angle": "∠", "perp": "⊥", "parallel": "∥",
    "mid": "∣", "circ": "∘", "sum": "∑", "prod": "∏", "int": "∫", "iint": "∬", "iiint": "∭", "oint": "∮",
    "dots": "⋯", "ldots": "⋯", "cdots": "⋯", "vdots": "⋮", "bullet": "∙", "models": "⊨", "vdash": "⊢",
}  # fmt: skip
LETTERS = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "zeta": "ζ",
           "eta": "η", "theta": "θ", "vartheta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν",
           "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ", "phi": "φ", "varphi": "φ",
           "chi": "χ", "psi": "ψ", "omega": "ω"}  # fmt: skip
WORDS = {
    "es": {
        "over": "sobre", "root": "raíz de", "cube": "raíz cúbica de", "nth": "raíz {} de", "from": "desde",
        "up to": "hasta", "of": "de", "when": "cuando", "abs": "valor absoluto de", "given": "dado", "prime": "prima",
        "degrees": "grados", "factorial": "factorial", "tends": "tiende a", "bar": "barra", "hat": "gorro",
        "vec": "vector", "binom": "en grupos de",
    },
    "en": {
        "over": "over", "root": "square root of", "cube": "cube root of", "nth": "{}th root of", "from": "from",
        "up to": "to", "of": "of", "when": "as", "abs": "absolute value of", "given": "given", "prime": "prime",
        "degrees": "degrees", "factorial": "factorial", "tends": "tends to", "bar": "bar", "hat": "hat",
        "vec": "vector", "binom": "choose",
    },
}  # fmt: skip
FUNCTIONS = {
    "es": {"sin": "seno de", "sen": "seno de", "cos": "coseno de", "tan": "tangente de", "tg": "tangente de",
           "cot": "cotangente de", "sec": "secante de", "csc": "cosecante de", "arcsin": "arcoseno de",
           "arccos": "arcocoseno de", "arctan": "arcotangente de", "sinh": "seno hiperbólico de",
           "cosh": "coseno hiperbólico de", "tanh": "tangente hiperbólica de", "log": "logaritmo de",
           "ln": "logaritmo natural de", "exp": "exponencial de", "lim": "límite de", "max": "máximo de",
           "min": "mínimo de", "det": "determinante de", "gcd": "máximo común divisor de", "dim": "dimensión de"},
    "en": {"sin": "sine of", "cos": "cosine of", "tan": "tangent of", "cot": "cotangent of", "sec": "secant of",
           "csc": "cosecant of", "arcsin": "arc sine of", "arccos": "arc cosine of", "arctan": "arc tangent of",
           "sinh": "hyperbolic sine of", "cosh": "hyperbolic cosine of", "tanh": "hyperbolic tangent of",
           "log": "logarithm of", "ln": "natural logarithm of", "exp": "exponential of", "lim": "limit of",
           "max": "maximum of", "min": "minimum of", "det": "determinant of", "gcd": "greatest common divisor of",
           "dim": "dimension of"},
}  # fmt: skip
TEXTS = {"text", "textbf", "textit", "mathrm", "mathbf", "mathit", "mathsf", "mathbb", "mathcal", "operatorname",
         "boxed", "boldsymbol", "mbox", "underline", "ce", "textrm"}  # fmt: skip
ACCENTS = {"bar": "bar", "overline": "bar", "hat": "hat", "widehat": "hat", "vec": "vec", "overrightarrow": "vec"}
SILENT = set("left right big Big bigg Bigg bigl bigr Bigl Bigr quad qquad limits displaystyle textstyle nonumber "
             "hline label tag".split())  # fmt: skip
FRACTIONS = {"frac", "dfrac", "tfrac", "cfrac"}
CODE = re.compile(r"(^[ ]{0,3}```.*?(?:^[ ]{0,3}```[ ]*$|\Z)|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
COMMANDS = "|".join(sorted({*FRACTIONS, "sqrt", "binom", *SIGNS, *LETTERS, *FUNCTIONS["es"], *TEXTS, *ACCENTS,
                            *(name.title() for name in LETTERS)}, key=len, reverse=True))  # fmt: skip
BRACED = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
MATH = re.compile(
    r"\\\((?P<inline>.+?)\\\)|\\\[(?P<display>.+?)\\\]|\$\$(?P<dollars>.+?)\$\$"
    r"|\\begin\{(?P<env>equation|align|gather|cases|[pbv]?matrix)\*?\}(?P<body>.+?)\\end\{(?P=env)\*?\}"
    r"|(?<![\\$\w])\$(?P<dollar>(?=[^\s$])[^$\n]*?(?<=[^\s\\]))\$(?![\d$\w])"
    rf"|(?P<bare>(?:\w+[ ]?=[ ]?)?\\(?:{COMMANDS})(?![A-Za-z])(?:\[[^\]]*\]|{BRACED}|[\^_](?:{BRACED}|\w))*)",
    re.DOTALL,
)
IS_MATH = re.compile(
    r"[\\^_={}<>+]|^-?\d*[A-Za-z]{1,2}$|^[A-Za-z]\([^)]*\)$|^\|.+\|$|^[A-Za-z\d]!$"
)  # what tells "$x$" from "$5 y US$"
BARS = re.compile(r"(?<![\w|])\|-?\w{1,4}\|(?![\w|])")  # the cells of tables stand apart
TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|\d+(?:[.,]\d+)*|[^\W\d_]|\S")


def read_math(text: str, language: str) -> str:
    r"""Write out LaTeX: \(…\), \[…\], $…$, $$…$$, commands without delimiters, and |x|; what is in code stays."""
    parts = CODE.split(text)
    for index in range(0, len(parts), 2):
        parts[index] = MATH.sub(lambda match: _say(match, language), parts[index])
        parts[index] = BARS.sub(lambda match: say_formula(match[0], language), parts[index])
    return "".join(parts)


def say_formula(latex: str, language: str) -> str:
    """Return a LaTeX formula in words."""
    return Formula(latex, language).read()


class Formula:
    """Reads the tokens of a formula from left to right, a group in braces as one."""

    def __init__(self, latex: str, language: str):
        self.language, self.base = language, base_language(language)
        self.words = WORDS[self.base]
        self.tokens = TOKEN.findall(re.sub(r"\\(?:begin|end)\{[^}]*\}(?:\{[lcr|]*\})?", " ", latex))
        self.latex = latex
        self.is_in_bars = False

    def read(self) -> str:
        """Return the words of the rest of the formula, up to the brace that closes the group."""
        said: list[str] = []
        while self.tokens and self.tokens[0] != "}":
            said.append(self._next(said))
        if self.tokens:
            self.tokens.pop(0)
        return " ".join(" ".join(said).split())

    def _group(self) -> str:
        """Return the words of the next token or group: the argument of a command, an exponent or an index."""
        if not self.tokens:
            return ""
        if self.tokens[0] == "{":
            self.tokens.pop(0)
            return self.read()
        return self._next([])

    def _next(self, said: list[str]) -> str:
        token = self.tokens.pop(0)
        if token == "{":
            return self.read()
        if token == "^":
            return self._raised()
        if token == "_":
            return self._group()
        if token in ("\\\\", "&"):
            return ","
        if token.startswith("\\"):
            return self._command(token.lstrip("\\").rstrip("*") or " ")
        return self._plain(token, said)

    def _command(self, name: str) -> str:
        words = self.words
        if name in FRACTIONS:
            above, below = self._group(), self._group()
            return f"{above} {words['over']} {below}"
        if name == "sqrt":
            return self._root()
        if name in ("binom", "choose"):
            return f"{self._group()} {words['binom']} {self._group()}"
        if name in ACCENTS:
            inner, word = self._group(), words[ACCENTS[name]]
            return f"{word} {inner}" if word == words["vec"] else f"{inner} {word}"
        if name in TEXTS:
            return self._text()
        if name in ("sum", "prod", "int", "iint", "iiint", "oint", "lim", "max", "min", "bigcup", "bigcap", "log"):
            return self._with_limits(name)
        if name in FUNCTIONS[self.base]:
            return self._function(FUNCTIONS[self.base][name])
        if name in ("degree",):
            return words["degrees"]
        if name in SIGNS:
            return NAMES[self.base].get(SIGNS[name]) or name_math(SIGNS[name], self.language)
        if name.lower() in LETTERS:
            return GREEK[self.base][LETTERS[name.lower()]]
        if name in SILENT or not (name.isalpha() or name in "%$#&"):
            return ""
        return {"%": " % ", "$": " $ ", "#": " # ", "&": " & "}.get(name, name)

    def _raised(self) -> str:
        start = list(self.tokens)
        said = self._group()
        used = "".join(start[: len(start) - len(self.tokens)]).strip("{}")
        if used in ("\\circ", "\\degree"):
            return self.words["degrees"]
        if used in ("\\prime", "'"):
            return self.words["prime"]
        return say_power(used, self.language) if used.isdecimal() and used in "23" else self._power(said)

    def _power(self, said: str) -> str:
        return f"{'a la' if self.base == 'es' else 'to the power of'} {said}"

    def _argument(self) -> str:
        """Return "de x" for the "(x)" of "f(x)"; a longer argument keeps its parentheses."""
        of = self.words["of"]
        if len(self.tokens) > 1 and self.tokens[1] == ")":
            argument, _ = self._next([]), self.tokens.pop(0)
            return f"{of} {argument}"
        return f"{of} ("

    def _root(self) -> str:
        degree = ""
        if self.tokens and self.tokens[0] == "[":
            end = self.tokens.index("]") if "]" in self.tokens else 0
            degree = "".join(self.tokens[1:end])
            self.tokens = self.tokens[end + 1 :]
        if degree and degree not in "23":
            said = say_number(degree, self.language) if degree.isdecimal() else degree
            root = self.words["nth"].format(said)
        else:
            root = self.words["cube"] if degree == "3" else self.words["root"]
        return f"{root} {self._group()}"

    def _text(self) -> str:
        """Return text inside a formula: its letters belong together."""
        if not self.tokens or self.tokens[0] != "{":
            return self._group()
        end = self.tokens.index("}") if "}" in self.tokens else len(self.tokens)
        inner = self.tokens[1:end]
        self.tokens = self.tokens[end + 1 :]
        match = re.search(r"\s*".join(map(re.escape, inner)), self.latex)
        return f" {match[0]} " if match and inner else ""

    def _with_limits(self, name: str) -> str:
        lower = upper = ""
        while self.tokens and self.tokens[0] in ("_", "^", "\\limits"):
            mark = self.tokens.pop(0)
            if mark == "_":
                lower = self._group()
            elif mark == "^":
                upper = self._group()
        arrow = NAMES[self.base]["→"]
        if name in ("lim", "max", "min"):
            said = FUNCTIONS[self.base][name].rsplit(" ", 1)[0]
            within = f" {self.words['when']} {lower.replace(arrow, self.words['tends'])}" if lower else ""
            return f"{said}{within} {self.words['of']}"
        if name == "log":
            said = FUNCTIONS[self.base]["log"].rsplit(" ", 1)[0]
            base_word = {"es": " en base ", "en": " base "}[self.base]
            return f"{said}{base_word + lower if lower else ''} {self.words['of']}"
        said = NAMES[self.base][SIGNS[name]].rsplit(" ", 1)[0]
        within = f" {self.words['from']} {lower}" if lower else ""
        until = f" {self.words['up to']} {upper}" if upper else ""
        return f"{said}{within}{until} {self.words['of']}"

    def _function(self, said: str) -> str:
        """Read "\\sin^2 x" as "seno al cuadrado de x"."""
        name, of = said.rsplit(" ", 1)
        if self.tokens and self.tokens[0] == "^":
            self.tokens.pop(0)
            name = f"{name} {self._raised()}"
        return f"{name} {of}"

    def _plain(self, token: str, said: list[str]) -> str:
        words = self.words
        if token[0].isdecimal():
            if re.fullmatch(number_pattern(self.language), token):
                return say_number(token, self.language)
            return token
        if token == "|" and self.latex.count("|") % 2:
            return words["given"]
        if token == "|":
            self.is_in_bars = not self.is_in_bars
            return words["abs"] if self.is_in_bars else ""
        if token == "(" and said and re.fullmatch("[fghFGHPpLTVy]", said[-1]):
            return self._argument()
        special = {"-": NAMES[self.base]["−"], "*": NAMES[self.base]["×"], "/": words["over"], "'": words["prime"],
                   "!": words["factorial"], "~": "", "[": "(", "]": ")"}  # fmt: skip
        if token in special:
            return special[token]
        if token in NAMES[self.base]:
            return NAMES[self.base][token]
        return token


def _say(match: re.Match, language: str) -> str:
    inner = next(part for name, part in match.groupdict().items() if part is not None and name != "env")
    if match["dollar"] is not None and not IS_MATH.search(match["dollar"].strip()):
        return match[0]
    said = say_formula(inner, language)
    is_displayed = not (match["bare"] or match["inline"] or match["dollar"])
    return f" {said.rstrip(' .,')}. " if is_displayed else f" {said} "
