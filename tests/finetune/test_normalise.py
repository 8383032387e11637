"""Spanish is normalised to what is said, and "año" stays "año"."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.normalise import normalise, normaliser, strip_accents

TABLE = [
    # letters and punctuation
    ("¿Qué AÑO? ¡Pingüino!", "qué año pingüino"),
    ("man\u0303ana", "mañana"),  # a decomposed ñ
    ("franco-alemán, S.A.", "franco alemán s a"),
    ("[ruido] hola <unk>", "hola"),
    ("sube & baja", "sube y baja"),
    # whole numbers
    ("0", "cero"),
    ("marque 1 para", "marque uno para"),
    ("en 1999", "en mil novecientos noventa y nueve"),
    ("1.500", "mil quinientos"),
    ("1,500", "mil quinientos"),  # as Mexico groups thousands
    ("1 500 personas", "mil quinientos personas"),
    ("12.345.678", "doce millones trescientos cuarenta y cinco mil seiscientos setenta y ocho"),
    ("-4 grados", "menos cuatro grados"),
    ("007", "cero cero siete"),
    ("5512345678", "cinco cinco uno dos tres cuatro cinco seis siete ocho"),
    ("covid19", "covid diecinueve"),
    # gender, which digits don't show
    ("veintiún años", "veintiuno años"),
    ("21 años", "veintiuno años"),
    ("treinta y una casas", "treinta y uno casas"),
    ("doscientas personas", "doscientos personas"),
    ("200 personas", "doscientos personas"),
    ("un gato y una gata", "un gato y una gata"),
    # decimals
    ("3,5", "tres coma cinco"),
    ("3,14", "tres coma catorce"),
    ("3,05", "tres coma cero cinco"),
    ("3,1416", "tres coma uno cuatro uno seis"),
    ("3.5", "tres punto cinco"),
    ("1.500,5", "mil quinientos coma cinco"),
    ("1,500.5", "mil quinientos punto cinco"),
    ("10,5 %", "diez coma cinco por ciento"),
    ("50%", "cincuenta por ciento"),
    # ordinals
    ("1º", "primero"),
    ("2.ª fila", "segunda fila"),
    ("3er piso", "tercer piso"),
    ("4ta", "cuarta"),
    ("11º", "undécimo"),
    ("21ª", "vigésima primera"),
    ("siglo XXI", "siglo veintiuno"),
    ("n.º 5", "número cinco"),
    # money
    ("1.500 €", "mil quinientos euros"),
    ("1 €", "un euro"),
    ("€20", "veinte euros"),
    ("3,50 €", "tres euros con cincuenta céntimos"),
    ("$1,200.00", "mil doscientos dólares"),
    ("US$ 5", "cinco dólares"),
    ("MX$100", "cien pesos"),
    ("1.000.000 €", "un millón de euros"),
    ("2 000 000 £", "dos millones de libras"),
    # measures, times, abbreviations
    ("25 °C", "veinticinco grados celsius"),
    ("20°", "veinte grados"),
    ("100 km/h", "cien kilómetros por hora"),
    ("1 km", "un kilómetro"),
    ("a las 3:30", "a las tres treinta"),
    ("15:00 h", "quince"),
    ("el Sr. López y la Dra. Paz", "el señor lópez y la doctora paz"),
    ("5 a. m.", "cinco am"),
]


@pytest.mark.parametrize("written, said", TABLE)
def test_the_table(written, said):
    assert normalise(written) == said


def test_accents_can_be_forgiven_but_never_the_tilde_of_an_n():
    assert normalise("Está el año, pingüino: canción", accents=False) == "esta el año pinguino cancion"
    assert strip_accents("áéíóúüñÑ") == "aeiouuñÑ"


@given(st.text(max_size=60))
def test_any_text_becomes_words_and_stays_as_it_is(text):
    once = normalise(text)
    assert once == normalise(once)
    assert once == " ".join(once.split())
    assert not any(character.isdecimal() or character in ".,;:!?¿¡€$%" for character in once)


@given(st.integers(0, 999_999_999))
def test_a_number_is_the_same_words_however_its_thousands_are_grouped(number):
    plain = normalise(str(number))
    assert normalise(f"{number:,}".replace(",", ".")) == plain
    assert normalise(f"{number:,}".replace(",", "\u202f")) == plain
    assert normalise(plain) == plain


def test_other_languages_have_whispers_own():
    assert normaliser("en")("It's twenty-five, Mr. Smith!") == "it is 25 mister smith"
    assert normaliser("fr")("Ça va ?") == "ça va "
    assert normaliser("es") is normalise
