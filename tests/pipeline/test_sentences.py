"""Text is split into sentences as in Spanish, and into chunks at the best boundaries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfpipe.pipeline.text_sentences import cut_at_sentence, split_sentences, split_text


@pytest.mark.parametrize("text, sentences", [
    ("El Sr. Pérez vive en EE. UU. desde 1999. ¿Sí? ¡Claro!",
     ["El Sr. Pérez vive en EE. UU. desde 1999.", "¿Sí?", "¡Claro!"]),
    ("Llegó a las 3 p. m. y se fue. Es el 3.º de la lista.",
     ["Llegó a las 3 p. m. y se fue.", "Es el 3.º de la lista."]),
    ("Mide 3.5 m y cuesta 1.500 pesos. Fin.", ["Mide 3.5 m y cuesta 1.500 pesos.", "Fin."]),
    ("«¿De veras?», dijo la Dra. Gómez. Bien... creo que sí.",
     ["«¿De veras?», dijo la Dra. Gómez.", "Bien... creo que sí."]),
    ("Hola", ["Hola"]),
    ("  Dos   espacios.\nOtra línea. ", ["Dos espacios.", "Otra línea."]),
    ("Lista:\n- uno\n- dos y tres\n\nfin", ["Lista:", "- uno", "- dos y tres", "fin"]),
    ("", []),
])  # fmt: skip
def test_splits_spanish(text, sentences):
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("text, cut", [
    ("París es la capital. Tiene muchos mus", "París es la capital."),
    ("París es la capital. ¿Quieres saber m", "París es la capital."),
    ("La capital de Francia es Par", "La capital de Francia es…"),
    ("Tiene, por ejemplo, mus", "Tiene, por ejemplo…"),
    ("París es la capital.", "París es la capital."),
    ("Dijo: «Sí.»", "Dijo: «Sí.»"),
    ("Una. Dos. Tres", "Una. Dos."),
    ("Par", "Par…"),
    ("", ""),
])  # fmt: skip
def test_cuts_at_a_sentence_end_never_mid_word(text, cut):
    assert cut_at_sentence(text) == cut


@given(st.text(alphabet=st.sampled_from("abAB .,¿?¡!…«»\n15"), max_size=80))
def test_splitting_loses_nothing_but_white_space(text):
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


@given(st.text(alphabet=st.sampled_from("abAB .,¿?¡!…«»\n15"), max_size=80))
def test_a_cut_is_the_beginning_of_the_text(text):
    cut = cut_at_sentence(text).removesuffix("…").rstrip()
    assert " ".join(text.split()).startswith(" ".join(cut.split()))


@pytest.mark.parametrize("text, limit, pieces", [
    ("Uno. Dos. Tres.", 20, ["Uno. Dos. Tres."]),
    ("Uno. Dos. Tres.", 10, ["Uno. Dos.", "Tres."]),
    ("Vino el Sr. Paz. Y ya.", 16, ["Vino el Sr. Paz.", "Y ya."]),
    ("Es él. El Sr. J. Gil va.", 18, ["Es él.", "El Sr. J. Gil va."]),
    ("Mide 3.5 m, no 4. Sí.", 17, ["Mide 3.5 m, no 4.", "Sí."]),
    ("¿Qué es? Dijo «no.» Y ya", 20, ["¿Qué es? Dijo «no.»", "Y ya"]),
    ("uno, dos, tres cuatro", 10, ["uno, dos,", "tres", "cuatro"]),
    ("supercalifragilístico", 10, ["supercalif", "ragilístic", "o"]),
    ("你好。我很好。再见。", 7, ["你好。我很好。", "再见。"]),
])  # fmt: skip
def test_a_long_text_is_cut_at_the_best_places(text, limit, pieces):
    assert split_text(text, lambda part: len(part) <= limit) == pieces


@given(st.text(st.sampled_from("aá1 .,;\n?¿。")), st.integers(1, 12))
def test_cutting_a_long_text_loses_nothing(text, limit):
    pieces = split_text(text, lambda part: len(part) <= limit)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= limit for piece in pieces)
