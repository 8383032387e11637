"""An unfinished answer is split into a first clause, then sentences, however its text is divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfpipe.pipeline.text_phrases import Phrases, join_sounds, pause_after, split_phrases

ANSWERS = [
    "La capital de Francia es París, y tiene más de dos millones de habitantes. ¿Quieres saber más? ¡Pregúntame!",
    "¡Hola! El Sr. Pérez vive en EE. UU. desde 1999: allí cuesta 1.500,50 dólares. Es el 3.º de la lista.",
    "Mira https://es.wikipedia.org/wiki/Francia, o «pregunta a tu profesora». Bien… creo que sí. Sí.",
]


@pytest.mark.parametrize("text, phrases", [
    ("La capital de Francia es París, y es muy grande. Tiene un río llamado Sena.",
     ["La capital de Francia es París,", "y es muy grande.", "Tiene un río llamado Sena."]),
    ("Sí, claro. Mañana a las 3:30 lloverá un poco.", ["Sí, claro. Mañana a las 3:30 lloverá un poco."]),
    ("El Sr. Pérez vive en EE. UU. desde hace años. Le gusta.", ["El Sr. Pérez vive en EE. UU. desde hace años.",
                                                                "Le gusta."]),
    ("Cuesta 1,5 euros la unidad de ese. ¿Te parece demasiado caro?",
     ["Cuesta 1,5 euros la unidad de ese.", "¿Te parece demasiado caro?"]),
    ("Primero di la frase completa. «Esto es una cita muy larga.» Y luego termina con calma.",
     ["Primero di la frase completa.", "«Esto es una cita muy larga.»", "Y luego termina con calma."]),
    ("Visita https://hfpipe.org/a,b:c y vuelve mañana.", ["Visita https://hfpipe.org/a,b:c y vuelve mañana."]),
    ("Compra esto en la tienda:\n- Dos tomates maduros\n- Una cebolla\n- Sal\n\nY vuelve.",
     ["Compra esto en la tienda:", "- Dos tomates maduros", "- Una cebolla\n- Sal", "Y vuelve."]),
    ("Sí.", ["Sí."]),
    ("  ", []),
])  # fmt: skip
def test_a_clause_and_then_sentences(text, phrases):
    assert split_phrases(text) == phrases


@given(st.sampled_from(ANSWERS) | st.text(alphabet="ab .,;:¿?¡!\n«»", max_size=80), st.data())
def test_phrases_depend_on_the_text_and_not_on_how_it_comes(text, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=20)))
    phrases = Phrases()
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    found = [phrase for part in parts for phrase in phrases.push(part)] + phrases.finish()
    assert found == split_phrases(text)
    assert " ".join(found).split() == text.split()  # nothing is lost or repeated
    assert all(phrase == phrase.strip() != "" and "  " not in phrase for phrase in found)


def test_a_phrase_comes_as_soon_as_the_word_behind_it_is_whole():
    phrases = Phrases()
    assert phrases.push("La capital de Francia es París, y") == []
    assert phrases.push(" es") == ["La capital de Francia es París,"]
    assert phrases.push(" grande, muy grande. Tiene") == []
    assert phrases.push(" un") == ["y es grande, muy grande."]
    assert phrases.push(" río.") == [] and phrases.finish() == ["Tiene un río."]


def test_pauses_are_longer_after_a_sentence():
    lengths = [
        len(pause_after(phrase, 1000)) for phrase in ("Es París,", "Es París.", "«¿Es París?»", "Es…", "- París")
    ]
    assert lengths == [100, 200, 200, 200, 200]
    assert len(join_sounds(["Uno,", "dos."], [pause_after(".", 1000)] * 2, 1000)) == 200 + 100 + 200


FENCED = (
    "Mira esto, por favor:\n```python\nfor i in range(3):\n    print(i, 2)  # hola. Adiós.\n\nx = 1\n```\nY así es."
)
FORMULA = "La solución general es esta:\n\\[\nx = \\frac{1}{2}. \n\\]\nListo, eso es todo."


@pytest.mark.parametrize("text, block", [(FENCED, "```python"), (FORMULA, "\\[")])
def test_a_code_block_or_formula_is_never_split(text, block):
    phrases = Phrases("es-MX")
    streamed = [phrase for letter in text for phrase in phrases.push(letter)] + phrases.finish()
    assert streamed == split_phrases(text, "es-MX")
    [whole] = [phrase for phrase in streamed if block in phrase]
    assert whole.rstrip().endswith(("```", "\\]")) or "\\]" in whole


def test_a_code_block_that_is_cut_off_stays_one_phrase():
    assert split_phrases("```\nuno, dos, tres, cuatro\ncinco. Seis") == ["```\nuno, dos, tres, cuatro\ncinco. Seis"]
