"""Errors are counted as in hand-made examples, and small improvements are not significant."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data import Row
from finetune.score import Counts, confidence_interval, count_characters, count_words, improvement, score, total


def rows(*sentences, **extra):
    return [Row(f"{i}.wav", s, i, {k: v[i] for k, v in extra.items()}) for i, s in enumerate(sentences)]


@pytest.mark.parametrize("said, heard, expected", [
    ("la casa azul", "la casa azul", (0, 0, 0, 3)),
    ("la casa azul", "la cosa azul", (1, 0, 0, 3)),
    ("la casa azul", "casa azul", (0, 1, 0, 3)),
    ("la casa azul", "y la casa azul", (0, 0, 1, 3)),
    ("hola", "", (0, 1, 0, 1)),
    ("", "hola amigo", (0, 0, 2, 0)),
    ("", "", (0, 0, 0, 0)),
])  # fmt: skip
def test_words_are_counted(said, heard, expected):
    assert count_words(said, heard) == Counts(*expected)


def test_characters_are_counted():
    assert count_characters("año", "ano") == Counts(1, 0, 0, 3)
    assert count_characters("", "ab").insertions == 2


def test_the_rate_is_of_all_words_and_not_a_mean_of_rates():
    counts = [count_words("uno dos tres cuatro", "uno dos tres cuatro"), count_words("uno", "dos")]
    assert total(counts).rate == 20
    assert Counts(0, 0, 3, 0).rate == 100


def test_a_score_has_every_measure_of_the_report():
    said = rows("Tengo 20 años.", "Está aquí", "Adiós", "Hola", country=["MX", "MX", "CL", "CL"])
    found = score(said, ["tengo veinte años", "esta aqui", "adiós", "ola"], "es")
    assert found["words"] == 7 and found["substitutions"] == 3
    assert found["wer"] == pytest.approx(300 / 7) and found["wer_without_accents"] == pytest.approx(100 / 7)
    assert found["wer_raw"] > found["wer"] and 0 < found["cer"] < found["cer_raw"]
    assert found["by"] == {
        "country": {
            "CL": {"wer": 50.0, "utterances": 2, "words": 2},
            "MX": {"wer": 40.0, "utterances": 2, "words": 5},
        }
    }
    assert [worst["audio"] for worst in found["worst"]] == ["1.wav", "3.wav"]
    low, high = found["wer_interval"]
    assert low <= found["wer"] <= high
    assert "wer_without_accents" not in score(said, ["a"] * 4, "fr")


def test_one_lucky_utterance_is_not_an_improvement():
    before = [count_words("uno dos tres", "uno dos cuatro" if i % 3 else "uno dos tres") for i in range(30)]
    after = list(before)
    after[1] = count_words("uno dos tres", "uno dos tres")
    assert improvement(before, after)["verdict"] == "no better"
    assert improvement(before, before)["points"] == 0
    perfect = [count_words("uno dos tres", "uno dos tres")] * 30
    assert improvement(before, perfect)["verdict"] == "better"
    assert improvement(perfect, before)["verdict"] == "worse"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 10)), min_size=1, max_size=30))
def test_the_interval_is_deterministic_and_within_the_rates_of_the_utterances(pairs):
    counts = [Counts(min(errors, length), 0, 0, length) for errors, length in pairs]
    low, high = confidence_interval(counts)
    assert 0 <= low <= high <= 100
    assert confidence_interval(counts) == (low, high)
    rates = [count.rate for count in counts]
    assert min(rates) - 1e-9 <= low and high <= max(rates) + 1e-9
