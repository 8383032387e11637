"""The demo in a real browser: asked, stopped and left by visitors who don't hear of each other."""

import contextlib
import threading
from pathlib import Path

import numpy as np
import pytest
from chromium import ALLOWED, MICROPHONE, Chromium, needs_chromium
from conftest import EXAMPLES
from demo_visitor import Visitor
from own_parts import ANSWER, PHRASES, QUESTION, Talker, Whistle, wait_until

import hfpipe
from hfpipe.pipeline import space_demo
from hfpipe.pipeline.space_demo import WORDS

pytestmark = [pytest.mark.slow, needs_chromium]
VOICE = str(EXAMPLES / "voz.wav")
CONSENT, COMPARE = "La persona que habla", "Comparar con la voz propia"


class Flute(Whistle):
    """A whistle at a rate that browsers play; one octave higher in a voice that is asked for."""

    sampling_rate = 8000

    def __call__(self, text, language, speaker_wav=None):
        return super().__call__(text, language) / (2 if speaker_wav else 1)


class Note(Talker):
    """A talker that notes the history of each question."""

    def __init__(self):
        super().__init__()
        self.histories = []

    def __call__(self, question, language, on_text=None, history=None):
        self.histories.append(history)
        return super().__call__(question, language, on_text)


@pytest.fixture(scope="module")
def chromium():
    browser = Chromium(MICROPHONE, ALLOWED, f"--use-file-for-fake-audio-capture={QUESTION}")
    yield browser
    browser.close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where Gradio keeps what visitors upload."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    return tmp_path / "gradio"


@pytest.fixture
def visit(chromium, folder, no_thread_is_left):
    """Opens the demo of a pipeline in a browser; the first visit starts it."""
    with contextlib.ExitStack() as opened:
        urls = []

        def visit(pipe, locale="es-ES", **options):
            if not urls:
                app = hfpipe.demo(pipe, **options)
                urls.append(app.launch(prevent_thread_lock=True, quiet=True)[1])
                opened.callback(app.close)
            visitor = Visitor(chromium, urls[0], locale)
            opened.callback(visitor.leave)
            return visitor

        yield visit
    assert not files_in(folder), "nothing of a visitor is left when the server ends"


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def ask(visitor):
    visitor.upload(QUESTION, "Tu pregunta")
    visitor.press("Preguntar")


def test_it_answers_and_keeps_the_conversation(make, visit):
    llm = Note()
    visitor = visit(make(llm, Flute()))
    ask(visitor)
    assert visitor.has_turns(2)
    heard, said = visitor.texts()
    assert heard and said == ANSWER
    assert [loudest for _, loudest in visitor.played] == pytest.approx([0.5] * len(PHRASES), abs=1e-3)
    [(name, (samples, rate))] = visitor.voices().items()
    assert name == WORDS["es"]["own"]
    assert len(samples) / rate == pytest.approx(sum(seconds for seconds, _ in visitor.played), abs=0.01)
    assert {"Escuchar", "Pensar", "Hablar", "En total"} <= set(visitor.texts(".bars > span"))

    visitor.press("Preguntar")
    assert visitor.has_turns(4)
    visitor.press("Conversación nueva")
    assert wait_until(lambda: not visitor.texts())
    visitor.press("Preguntar")
    assert visitor.has_turns(2)
    turns = [{"role": "user", "content": heard}, {"role": "assistant", "content": ANSWER}]
    assert llm.histories == [[], turns, []]
    assert not visitor.complaints


def test_what_the_microphone_records_is_answered_when_it_stops(make, visit):
    visitor = visit(make(tts=Flute()), locale="en-US")
    visitor.press("Record")
    visitor.chromium.run(visitor.page.wait_for_timeout(2500))
    visitor.chromium.run(visitor.page.locator(".stop-button").click())
    assert visitor.has_turns(2) and visitor.texts()[1] == ANSWER
    assert "Think" in visitor.texts(".bars > span") and not visitor.complaints


def test_a_voice_is_used_with_consent_alone_and_compared_with_the_own(make, visit):
    llm = Note()
    visitor = visit(make(llm, Flute()))
    visitor.upload(QUESTION, "Tu pregunta")
    visitor.unfold("Responder con otra voz")
    visitor.tick(COMPARE)
    visitor.press("Preguntar")
    assert wait_until(lambda: visitor.notices() == [WORDS["es"]["no_reference"]])
    visitor.upload(VOICE, "Voz, de")
    visitor.press("Preguntar")
    assert wait_until(lambda: visitor.notices()[-1] == WORDS["es"]["no_consent"])
    assert not llm.histories and not visitor.texts()

    visitor.tick(CONSENT)
    visitor.press("Preguntar")
    assert visitor.has_turns(2)
    voices = visitor.voices()
    assert list(voices) == [WORDS["es"]["likened"], WORDS["es"]["own"]]
    asked, own = (samples for samples, rate in voices.values())
    np.testing.assert_allclose(2 * asked, own, atol=1e-3)
    assert len(visitor.played) == 1, "the voice asked for is heard"
    assert not visitor.complaints


