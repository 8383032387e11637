"""Mexican names are respelled for a voice that reads "x" as /ks/; all other words stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfpipe.pipeline.text_names import RESPELLED, respell


@pytest.mark.parametrize("written, said", [
    ("Oaxaca, Xalapa y Texcoco", "Oajaca, Jalapa y Tescoco"),
    ("México es mexicano; ¡MÉXICO!", "Méjico es mejicano; ¡MÉJICO!"),
    ("De Xochimilco a Taxco y Tlaxcala.", "De Sochimilco a Tasco y Tlascala."),
    ("la oaxaqueña y el xoloitzcuintle", "la oajaqueña y el sholoitzcuintle"),
    ("Xola y Uxmal, con Ximena", "Shola y Ushmal, con Jimena"),
    ("El examen exacto de Félix: taxi, xilófono, éxito y Oaxacax.",
     "El examen exacto de Félix: taxi, xilófono, éxito y Oaxacax."),
    ("", ""),
])  # fmt: skip
@pytest.mark.parametrize("language", ["es", "es-MX", "es-419", "es-ES"])
def test_known_names_are_said_as_in_mexico(written, said, language):
    assert respell(written, language) == said


def test_other_languages_keep_their_letters():
    assert respell("Mexico, Texas and Oaxaca", "en-US") == "Mexico, Texas and Oaxaca"


def test_every_name_of_the_list_loses_its_x():
    assert not any("x" in said for said in RESPELLED.values()) and len(RESPELLED) > 90


@given(st.text())
def test_respelling_twice_is_respelling_once(text):
    assert respell(respell(text)) == respell(text)
