"""Spanish text is normalized to the words that are said, and "año" stays "año"."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import finetune
from finetune.normalize import normalize_spanish, normalizer, strip_accents
from hfpipe.pipeline.text_speakable import speakable

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
    # gender, which digits don't have
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
def test_written_forms_become_words(written, said):
    assert normalize_spanish(written) == said


def test_accents_can_be_ignored_but_never_the_tilde_of_an_n():
    assert normalize_spanish("Está el año, pingüino: canción", accents=False) == "esta el año pinguino cancion"
    assert strip_accents("áéíóúüñÑ") == "aeiouuñÑ"


@given(st.text(max_size=60))
def test_normalization_is_idempotent_and_leaves_no_punctuation(text):
    once = normalize_spanish(text)
    assert once == normalize_spanish(once)
    assert once == " ".join(once.split())
    assert not any(character.isdecimal() or character in ".,;:!?¿¡€$%" for character in once)


@given(st.integers(0, 999_999_999))
def test_a_number_is_the_same_words_however_its_thousands_are_grouped(number):
    plain = normalize_spanish(str(number))
    assert normalize_spanish(f"{number:,}".replace(",", ".")) == plain
    assert normalize_spanish(f"{number:,}".replace(",", "\u202f")) == plain
    assert normalize_spanish(plain) == plain


def test_other_languages_use_whispers_normalizers():
    assert normalizer("en")("It's twenty-five, Mr. Smith!") == "it is 25 mister smith"
    assert normalizer("fr")("Ça va ?") == "ça va "
    assert normalizer("es") is normalize_spanish


@pytest.mark.parametrize("text", [
    "El Sr. Ruiz y la Sra. Paz", "Uds. pueden venir", "Ud. puede venir", "la Dra. Gil, de EE. UU.", "la pág. 5",
    "peras, uvas, etc.", "un p. ej. corto", "el núm. 3", "tel. 5512345678",
])  # fmt: skip
def test_abbreviations_are_read_as_the_voice_reads_them(text):
    assert normalize_spanish(speakable(text)) == normalize_spanish(text)


def test_the_public_function_is_not_hidden_by_its_module():
    assert finetune.normalize_spanish("1.500 €") == "mil quinientos euros"
