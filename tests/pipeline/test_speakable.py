"""Text is normalized to what a Spanish reader would say: no digits, symbols, Markdown or emoji."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_parts import QUESTION, Talker, Whistle

from hfpipe.pipeline.text_speakable import speakable

SPANISH = [
    # numbers, and the nouns that they agree with
    ("Tengo 21 años, 200 amigas, 1 hermana y 31 días.",
     "Tengo veintiún años, doscientas amigas, una hermana y treinta y un días."),
    ("Son 200 mil personas y 21 problemas.", "Son doscientas mil personas y veintiún problemas."),
    ("marque 1 para ventas", "marque uno para ventas"),
    ("0,5 y 3,14 y 2.5", "cero coma cinco y tres coma catorce y dos punto cinco"),
    ("1.500, 1,500 y 1 500", "mil quinientos, mil quinientos y mil quinientos"),
    ("1.000.000 de personas", "un millón de personas"),
    ("Python 3.11.7", "Python tres punto once punto siete"),
    ("covid19 y 4K", "covid diecinueve y cuatro K"),
    ("007", "cero cero siete"),
    ("de 10-12 y -4", "de diez a doce y menos cuatro"),
    ("(1/2 kg), 1/2 taza, 1/2 litro, 3/4 litro y ¼",
     "(medio kilogramo), media taza, medio litro, tres cuartos de litro y un cuarto"),
    # ordinals and Roman numerals
    ("Es el 3.º de la 2.ª fila, 1er piso", "Es el tercero de la segunda fila, primer piso"),
    ("siglo XXI, Felipe VI, Luis XIV, Isabel II, Apolo XI, Malcolm X",
     "siglo veintiuno, Felipe sexto, Luis catorce, Isabel segunda, Apolo once, Malcolm X"),
    # dates and hours
    ("El 24/11/2026 o 2026-11-24.",
     "El veinticuatro de noviembre de dos mil veintiséis o veinticuatro de noviembre de dos mil veintiséis."),
    ("El 1 de enero de 1999.", "El primero de enero de mil novecientos noventa y nueve."),
    ("A las 3:30 p. m.", "A las tres y media de la tarde."),
    ("a la 1:15, las 15:00 h, las 21:10 y las 8 a. m. en casa",
     "a la una y cuarto, las quince horas, las veintiuna diez y las ocho de la mañana en casa"),
    ("a las 12 p. m. en punto", "a las doce del mediodía en punto"),
    # money, units, percentages
    ("Cuesta 1.500 € y 3,50 €.", "Cuesta mil quinientos euros y tres euros con cincuenta céntimos."),
    ("$5 millones, US$ 2,50, MX$100, 20 USD y 21 £",
     "cinco millones de dólares, dos dólares con cincuenta centavos, cien pesos, veinte dólares y veintiuna libras"),
    ("1.000.000 €", "un millón de euros"),
    ("120 km/h, 5 km, 3 m², 20 °C, 16 GB",
     "ciento veinte kilómetros por hora, cinco kilómetros, tres metros cuadrados, veinte grados Celsius, "
     "dieciséis gigabytes"),
    ("50 % de 50 mg/día", "cincuenta por ciento de cincuenta miligramos por día"),
    # signs, addresses, telephones, abbreviations
    ("2 + 2 = 4 y 3 × 5", "dos más dos igual a cuatro y tres por cinco"),
    ("x² ≥ 10 & A", "x al cuadrado mayor o igual que diez y A"),
    ("n.º 5, #1 y #hola", "número cinco, número uno y hola"),
    ("Ve a https://es.wikipedia.org/wiki/Francia, o a ana_b@ejemplo.com.",
     "Ve a es punto wikipedia punto org barra wiki barra Francia, o a ana guion bajo b arroba ejemplo punto com."),
    ("Llama al 55 1234 5678.", "Llama al cinco cinco, uno dos tres cuatro, cinco seis siete ocho."),
    ("El Sr. Pérez de EE. UU., p. ej., etc.", "El señor Pérez de Estados Unidos, por ejemplo, etcétera."),
    ("Ud. puede venir, y Uds. pueden venir.", "usted puede venir, y ustedes pueden venir."),
    ("Uds. pueden venir.", "ustedes pueden venir."),
    ("24/7 y/o C++", "veinticuatro horas al día y o C más más"),
    # Markdown
    ("1. **Lava** la [fruta](https://a.b/c) con `agua`", "uno. Lava la fruta con agua"),
    ("# Título", "Título"),
    ("- 5 grados", "cinco grados"),
    ("- uno\n- dos\n- tres", "uno, dos, tres"),
    ("**Uno, dos", "Uno, dos"),
    ("tres** y *cuatro*", "tres y cuatro"),
    ("| a | b |", "a, b"),
    ("|---|---|", ""),
    ("```python", ""),
    ("> «cita» ![foto](a.png)", "«cita» foto"),
    # emoji
    ("Necesitas 🍅 y 🧅.", "Necesitas tomate y cebolla."),
    ("¡Claro! 😊 ¿Vamos? 👍🏽", "¡Claro! ¿Vamos?"),
    ("🍎 Manzana", "Manzana"),
    ("❤️", ""),
    # what stays
    ("¿Qué? ¡Sí! «cita» (nota): guion… \"x\"", "¿Qué? ¡Sí! «cita» (nota): guion… \"x\""),
]  # fmt: skip

ENGLISH = [
    ("It costs $1,200.50 or €20.", "It costs one thousand two hundred dollars and fifty cents or twenty euros."),
    ("In 1984 and the 1990s.", "In nineteen eighty-four and the nineteen nineties."),
    ("11/24/2026, May 3, the 21st", "November twenty-fourth, twenty twenty-six, May third, the twenty-first"),
    ("At 3:30 pm, 3:05, 3:00", "At three thirty p.m., three oh five, three o'clock"),
    ("5 km at 70 mph, 50%", "five kilometers at seventy miles per hour, fifty percent"),
    ("Mr. Smith, e.g., 3.14 & 3 < 5", "Mister Smith, for example, three point one four and three less than five"),
    ("1/2 and 3/4, $5 million", "one half and three quarters, five million dollars"),
]


@pytest.mark.parametrize("written, said", SPANISH)
def test_the_spanish_table(written, said):
    assert speakable(written) == said


@pytest.mark.parametrize("written, said", ENGLISH)
def test_the_english_table(written, said):
    assert speakable(written, "en") == said


def test_in_other_languages_numbers_are_left_to_the_voice():
    assert speakable("**Bonjour** 😊 il coûte 1 500 €.", "fr") == "Bonjour il coûte 1 500 €."
    assert speakable("你好，我有 3 本书。", "zh") == "你好，我有 3 本书。"


WRITTEN = st.text(st.sampled_from("aZé 015.,:;/-€$%º+*#_|`[](){}<>~@&½²🍅😊\n¿?¡!"), max_size=40) | st.text(
    max_size=40
)


@pytest.mark.slow
@given(WRITTEN | st.text(max_size=40), st.sampled_from(["es", "en"]))
def test_nothing_is_left_that_cannot_be_said(text, language):
    said = speakable(text, language)
    assert not any(character.isdecimal() for character in said)
    assert not any(unicodedata.category(character)[0] in "SC" for character in said)
    assert said == " ".join(said.split())


@given(st.integers(0, 10**9 - 1))
def test_a_number_is_said_alike_however_its_thousands_are_grouped(number):
    plain = speakable(f"vale {number}")
    assert speakable(f"vale {number:,}") == speakable(f"vale {number:,}".replace(",", ".")) == plain


def test_the_voice_gets_words_and_the_answer_keeps_its_signs(make):
    answer = "Son **3** pasos y te los digo ya:\n1. Compra 🍅 y 2 kg de sal.\n\n😊😊😊\n\n2. Vuelve a casa a las 3:30."
    said = ["Son tres pasos y te los digo ya:", "uno. Compra tomate y dos kilogramos de sal.",
            "dos. Vuelve a casa a las tres y media."]  # fmt: skip
    pipe = make(Talker(answer), Whistle())
    result = pipe(QUESTION)
    *_, done = pipe.stream(QUESTION)
    assert result["answer"] == done.result["answer"] == answer
    assert pipe.tts.said == said + said
    assert np.array_equal(result["audio"], done.result["audio"])


def test_an_answer_without_words_is_silent_and_no_error(make):
    pipe = make(Talker("😊👍"), Whistle())
    assert len(pipe(QUESTION)["audio"]) == 0 and pipe.tts.said == []
    *_, done = pipe.stream(QUESTION)
    assert done.result["answer"] == "😊👍" and len(done.result["audio"]) == 0
