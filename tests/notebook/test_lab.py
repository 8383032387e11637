"""The laboratory chooses models, times stages, retries voices and evaluates them."""

import json

import numpy as np
import pytest
import soundfile
from conftest import EXAMPLES
from own_parts import QUESTION, Whistle

import hfpipe
from finetune.data import read_rows
from hfpipe.cli.machine import MODELS
from hfpipe.notebook import laboratory as lab
from hfpipe.pipeline.audio import load_reference, write_wav

VOICE = EXAMPLES / "voz.wav"


class Choosy(Whistle):
    """A TTS model that only speaks Spanish, and needs a reference of more than ten seconds, as XTTS may."""

    languages = ("es",)

    def __init__(self, stubborn=False):
        super().__init__()
        self.stubborn, self.asked = stubborn, []

    def __call__(self, text, language, speaker_wav=None):
        if speaker_wav is not None:
            seconds = sum(len(each.array) / each.sampling_rate for each in speaker_wav)
            self.asked.append((language, seconds))
            if self.stubborn or seconds <= 10:
                raise RuntimeError("Kernel size can't be greater than actual input size")
        return super().__call__(text, language)


@pytest.fixture
def short_voice(tmp_path):
    """Return a reference recording of four seconds."""
    samples, rate = soundfile.read(VOICE, dtype="float32")
    write_wav(tmp_path / "short.wav", samples[: 4 * rate], rate)
    return tmp_path / "short.wav"


def test_named_models_pass_and_only_without_a_hub_auto_is_offline(monkeypatch):
    named = {"model": "openai/whisper-tiny", "llm": "google/flan-t5-base", "tts": "facebook/mms-tts-spa"}
    assert lab.choose_models(**named) == named
    monkeypatch.setattr(lab, "hub_reachable", lambda: True)
    chosen = lab.choose_models(llm="Qwen/Qwen2.5-0.5B-Instruct")
    assert chosen["llm"] == "Qwen/Qwen2.5-0.5B-Instruct" and chosen["tts"] == "coqui/XTTS-v2"


@pytest.mark.parametrize("gigabytes", [0, 6, 8, 12, 15.8, 80])
def test_what_auto_chooses_fits_into_the_gpu(gigabytes, monkeypatch):
    monkeypatch.setattr(lab, "hub_reachable", lambda: True)
    monkeypatch.setattr(lab.torch.cuda, "is_available", lambda: gigabytes > 0)
    monkeypatch.setattr(
        lab.torch.cuda, "get_device_properties", lambda _: type("T4", (), {"total_memory": gigabytes * 1e9})
    )
    chosen = lab.choose_models()
    parameters = sum(MODELS[argument][name] for argument, name in chosen.items())
    assert parameters * 1e6 * 2 * 1.3 < max(gigabytes, 4) * 1e9


@pytest.mark.offline
def test_offline_models_are_the_parts_of_the_offline_repo(monkeypatch):
    monkeypatch.setattr(lab, "hub_reachable", lambda: False)
    folder = hfpipe.offline_repo()
    assert lab.choose_models() == {"model": folder, "llm": f"{folder}/llm", "tts": f"{folder}/tts"}
    assert lab.choose_models("offline", "google/flan-t5-base", "offline")["llm"] == "google/flan-t5-base"


def test_a_stage_prints_its_seconds_and_keeps_them(capsys):
    seconds = {}
    with lab.stage("ASR", seconds):
        pass
    assert 0 <= seconds["ASR"] < 1
    assert capsys.readouterr().out == f"ASR: {seconds['ASR']:.2f} s\n"


def test_any_audio_becomes_16_khz_mono(tmp_path):
    stereo = {"array": np.zeros((2, 44_100), np.float32), "sampling_rate": 44_100}
    path = lab.ensure_16k_mono(stereo, tmp_path / "mono.wav")
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (16_000, 1, 16_000, "PCM_16")


