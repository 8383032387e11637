"""Compare what `speakable` says for 300 generated forms with oracles that aren't ours, before and after a change.

The forms are what CLDR writes in Spain and in Mexico: numbers, decimals, ordinals, money, dates, hours and units. The
oracles are ICU's spell-out rules ("icu", with PyICU), NVIDIA's grammars ("nemo", with nemo_text_processing) and
OpenVoiceOS ("ovos", with ovos-date-parser), and num2words' amounts of money with cents. None of them reads every
form: each is asked for what it knows. A form agrees if it is said as one of them says it, apart from punctuation and
from the country of a currency, which CLDR always names ("pesos mexicanos").

    pip install icukit-pyicu ovos-date-parser nemo_text_processing
    python benchmarks/speakable.py --before main
"""

import argparse
import datetime
import importlib
import json
import random
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from babel import Locale
from babel.numbers import format_currency, format_decimal, get_currency_name
from babel.units import format_unit
from num2words import num2words

ROOT = Path(__file__).parent.parent
TAGS = ("es-ES", "es-MX")
UNITS = {"length-kilometer": "km", "length-meter": "m", "mass-kilogram": "kg", "volume-liter": "l",
         "speed-kilometer-per-hour": "km/h", "temperature-celsius": "°C", "area-square-meter": "m²",
         "digital-gigabyte": "GB", "power-kilowatt": "kW", "concentr-percent": "%"}  # fmt: skip
COUNTRIES = r" (?:estadounidenses?|mexicanos?|esterlinas?|colombianos?)\b"


class Form(NamedTuple):
    """A written form, what it was made of, and what oracles say to it."""

    kind: str
    tag: str
    written: str
    expected: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="main", help="revision of git to compare with (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nemo", action="store_true", help="ask NeMo too, which takes minutes")
    parser.add_argument("--cache", help="folder that keeps NeMo's compiled grammars")
    parser.add_argument("--json", help="file for the rows")
    options = parser.parse_args()

    forms = list(generate(random.Random(options.seed)))
    if options.nemo:
        ask_nemo(forms, options.cache)
    forms = [form for form in forms if form.expected]
    before, after = at_revision(options.before), at_revision(None)
    rows = [(form, *(reading(speak, form.written, form.tag) for speak in (before, after))) for form in forms]
    report(rows)
    if options.json:
        found = [{**form._asdict(), "before": old, "after": new} for form, old, new in rows]
        Path(options.json).write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")


def generate(rng: random.Random) -> Iterator[Form]:
    """Yield the forms: for each kind, as many of Spain as of Mexico."""
    icu = Icu()
    for tag in TAGS:
        locale = Locale.parse(tag, sep="-")
        for _ in range(20):
            number = rng.randrange(10 ** rng.randint(1, 9))
            yield Form("number", tag, format_decimal(number, locale=locale), {"icu": icu.cardinal(number, tag)})
            decimal = round(rng.uniform(0, 10 ** rng.randint(1, 5)), rng.choice([1, 2, 3]))
            written = format_decimal(decimal, format="#,##0.###", locale=locale)
            yield Form("decimal", tag, written, {"icu": icu.decimal(written, tag)})
        for _ in range(20):
            number = rng.choice([rng.randint(1, 30), rng.randint(1, 100), rng.randint(100, 999)])
            mark, rules = rng.choice([(".º", "masculine"), (".ª", "feminine"), (".er", "masculine-adjective")])
            number = number - number % 10 + 1 if mark == ".er" else number
            yield Form("ordinal", tag, f"{number}{mark}", {"icu": icu.ordinal(number, rules, tag)})
        for _ in range(30):
            code = rng.choice(["EUR", "USD", "MXN", "MXN" if tag == "es-MX" else "EUR", "GBP", "COP"])
            amount = rng.choice([rng.randint(1, 40), rng.randint(1, 5000), rng.randrange(10**7)])
            amount += rng.choice([0, 0, rng.randint(1, 99) / 100]) if code != "COP" else 0  # which has no cents
            written = format_currency(amount, code, locale=locale, format=None if amount % 1 else "#,##0 ¤")
            yield Form(
                "money",
                tag,
                written,
                ask_num2words(amount, code) if amount % 1 else {"icu": icu.money(amount, code, tag)},
            )
        for _ in range(20):
            day = datetime.date(1900, 1, 1) + datetime.timedelta(rng.randrange(50000))
            written = day.strftime(rng.choice(["%d/%m/%Y", "%Y-%m-%d", "%-d-%-m-%Y"]))
            yield Form("date", tag, written, {"icu": icu.date(day, tag)})
        for _ in range(20):
            moment = datetime.time(rng.randrange(24), rng.choice([0, 15, 30, rng.randrange(60)]))
            half = rng.random() < 0.5
            written = f"{moment:%-I:%M} {'a. m.' if moment.hour < 12 else 'p. m.'}" if half else f"{moment:%-H:%M}"
            yield Form("hour", tag, f"a las {written} en casa", ask_ovos(moment, half, tag))
        for _ in range(20):
            number, unit = rng.choice([rng.randint(1, 40), rng.randint(1, 3000)]), rng.choice(sorted(UNITS))
            written = f"{format_decimal(number, locale=locale)} {UNITS[unit]}"
            yield Form("unit", tag, written, {"icu": icu.unit(number, unit, tag)})


