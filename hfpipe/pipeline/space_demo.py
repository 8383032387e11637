"""A demo in the browser, with Gradio: ask aloud, read the answer as it is written, hear it as it is spoken.

Beside an `app.py` it makes a Space, so it imports nothing of the pipeline: all that it knows of one are its methods.
"""

import asyncio
import base64
import contextlib
import functools
import html
import io
import os
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
from babel import Locale, UnknownLocaleError

try:
    import gradio as gr
except ImportError:  # `demo` says what to install
    gr = None

PLAYER = Path(__file__).with_name("space_player.js")
MAX_UPLOAD = "25mb"
CONCURRENCY, QUEUE = 2, 32  # questions that are answered at once, and that may wait
DELETE_CACHE = (60, 600)  # every minute, the files that are ten minutes old
STAGES = ("asr", "llm", "tts", "tts_base", "first_audio", "total")
SOUND = """{{#each value.whole}}<figure><figcaption>{{this.name}}</figcaption>
<audio controls src="data:audio/wav;base64,{{this.wav}}"></audio></figure>{{/each}}"""
BARS = """<div class="bars">{{#each value}}<span>{{this.name}}</span>
<span class="bar"><span style="width: {{this.share}}%"></span></span><span>{{this.seconds}}</span>{{/each}}</div>"""
STYLE = """
padding-top: 1.5rem;
figure { margin: 0 0 0.5rem; }
audio { width: 100%; }
.bars { display: grid; grid-template-columns: auto 1fr auto; gap: 0.25rem 0.75rem; }
.bar > span { display: block; height: 100%; border-radius: 0.25rem; background: var(--color-accent); }
"""
DETECT = "auto"
REGIONS = {"es": ("AR", "CL", "CO", "ES", "MX", "PE", "US"), "en": ("GB", "US"), "pt": ("BR", "PT")}
WORDS = {
    "es": {
        "intro": "# Pregunta en voz alta\nGraba una pregunta o sube una grabación, y escucha la respuesta.",
        "question": "Tu pregunta",
        "language": "Idioma",
        "detect": "Detectar el idioma",
        "voice": "Responder con otra voz",
        "reference": "Voz, de 10 a 15 s",
        "consent": "La persona que habla en la grabación permite que se imite su voz",
        "compare": "Comparar con la voz propia del modelo",
        "ask": "Preguntar",
        "stop": "Parar",
        "reset": "Conversación nueva",
        "examples": "Ejemplos",
        "talk": "Conversación",
        "sound": "Respuesta",
        "own": "Con la voz propia del modelo",
        "cloned": "Con la voz clonada",
        "likened": "Con una voz parecida a la de la grabación",
        "times": "Tiempos",
        "privacy": "La voz que responde es sintética. Las grabaciones se borran a los diez minutos.",
        "asr": "Escuchar",
        "llm": "Pensar",
        "tts": "Hablar",
        "tts_base": "Hablar con la voz propia",
        "first_audio": "Hasta el primer sonido",
        "total": "En total",
        "no_question": "Graba o sube una pregunta primero.",
        "gone": "La grabación ya se borró: graba o sube otra.",
        "no_consent": "Marca que la persona de la grabación permite que se imite su voz, o quita la grabación.",
        "no_reference": "Para comparar, añade la grabación de una voz.",
        "decimal": ",",
        "no_speech": "No se oye ninguna palabra en la pregunta. Graba otra vez, más cerca del micrófono.",
    },
    "en": {
        "intro": "# Ask aloud\nRecord a question or upload a recording, and hear the answer.",
        "question": "Your question",
        "language": "Language",
        "detect": "Detect the language",
        "voice": "Answer in another voice",
        "reference": "Voice, 10 to 15 s",
        "consent": "The person who speaks in the recording agrees that their voice be imitated",
        "compare": "Compare with the model's own voice",
        "ask": "Ask",
        "stop": "Stop",
        "reset": "New conversation",
        "examples": "Examples",
        "talk": "Conversation",
        "sound": "Answer",
        "own": "In the model's own voice",
        "cloned": "In the cloned voice",
        "likened": "In a voice like that of the recording",
        "times": "Times",
        "privacy": "The voice that answers is synthetic. Recordings are deleted after ten minutes.",
        "asr": "Hear",
        "llm": "Think",
        "tts": "Speak",
        "tts_base": "Speak in the own voice",
        "first_audio": "Until the first sound",
        "total": "In total",
        "no_question": "Record or upload a question first.",
        "gone": "The recording has been deleted by now: record or upload another.",
        "no_consent": "Tick that the person in the recording agrees that their voice be imitated, or remove it.",
        "no_reference": "To compare, add the recording of a voice.",
        "decimal": ".",
        "no_speech": "No word can be heard in the question. Record it again, closer to the microphone.",
    },
}