def test_stopping_ends_the_answer_and_its_sound(make, visit, new_threads):
    llm = Note()
    llm.leave = threading.Semaphore(9)  # words: two phrases, and a word of the third
    visitor = visit(make(llm, Flute()))
    ask(visitor)
    assert wait_until(lambda: visitor.played and len(visitor.texts()) == 2)
    visitor.press("Parar")
    assert wait_until(lambda: visitor.stopped == len(visitor.played))
    assert wait_until(lambda: not new_threads()), "nothing goes on"
    said = visitor.texts()[1]
    assert ANSWER.startswith(said) and len(said) < len(ANSWER)
    llm.leave = threading.Semaphore(100)

    def ask_again() -> bool:  # Gradio ignores a press until it knows itself that the answer has ended
        visitor.press("Preguntar")
        return wait_until(lambda: len(llm.histories) == 2, 2)

    assert wait_until(ask_again) and visitor.has_turns(4)
    assert llm.histories[1][1] == {"role": "assistant", "content": said}
    assert not visitor.complaints


def test_who_leaves_is_no_longer_answered(make, visit, monkeypatch, new_threads):
    monkeypatch.setenv("GRADIO_HEARTBEAT_INTERVAL", "0.2")
    llm = Note()
    llm.leave = threading.Semaphore(3)
    visitor = visit(make(llm, Flute()))
    ask(visitor)
    assert wait_until(new_threads)
    visitor.leave()
    assert wait_until(lambda: not new_threads())


def test_problems_are_told_and_forgotten(make, visit, tmp_path):
    silence = tmp_path / "silencio.wav"
    hfpipe.write_wav(silence, np.zeros(16000, np.float32), 16000)
    visitor = visit(make(Talker(fails_at=2), Flute()))
    visitor.press("Preguntar")
    assert wait_until(lambda: visitor.notices() == [WORDS["es"]["no_question"]])
    visitor.upload(silence, "Tu pregunta")
    visitor.press("Preguntar")
    assert wait_until(lambda: visitor.notices()[-1] == WORDS["es"]["no_speech"])
    assert not visitor.texts() and not visitor.complaints


def test_recordings_are_deleted_after_a_while(make, visit, folder, monkeypatch):
    monkeypatch.setattr(space_demo, "DELETE_CACHE", (1, 5))
    visitor = visit(make(tts=Flute()))
    ask(visitor)
    assert visitor.has_turns(2)
    assert wait_until(lambda: not files_in(folder))
    visitor.press("Preguntar")
    assert wait_until(lambda: visitor.notices() == [WORDS["es"]["gone"]])


def test_the_page_speaks_the_language_that_it_is_told(make, visit):
    pipe = make(tts=Flute())
    assert visit(pipe, locale="en-GB", language="es", examples=[QUESTION]).texts("h1") == ["Pregunta en voz alta"]
    other = visit(pipe, locale="fr-FR")
    other.press("pregunta.wav")
    other.wait_for_recording("Tu pregunta")
    other.press("Preguntar")
    assert other.has_turns(2) and "Pensar" in other.texts(".bars > span")
    with pytest.raises(ValueError, match="'fr'; valid are es, en"):
        hfpipe.demo(pipe, language="fr")
    assert WORDS["es"].keys() == WORDS["en"].keys()


@pytest.mark.offline
def test_two_visitors_at_once_are_not_mixed(offline_pipe, visit, tmp_path):
    first, second = visit(offline_pipe), visit(offline_pipe)
    italy = offline_pipe.tts("¿Cuál es la capital de Italia?", language="es")
    hfpipe.write_wav(tmp_path / "italia.wav", italy, offline_pipe.tts.sampling_rate)
    first.upload(QUESTION, "Tu pregunta")
    second.upload(tmp_path / "italia.wav", "Tu pregunta")
    for turns in (2, 4):
        first.press("Preguntar")
        second.press("Preguntar")
        assert first.has_turns(turns, 60) and second.has_turns(turns, 60)
        for visitor, country, capital in ((first, "Francia", "París"), (second, "Italia", "Roma")):
            heard, said = visitor.texts()[-2:]
            assert country in heard and capital in said
            [(samples, rate)] = visitor.voices().values()
            [(spoken, _)] = hfpipe.transcribe(offline_pipe.asr, [hfpipe.load_audio((rate, samples), 16000)[0]], "es")
            assert capital in spoken
    assert not first.complaints + second.complaints