class Icu:
    """Spells out numbers by the rules that ICU takes from CLDR, and puts CLDR's names beside them."""

    def __init__(self):
        try:
            import icu
        except ImportError:
            sys.exit("benchmarks/speakable.py needs PyICU: pip install icukit-pyicu, or pyicu beside ICU's headers.")
        self._icu = icu
        self._formats: dict[str, object] = {}

    def spell(self, number: float, rules: str, tag: str) -> str:
        if tag not in self._formats:
            kind = self._icu.URBNFRuleSetTag.SPELLOUT
            self._formats[tag] = self._icu.RuleBasedNumberFormat(kind, self._icu.Locale(tag.replace("-", "_")))
        rule_format = self._formats[tag]
        rule_format.setDefaultRuleSet(f"%spellout-{rules}")
        return rule_format.format(number).replace("\u00ad", "")

    def cardinal(self, number: int, tag: str) -> str:
        return self.spell(number, "numbering", tag)

    def decimal(self, written: str, tag: str) -> str:
        plain = written.replace("," if tag == "es-MX" else ".", "").replace(",", ".")
        return self.spell(float(plain), "numbering", tag)

    def ordinal(self, number: int, rules: str, tag: str) -> str:
        return self.spell(number, f"ordinal-{rules}", tag)

    def counted(self, number: int, name: str, tag: str) -> str:
        feminine = name.split()[0].rstrip("s").endswith("a")
        said = self.spell(number, f"cardinal-{'feminine' if feminine else 'masculine'}", tag)
        return f"{said} {'de ' if re.search('mill(ón|ones)$', said) else ''}{name}"

    def money(self, amount: float, code: str, tag: str) -> str:
        return self.counted(int(amount), get_currency_name(code, int(amount), tag.replace("-", "_")), tag)

    def unit(self, number: int, unit: str, tag: str) -> str:
        name = format_unit(number, unit, locale=tag.replace("-", "_"), format="#").removeprefix(str(number))
        return self.counted(number, name.strip(), tag)

    def date(self, day: datetime.date, tag: str) -> str:
        written = self._icu.SimpleDateFormat("d 'de' MMMM 'de' y", self._icu.Locale(tag.replace("-", "_"))).format(
            datetime.datetime.combine(day, datetime.time(12)).timestamp()
        )
        return re.sub(r"\d+", lambda match: self.cardinal(int(match[0]), tag), written)


def ask_num2words(amount: float, code: str) -> dict[str, str]:
    """Return num2words' reading of an amount with cents."""
    return {"num2words": num2words(amount, lang="es", to="currency", currency=code)}


def ask_ovos(moment: datetime.time, half: bool, tag: str) -> dict[str, str]:
    """Return OpenVoiceOS's reading of an hour, if it is installed."""
    try:
        from ovos_date_parser import nice_time
    except ImportError:
        return {}
    day = datetime.datetime.combine(datetime.date(2026, 1, 1), moment)
    said = {"ovos": nice_time(day, "es-es", speech=True, use_24hour=not half, use_ampm=half)}
    if not half and 0 < moment.hour <= 12:  # said by the clock's face too
        said["ovos by the face"] = nice_time(day, "es-es", speech=True, use_24hour=False, use_ampm=False)
    return {oracle: f"a {words} en casa" for oracle, words in said.items()}