@pytest.mark.parametrize("model, smaller", [
    ("openai/whisper-large-v3-turbo", "openai/whisper-medium"),
    ("openai/whisper-base", "openai/whisper-tiny"),
    ("openai/whisper-tiny", "openai/whisper-tiny"),
    ("runs/mine", "openai/whisper-small"),
])  # fmt: skip
def test_a_whisper_that_fails_names_a_smaller_one(model, smaller):
    with pytest.raises(RuntimeError, match=f"out of memory.*{smaller}"):
        with lab.suggest_smaller(model):
            raise MemoryError("out of memory")


def test_a_voice_that_refuses_is_asked_again_in_spanish_with_a_longer_reference(short_voice):
    voice = Choosy()
    with pytest.warns(UserWarning, match="4.0 s|Kernel size"):
        audio = lab.speak_with_retry(lambda **how: voice("Hola.", **how), short_voice, "en")
    assert len(audio)
    assert voice.asked == [("en", pytest.approx(4.0)), ("es", pytest.approx(12.0))]


@pytest.mark.filterwarnings("ignore:.*4.0 s:UserWarning", "ignore:the voice failed:UserWarning")
def test_a_voice_that_refuses_twice_says_why(short_voice):
    voice = Choosy(stubborn=True)
    with pytest.raises(RuntimeError, match="Kernel size"):
        lab.speak_with_retry(lambda **how: voice("Hola.", **how), short_voice)
    assert len(voice.asked) == 2


def test_a_long_reference_is_lengthened_too():
    reference = load_reference(VOICE)  # of over ten seconds already
    assert lab.lengthen(reference) == reference


@pytest.mark.slow
def test_the_whole_pipeline_gives_texts_paths_and_times(make, tmp_path):
    result = lab.asr_llm_tts_pipeline(QUESTION, VOICE, pipe=make(tts=Choosy()), folder=tmp_path)
    assert json.loads(json.dumps(result)) == result
    assert result["num_chars_in"] == len(result["text_transcript"]) > 0
    assert result["num_chars_out"] == len(result["llm_text"]) > 0
    stages = [result[f"{name}_time"] for name in ("asr", "llm", "tts_clone", "tts_base")]
    assert min(stages) >= 0 and sum(stages) <= result["total_time"]
    for name in ("clone", "base"):
        assert result[f"{name}_path"] == str(tmp_path / f"out_{name}.wav")
        assert soundfile.info(result[f"{name}_path"]).duration > 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*4.0 s:UserWarning")
def test_the_whole_pipeline_retries_its_voice_but_not_a_silent_question(make, short_voice, tmp_path):
    voice = Choosy()
    with pytest.warns(UserWarning, match="Trying again"):
        lab.asr_llm_tts_pipeline(QUESTION, short_voice, pipe=make(tts=voice), folder=tmp_path)
    assert voice.asked[-1][1] > 10
    with pytest.raises(ValueError, match="no speech"):
        lab.asr_llm_tts_pipeline(np.zeros(16_000, np.float32), VOICE, pipe=make(), folder=tmp_path)


@pytest.mark.offline
def test_voices_are_measured_against_the_reference_and_read_back():
    asr = hfpipe.load_asr(hfpipe.offline_repo())
    question, text = EXAMPLES / "pregunta.wav", "¿Cuál es la capital de Francia?"
    same, other = lab.measure_voices({"same": VOICE, "other": question}, text, VOICE, asr)
    assert same["similarity"] == pytest.approx(1.0, abs=1e-5) and same["wer"] > 100
    assert other["similarity"] < 0.9 and other["wer"] == 0 and "capital" in other["heard"]


def test_a_spoken_table_is_one_to_fine_tune_on(tmp_path):
    class Choir(Whistle):
        def __call__(self, text, language, speaker):
            return super().__call__(text, language) * speaker

    path = lab.speak_table(["Hola.", "¿Qué tal, Ana?", "Adiós."], Choir(), tmp_path / "new", speakers=[0.5, 1.0])
    rows = read_rows(path)
    assert [row.sentence for row in rows] == ["Hola.", "¿Qué tal, Ana?", "Adiós."]
    assert [row.speaker for row in rows] == ["0", "1", "0"]
    assert [round(float(soundfile.read(row.audio)[0].max()), 2) for row in rows] == [0.25, 0.5, 0.25]