def demo(pipe, *, language: str | None = None, examples: Sequence[str | os.PathLike] = ()) -> "gr.Blocks":
    """Build a page on which visitors ask a pipeline aloud; `demo(pipe).launch()` shows it.

    What was heard and the answer appear as they come, and the answer is played while it is spoken. A recording of
    another voice is used only where the visitor ticks that its speaker agrees. Each visitor has a conversation of
    their own. Recordings are deleted after ten minutes, and by the app's `close`.

    Args:
        pipe: a `VoiceQAPipeline`, which may serve other callers too.
        language: of the page, "es" or "en"; None is the browser's, and English where it is another.
        examples: paths of recorded questions to try.

    Returns:
        A `gradio.Blocks`, whose `launch` and `queue` take Gradio's options.

    Raises:
        ImportError: Gradio isn't installed.
        ValueError: the page has no words in that language.
    """
    if gr is None:
        raise ImportError("hfpipe.demo takes gradio, which isn't installed: pip install 'hfpipe[demo]'")
    if language not in (None, *WORDS):
        raise ValueError(f"the page has no words in language {language!r}; valid are {', '.join(WORDS)} and None.")
    say = gr.I18n(**{code: WORDS[language or code] for code in WORDS})
    with gr.Blocks(title="hfpipe", analytics_enabled=False, delete_cache=DELETE_CACHE) as app:
        gr.Markdown(say("intro"))
        with gr.Row():
            with gr.Column(scale=2):
                inputs = _inputs(pipe, say, examples)
                with gr.Row():
                    ask = gr.Button(say("ask"), variant="primary")
                    stop = gr.Button(say("stop"))
            with gr.Column(scale=3):
                talk, turns, sound, times = outputs = _outputs(say)
                reset = gr.Button(say("reset"))
        gr.Markdown(say("privacy"))
        asked = gr.on(
            [ask.click, inputs[0].stop_recording],
            _Visits(pipe, language).answer,
            [*inputs, turns],
            outputs,
            concurrency_limit=CONCURRENCY,
            show_progress="minimal",
            show_progress_on=talk,
        )
        stop.click(lambda: _sound(_now()), None, sound, cancels=asked, queue=False)
        nothing = [reset.click, talk.clear]
        gr.on(nothing, lambda: ([], [], _sound(_now()), []), None, outputs, cancels=asked, queue=False)
    app.queue(max_size=QUEUE)
    app.launch = functools.partial(  # takes what Gradio 6 no longer keeps in the page itself
        app.launch,
        i18n=say,
        theme=gr.themes.Soft(primary_hue="indigo", font="system-ui", font_mono="monospace"),  # loads no fonts
        footer_links=[],
        run_history=False,  # the browser would keep what was recorded
        max_file_size=MAX_UPLOAD,
    )
    return app


def _inputs(pipe, say, examples) -> list:
    """Return the components that `_Visits.answer` is given, in that order, but for the turns."""
    question = gr.Audio(type="filepath", sources=["microphone", "upload"], label=say("question"), buttons=[])
    if examples:
        gr.Examples([[os.fspath(path)] for path in examples], [question], label=say("examples"))
    spoken = gr.Dropdown(
        _languages(pipe, say("detect")), value=pipe.defaults.language or DETECT, label=say("language")
    )
    with gr.Accordion(say("voice"), open=False):
        reference = gr.Audio(type="filepath", sources=["upload", "microphone"], label=say("reference"), buttons=[])
        consent = gr.Checkbox(label=say("consent"))
        compare = gr.Checkbox(label=say("compare"))
    return [question, spoken, reference, consent, compare]


def _outputs(say) -> list:
    """Return the components that `_Turn.shown` has values for, in that order."""
    script, box = PLAYER.read_text(encoding="utf-8"), {"show_label": True, "container": True}
    return [
        gr.Chatbot(label=say("talk"), height=360, buttons=["copy_all"]),
        gr.State([]),
        gr.HTML(_sound(0), label=say("sound"), html_template=SOUND, css_template=STYLE, js_on_load=script, **box),
        gr.HTML([], label=say("times"), html_template=BARS, css_template=STYLE, **box),
    ]


def _languages(pipe, detect) -> list[tuple[Any, str]]:
    """Return names and tags of the languages that a pipeline speaks, Spanish first, and of their regions."""
    codes = sorted(getattr(pipe.tts, "languages", None) or WORDS, key=lambda code: (code != "es", code))
    tags = [tag for code in codes for tag in (code, *(f"{code}-{region}" for region in REGIONS.get(code, ())))]
    return [*((_own_name(tag), tag) for tag in tags), (detect, DETECT)]


def _own_name(tag: str) -> str:
    """Return what a language is called in itself: "español (México)" for "es-MX"."""
    try:
        return Locale.parse(tag, sep="-").display_name or tag
    except (UnknownLocaleError, ValueError):
        return tag


