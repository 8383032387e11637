"""Real speech through the real offline models: heard, answered, spoken, and read back by Whisper."""

import itertools
import re
import subprocess
import sys
import threading
import time
import unicodedata

import jiwer
import numpy as np
import pytest
from conftest import EXAMPLES
from huggingface_hub import ModelCard
from loopback_hub import LoopbackHub, child_environment, point_client_at
from transformers import pipeline

import hfpipe
from hfpipe.pipeline.asr_whisper import transcribe
from hfpipe.pipeline.audio import load_question, resample

pytestmark = pytest.mark.offline

QUESTIONS = [
    "¿Cuál es la capital de Italia?",
    "¿Cuántos días tiene una semana?",
    "¿De qué color es el cielo?",
    "¿Dónde está la torre Eiffel?",
    "¿De dónde viene la leche?",
    "¿En qué continente está Brasil?",
    "¿Qué idioma se habla en Portugal?",
    "¿Cuál es el planeta más grande?",
    "¿En qué país está la ciudad de Buenos Aires?",
    "¿Cuántas horas tiene un día?",
]
SPANISH = ("ef_dora", "em_alex", "em_santa")  # where npm's registry could be reached
BLENDS = [{"jm_kumo": 0.8, name: 0.2} for name in ("jf_gongitsune", "jf_nezumi")]


@pytest.fixture
def pipe(offline_pipe):
    return offline_pipe


@pytest.fixture(scope="module")
def questions(offline_pipe):
    """The questions as spoken in several voices: float32 waveforms at the voice's rate."""
    spanish = [name for name in SPANISH if name in offline_pipe.tts.speakers]
    voices = itertools.cycle([*spanish, *BLENDS] if spanish else ["jm_kumo", "jf_gongitsune"])
    return [
        offline_pipe.tts(question, language="es", speaker=voice)
        for question, voice in zip(QUESTIONS, voices, strict=False)
    ]


def words(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def without_accents(text: str) -> str:
    """Whisper base writes a question that it takes for a statement without them: "que", "cuantos"."""
    return "".join(letter for letter in unicodedata.normalize("NFD", words(text)) if not unicodedata.combining(letter))


def read_back(pipe, audio, rate: int) -> str:
    heard = pipe.asr(resample(audio, rate, 16_000), generate_kwargs={"task": "transcribe", "language": "es"})
    return words(heard["text"])


def test_the_example_is_heard_answered_and_spoken(pipe, voice):
    result = pipe(str(EXAMPLES / "pregunta.wav"), speaker_wav=voice, compare=True)
    assert words(result["question"]) == words("¿Cuál es la capital de Francia?")
    assert "París" in result["answer"]
    assert result["cloned"] is False
    for key in ("audio", "audio_base"):
        assert jiwer.wer(words(result["answer"]), read_back(pipe, result[key], result["sampling_rate"])) <= 0.2


def test_ten_questions_in_several_voices_go_through_whole(pipe, questions):
    spoken = [{"array": audio, "sampling_rate": pipe.tts.sampling_rate} for audio in questions]
    results = pipe(spoken, batch_size=2)
    heard = [without_accents(result["question"]) for result in results]
    assert jiwer.wer([without_accents(question) for question in QUESTIONS], heard) <= 0.1
    answers = [words(result["answer"]) for result in results]
    assert all(answers)
    backs = [read_back(pipe, result["audio"], result["sampling_rate"]) for result in results]
    assert jiwer.wer(answers, backs) <= 0.2


def test_the_language_of_a_question_is_detected(pipe):
    result = pipe(str(EXAMPLES / "pregunta.wav"), language=None)
    assert result["language"] == "es" and "París" in result["answer"]


def test_two_questions_into_a_microphone_are_answered_and_a_third_interrupts(pipe, spoken):
    samples, rate = spoken
    events, playing = [], threading.Event()

    def microphone():
        step, pause = rate // 50, np.zeros(rate, np.float32)  # chunks of 20 ms
        for number in range(3):
            for sound in (samples, pause):
                yield from (sound[start : start + step] for start in range(0, len(sound), step))
            assert playing.wait(60)
            playing.clear()
            answer = events[-1].result["audio"]
            time.sleep(0.3 if number == 1 else len(answer) / pipe.tts.sampling_rate)  # the third comes too early

    chat = pipe.conversation()
    for event in chat.listen(microphone(), sampling_rate=rate):
        events.append(event)
        if event.type == "done":
            playing.set()
    results = [event.result for event in events if event.type == "done"]
    assert [words(result["question"]) for result in results] == [words("¿Cuál es la capital de Francia?")] * 3
    assert "París" in results[0]["answer"]
    said = [event.said for event in events if event.type == "turn_began"]
    assert said[:2] == [None, None] and results[1]["answer"].startswith(said[2]) and said[2] != results[1]["answer"]
    answers = [turn["content"] for turn in chat.history if turn["role"] == "assistant"]
    assert answers == [results[0]["answer"], said[2] + "…", results[2]["answer"]]


def test_a_question_over_half_a_minute_is_heard_to_its_end(pipe, questions):
    rate = pipe.tts.sampling_rate
    long = np.concatenate([part for audio in questions * 3 for part in (audio, np.zeros(rate // 4, np.float32))])
    assert len(long) / rate > 35
    heard = transcribe(pipe.asr, [resample(long, rate, 16_000)], "es")[0][0]
    assert jiwer.wer(without_accents(" ".join(QUESTIONS * 3)), without_accents(heard)) <= 0.15


def test_it_is_an_ordinary_whisper_repo(pipe):
    asr = pipeline("automatic-speech-recognition", model=hfpipe.offline_repo())
    samples = load_question(EXAMPLES / "pregunta.wav")
    heard = asr(samples, generate_kwargs={"task": "transcribe", "language": "es"}, return_timestamps=True)
    assert words(heard["text"]) == words("¿Cuál es la capital de Francia?")
    assert heard["chunks"][0]["timestamp"][0] == 0.0


def test_pushed_it_speaks_the_same_where_hfpipe_is_not_installed(pipe, tmp_path):
    """The card's own example, with the repo's id, in a fresh interpreter that can't import hfpipe: bit for bit."""
    with LoopbackHub(tokens={"hf_ana": "ana"}) as hub, point_client_at(hub.url, tmp_path / "home"):
        pipe.push_to_hub("ana/voz", token="hf_ana", private=True)
        card = ModelCard(hub.repos["ana/voz"].find("main").files["README.md"].decode())
        assert card.data.license == "gemma" and "openai/whisper-base" in card.data.base_model
        example = card.text.split("```python\n")[1].split("```")[0]
        code = (
            f"import sys\nsys.modules['hfpipe'] = None\n{example}\nimport numpy\nnumpy.save('audio', result['audio'])"
        )
        command, where = [sys.executable, "-c", code], {"capture_output": True, "text": True, "cwd": tmp_path}
        refused = subprocess.run(command, env=child_environment(hub.url, tmp_path / "stranger"), **where)
        assert refused.returncode and "ana/voz" in refused.stderr and "token" in refused.stderr
        done = subprocess.run(command, env=child_environment(hub.url, tmp_path / "friend", "hf_ana"), **where)
    assert done.returncode == 0, done.stderr
    question = pipe.tts("¿Cuál es la capital de Francia?", language="es")
    expected = pipe({"array": question, "sampling_rate": pipe.tts.sampling_rate}, language="es")
    assert f"{expected['question']} → {expected['answer']}" in done.stdout
    np.testing.assert_array_equal(np.load(tmp_path / "audio.npy"), expected["audio"])
