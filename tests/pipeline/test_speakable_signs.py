"""No sign of money or mathematics is dropped without a word, whichever Unicode or CLDR knows."""

import sys
import unicodedata

import pytest
from babel import Locale, UnknownLocaleError
from babel.numbers import get_currency_name, get_currency_symbol, get_territory_currencies, list_currencies
from hypothesis import given
from hypothesis import strategies as st

from hfpipe.pipeline.text_speakable import speakable

MONEY = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Sc"]
CELL = "|"  # in Markdown it separates the cells of a table, and is read as a pause
MATH = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Sm"]
MATH.remove(CELL)
TAGS = ["es", "es-MX", "es-ES", "en", "en-GB"]
CODES = sorted(list_currencies() - {"XXX"})  # ISO 4217's code for "no currency"


def words(text: str, language: str) -> set[str]:
    return set(speakable(text, language).replace(",", " ").split())


@pytest.mark.parametrize("language", TAGS)
@pytest.mark.parametrize(
    "template", ["{}", "vale {}", "a {} b", "5 {}", "{}5", "{} 5", "son 5{} hoy", "-5 {}", "5 {}/kg"]
)
def test_every_currency_sign_is_named(template, language):
    for sign in MONEY:
        named = words(template.format(sign), language) - words(template.format(" "), language)
        assert named - {"por", "per", "kilo", "menos", "minus"}, sign


@pytest.mark.slow
@pytest.mark.parametrize("language", ["es", "en"])
@pytest.mark.parametrize("template", ["{}", "a {} b", "a{}b", "5 {} 3", "x {}"])
def test_every_mathematical_sign_is_named(template, language):
    silent = {"{}": "+-<>", "a{}b": "", "x {}": ""}.get(template, "")  # alone, these are Markdown
    for sign in MATH:
        if sign not in silent:
            assert words(template.format(sign), language) - words(template.format(" "), language), (sign, template)


@pytest.mark.parametrize("language", ["es", "en"])
def test_every_currency_code_is_named_as_cldr_names_it(language):
    for code in CODES:
        noun = get_currency_name(code, 2, language)
        said = speakable(f"Son 5 {code}.", language)
        assert set(said.strip(".").split()) & set(noun.split()), (code, said)
        assert code not in said.split()


@pytest.mark.parametrize("language", ["es", "en"])
@pytest.mark.parametrize(
    "region", "MX AR CL CO PE VE UY PY BO EC SV US CR GT HN NI PA DO CU ES BR GB JP CH IN".split()
)
def test_the_symbol_of_each_region_is_read_in_that_region(region, language):
    code = get_territory_currencies(region)[0]
    try:
        symbol = get_currency_symbol(code, Locale(language, region))
    except UnknownLocaleError:
        symbol = get_currency_symbol(code, language)
    nouns = get_currency_name(code, 2, language).split()
    for amount in (f"{symbol}50", f"{symbol} 50", f"50 {symbol}"):
        if amount.endswith(symbol) and symbol in ("Q", "L") or amount.startswith("CUP"):
            continue  # more often a letter, and a word of English, than money
        said = speakable(amount, f"{language}-{region}").split()
        assert said[-1] in nouns or said[-2] in nouns, (amount, said)


@given(st.text(st.sampled_from("5 .,-–/$€%º°ª:x×^_²₂ⅠVXIkM\\(){}|<>=+~#a´'"), max_size=30), st.sampled_from(TAGS))
def test_whatever_is_typed_digits_and_signs_become_words(text, language):
    said = speakable(text, language)
    assert not any(unicodedata.category(each) in ("Nd", "Sc", "Sm") for each in said), said
    assert said == " ".join(said.split())
