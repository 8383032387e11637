"""Timings and recordings are plotted, and recordings and streams played, in a notebook."""

import io
import re
import sys

import numpy as np
import pytest
import soundfile
from conftest import EXAMPLES
from matplotlib import image
from own_parts import ANSWER, PHRASES, QUESTION

from hfpipe.notebook import playback
from hfpipe.notebook.plots import plot_times, plot_voices, table

VOICES = {"clonada": EXAMPLES / "voz.wav", "base <1>": EXAMPLES / "pregunta.wav"}


def pixels(picture) -> np.ndarray:
    return image.imread(io.BytesIO(picture.data))


def test_a_longer_stage_has_a_longer_bar():
    def coloured(picture):
        shown = pixels(picture)[..., :3]
        return int((np.ptp(shown, axis=-1) > 0.3).sum())

    assert coloured(plot_times({"asr": 1.0, "llm": 4.0})) > 1.2 * coloured(plot_times({"asr": 0.1, "llm": 4.0}))


@pytest.mark.slow
def test_voices_are_drawn_side_by_side():
    one, two = plot_voices({"clonada": EXAMPLES / "voz.wav"}), plot_voices(VOICES)
    assert pixels(two).shape[1] == 2 * pixels(one).shape[1]
    assert len(two.data) < 200_000


def test_drawing_leaves_the_notebooks_backend_alone():
    plot_times({"asr": 1.0})
    assert "matplotlib.pyplot" not in sys.modules or sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_each_recording_gets_a_player_under_its_escaped_name():
    page = playback.players(VOICES).data
    assert re.findall(r"<b>(.*?)</b>", page) == ["clonada", "base &lt;1&gt;"]
    assert page.count("<audio") == 2 and page.count("data:audio/wav;base64,") == 2


def test_an_answer_is_played_piece_after_piece(make, monkeypatch, capsys):
    shown, slept = [], []
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setattr(playback.time, "sleep", slept.append)
    result = playback.play(make().stream(QUESTION))
    assert result["answer"] == ANSWER
    assert capsys.readouterr().out.splitlines() == [f"— {result['question']}", *(f"  {each}" for each in PHRASES)]
    assert len(shown) == len(PHRASES)
    played = sum(soundfile.info(io.BytesIO(each.data)).duration for each in shown)
    assert 0 < slept[-1] <= played


def test_a_table_has_a_line_for_each_row_and_keeps_its_columns():
    rows = [{"etapa": "a|b\nc", "s": 1.234, "n": 3}, {"etapa": "d", "s": 2.0, "n": 4}]
    lines = table(rows).data.splitlines()
    assert lines == ["| etapa | s | n |", "| --- | --: | --: |", r"| a\|b c | 1.23 | 3 |", "| d | 2.00 | 4 |"]
    with pytest.raises(ValueError, match="no rows"):
        table([])