@dataclass(frozen=True)
class _Visits:
    """Answers the visitors of a page in its language, or in their browser's."""

    pipe: Any
    language: str | None

    async def answer(self, question, spoken, reference, consent, compare, turns, request: "gr.Request"):
        """Answer a recorded question; yield what the page shows, as it comes."""
        is_spanish = request.headers.get("accept-language", "").startswith("es")
        words = WORDS[self.language or ("es" if is_spanish else "en")]
        problem = _problem(question, reference, consent, compare)
        if problem:
            gr.Warning(words[problem])
            yield gr.skip()
            return
        turn = _Turn(turns, reference is not None, self.pipe.tts.sampling_rate, words)
        yield turn.shown()
        try:
            async with contextlib.aclosing(self._events(question, spoken, reference, compare, turns)) as events:
                async for event in events:
                    turn.take(event)
                    yield turn.shown()
        except (ValueError, MemoryError, FileNotFoundError) as error:
            gr.Warning(_explain(error, words))

    async def _events(self, question, spoken, reference, compare, turns) -> AsyncGenerator[Any, None]:
        """Yield the events of an answer. Two voices are compared by a plain call: one event, which nothing stops."""
        options = {
            "language": None if spoken == DETECT else spoken,
            "speaker_wav": Path(reference).read_bytes() if reference else None,
            "history": turns,
        }
        audio = Path(question).read_bytes()
        if compare:
            result = await asyncio.to_thread(self.pipe, audio, compare=True, **options)
            yield SimpleNamespace(type="done", result=result)
            return
        stream = await asyncio.to_thread(self.pipe.stream, audio, **options)
        try:
            async for event in stream:
                yield event
        finally:  # also where the visitor stops it, or leaves
            stream.stop()


@dataclass
class _Turn:
    """What the page shows of an answer, as its events come."""

    turns: list[dict]
    has_reference: bool
    rate: int
    words: dict[str, str]
    heard: str = ""
    said: str = ""
    sounds: list[str] = field(default_factory=list)
    whole: list[dict[str, str]] = field(default_factory=list)
    bars: list[dict[str, str]] = field(default_factory=list)
    number: int = field(default_factory=lambda: _now())

    def take(self, event) -> None:
        if event.type == "transcript":
            self.heard = event.text
        elif event.type == "text":
            self.said += event.text
        elif event.type == "audio":
            self.sounds.append(_encode(_to_pcm(event.audio)))
        else:
            self._end(event.result)

    def _end(self, result: dict) -> None:
        self.heard, self.said = result["question"], result["answer"]
        self.sounds = self.sounds or [_encode(_to_pcm(result["audio"]))]
        voices = {"cloned" if result["cloned"] else "likened" if self.has_reference else "own": result["audio"]}
        voices |= {"own": result["audio_base"]} if "audio_base" in result else {}
        self.whole = [
            {"name": self.words[name], "wav": _encode(_to_wav(audio, self.rate))} for name, audio in voices.items()
        ]
        self.bars = _bars(result["timings"], self.words)

    def shown(self) -> tuple:
        """Return what each of the page's outputs holds now; a turn of which nothing was said isn't remembered."""
        talk = [*self.turns]
        if self.heard:
            talk.append({"role": "user", "content": self.heard})
        if self.said:
            talk.append({"role": "assistant", "content": self.said})
        sound = _sound(self.number, self.rate, self.sounds, self.whole)
        return talk, talk if self.said else self.turns, sound, self.bars


def _problem(question, reference, consent, compare) -> str | None:
    """Return the key in `WORDS` of what is missing before a question can be answered."""
    if question is None:
        return "no_question"
    if reference is not None and not consent:
        return "no_consent"
    if compare and reference is None:
        return "no_reference"
    return None


def _explain(error: Exception, words: dict[str, str]) -> str:
    """Return what a visitor is told of an error, as HTML."""
    if isinstance(error, FileNotFoundError):
        return words["gone"]
    if type(error).__name__ == "NoSpeech":  # its class is in the pipe's own code, wherever that was loaded from
        return words["no_speech"]
    return html.escape(str(error))


def _bars(timings: dict[str, float], words: dict[str, str]) -> list[dict[str, str]]:
    """Return what `BARS` shows: each stage, its share of the whole time in percent, and its seconds."""
    return [
        {
            "name": words[stage],
            "share": f"{100 * timings[stage] / timings['total']:.1f}",
            "seconds": f"{timings[stage]:.2f} s".replace(".", words["decimal"]),
        }
        for stage in STAGES
        if stage in timings
    ]


def _sound(turn: int, rate: int = 0, sounds: Sequence[str] = (), whole: Sequence[dict] = ()) -> dict[str, Any]:
    """Return what `SOUND` and space_player.js are given."""
    return {"turn": turn, "rate": rate, "sounds": list(sounds), "whole": list(whole)}


def _now() -> int:
    """Return a number for a turn, larger than those before."""
    return time.time_ns() // 1_000_000


def _to_pcm(audio: np.ndarray) -> bytes:
    return (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()


def _to_wav(audio: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, rate, subtype="PCM_16", format="WAV")
    return buffer.getvalue()


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
