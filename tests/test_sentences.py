"""Cutting long texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfpipe.sentences import split_text


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        ("Uno. Dos. Tres.", 20, ["Uno. Dos. Tres."]),
        ("Uno. Dos. Tres.", 10, ["Uno. Dos.", "Tres."]),
        ("Mide 3.5 m, no 4. Sí.", 15, ["Mide 3.5 m,", "no 4. Sí."]),
        ("Es él. El Sr. J. Gil va.", 16, ["Es él.", "El Sr. J. Gil", "va."]),
        ("¿Qué es? Dijo «no.» Y ya", 20, ["¿Qué es? Dijo «no.»", "Y ya"]),
        ("uno, dos, tres cuatro", 10, ["uno, dos,", "tres", "cuatro"]),
        ("supercalifragilístico", 10, ["supercalif", "ragilístic", "o"]),
        ("你好。我很好。再见。", 7, ["你好。我很好。", "再见。"]),
    ],
)
def test_cuts_at_the_best_places(text, limit, pieces):
    assert split_text(text, lambda part: len(part) <= limit) == pieces


@given(st.text(st.sampled_from("aá1 .,;\n?¿。")), st.integers(1, 12))
def test_cutting_loses_nothing(text, limit):
    pieces = split_text(text, lambda part: len(part) <= limit)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= limit for piece in pieces)