def ask_nemo(forms: list[Form], cache: str | None) -> None:
    """Add NeMo's readings; its Spanish grammars are Spain's, whatever the tag."""
    from nemo_text_processing.text_normalization.normalize import Normalizer

    normalizer = Normalizer(input_case="cased", lang="es", cache_dir=cache)
    for form in forms:
        form.expected["nemo"] = normalizer.normalize(form.written)


def at_revision(revision: str | None) -> Callable[[str, str], str]:
    """Return `speakable` as it is in a revision of git, or None for the working tree."""
    folder = Path(tempfile.mkdtemp())
    package = folder / f"text_{'now' if revision is None else 'then'}"
    package.mkdir()
    (package / "__init__.py").touch()
    names = [path.name for path in (ROOT / "hfpipe" / "pipeline").glob("text_*.py")]
    if revision is not None:
        listed = _git("ls-tree", "--name-only", f"{revision}:hfpipe/pipeline").split()
        names = [name for name in listed if name.startswith("text_")]
    for name in names:
        path = f"hfpipe/pipeline/{name}"
        source = (ROOT / path).read_text(encoding="utf-8") if revision is None else _git("show", f"{revision}:{path}")
        (package / name).write_text(source, encoding="utf-8")
    sys.path.insert(0, str(folder))
    return importlib.import_module(f"{package.name}.text_speakable").speakable


def reading(speak: Callable[[str, str], str], written: str, tag: str) -> str:
    """Return what is said; where the tag isn't known, as it was before regions were, what its language says."""
    said = speak(written, tag)
    return speak(written, tag[:2]) if re.search(r"\d", said) else said


def report(rows: list[tuple[Form, str, str]]) -> None:
    """Print the share that agrees per kind, before and after, then the rest with the reason."""
    kinds = defaultdict(list)
    for form, before, after in rows:
        kinds[form.kind].append((agrees(before, form), agrees(after, form)))
    kinds["all"] = [pair for pairs in list(kinds.values()) for pair in pairs]
    print("| kind | forms | agree before | agree after |\n|---|---:|---:|---:|")
    for kind, pairs in kinds.items():
        shares = [100 * sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
        print(f"| {kind} | {len(pairs)} | {shares[0]:.0f} % | {shares[1]:.0f} % |")
    reasons = defaultdict(list)
    for form, _, after in rows:
        if not agrees(after, form):
            reasons[why(form, after)].append((form, after))
    for reason, found in sorted(reasons.items(), key=lambda item: -len(item[1])):
        print(f"\n{len(found)} × {reason}")
        for form, after in found[:4]:
            said = "; ".join(f"{oracle}: {words}" for oracle, words in form.expected.items())
            print(f"  {form.tag} {form.written!r}: ours: {after}; {said}")


def agrees(said: str, form: Form) -> bool:
    return plain(said) in (plain(re.sub(COUNTRIES, "", other)) for other in form.expected.values())


def why(form: Form, said: str) -> str:
    """Return in what way a reading differs from the oracles', as far as a few comparisons can tell."""
    ours = plain(said)
    for other in form.expected.values():
        theirs = plain(re.sub(COUNTRIES, "", other))
        if _letters(ours) == _letters(theirs):
            return "written in one word or two, or with another accent"
        if ours.replace("primero de", "uno de") == theirs:
            return "the first of a month: ours is an ordinal, the oracle's a cardinal"
        if re.sub("cientas", "cientos", ours) == re.sub("cientas", "cientos", theirs):
            return "hundreds of thousands of feminine things: ours agree with them, the oracle's don't"
        if ours.replace("de la mañana", "") == theirs.replace("de la madrugada", ""):
            return 'early hours: ours are "de la mañana", the oracle\'s "de la madrugada"'
        if form.kind == "hour" and re.sub(" y | horas", " ", ours) == re.sub(" y | cero cero", " ", theirs):
            return 'whole and short hours: ours "las seis", the oracle\'s "las seis cero cero"'
        if form.kind == "decimal" and re.split("coma|punto", ours)[0] == re.split("coma|punto", theirs)[0]:
            return "two decimals: ours are read as a number, the oracle's digit by digit"
    return f"{form.kind}: said otherwise"


def plain(said: str) -> str:
    """Return a reading in lower case, without punctuation."""
    return " ".join(re.sub(r"[.,;:]", " ", said.lower()).split())


def _letters(said: str) -> str:
    return "".join(each for each in unicodedata.normalize("NFD", said) if each.isalpha())


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, encoding="utf-8").stdout


if __name__ == "__main__":
    main()
