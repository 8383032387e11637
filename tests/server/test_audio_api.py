"""Transcriptions, translations and speech, with the official client."""

import base64
import io
import json
import shutil
import threading

import httpx
import numpy as np
import openai
import pytest
import soundfile
from conftest import EXAMPLES
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent
from own_parts import QUESTION, Whistle

from hfpipe.pipeline.audio import load_audio

SPOKEN = open(QUESTION, "rb").read()
TEXT = "hola, buenos días. te lo explico todo ahora mismo."


def hear(client, **options):
    return client.audio.transcriptions.create(file=("q.wav", SPOKEN), model="whisper-1", **options)


def test_a_transcription_as_json(client):
    heard = hear(client, language="es")
    assert heard.text.islower()
    assert heard.usage.type == "duration" and 1 <= heard.usage.seconds < 10
    assert hear(client).text.islower()  # the language is detected


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
def test_a_transcription_as_plain_text(client, form):
    heard = hear(client, language="es", response_format=form)
    assert isinstance(heard, str)
    if form == "text":
        assert heard == hear(client, language="es").text + "\n"
    else:
        assert "00:00:0" in heard and " --> " in heard
        assert heard.startswith("WEBVTT\n" if form == "vtt" else "1\n")


def test_a_verbose_transcription_has_all_that_is_said_of_a_segment(client):
    heard = hear(client, language="es", response_format="verbose_json")
    assert heard.language == "spanish" and 1 < heard.duration < 10
    assert heard.words is None and heard.segments
    for number, segment in enumerate(heard.segments):
        assert segment.id == number and 0 <= segment.start <= segment.end <= heard.duration + 0.5
        assert segment.avg_logprob < 0 and 0 <= segment.no_speech_prob <= 1 and segment.compression_ratio > 0
        assert segment.tokens and segment.seek >= 0 and segment.temperature == 0
    assert " ".join(segment.text for segment in heard.segments) == heard.text


def test_a_transcription_takes_a_prompt_and_a_temperature(client):
    heard = hear(client, language="es", prompt="Ñandú " * 500, temperature=0.4, response_format="verbose_json")
    assert heard.text and {segment.temperature for segment in heard.segments} == {0.4}
    with pytest.raises(openai.BadRequestError, match="special token"):
        hear(client, prompt="<|endoftext|>")
    with pytest.raises(openai.BadRequestError) as refused:
        hear(client, temperature=1.5)
    assert refused.value.param == "temperature"


def test_words_have_times_where_whisper_gives_them(client, voice_qa, monkeypatch):
    asked = {"language": "es", "response_format": "verbose_json", "timestamp_granularities": ["word", "segment"]}
    with pytest.raises(openai.BadRequestError, match="alignment_heads"):
        hear(client, **asked)
    monkeypatch.setattr(voice_qa.model.generation_config, "alignment_heads", [[0, 0]], raising=False)
    heard = hear(client, **asked)
    assert heard.words and heard.segments
    assert all(0 <= word.start <= word.end <= heard.duration + 0.5 for word in heard.words)


def test_word_times_take_the_verbose_form(client):
    with pytest.raises(openai.BadRequestError) as refused:
        hear(client, timestamp_granularities=["word"])
    assert refused.value.param == "timestamp_granularities"


def test_a_transcription_is_streamed(client):
    *deltas, done = hear(client, language="es", stream=True)
    assert deltas and all(isinstance(each, TranscriptionTextDeltaEvent) for each in deltas)
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert "".join(each.delta for each in deltas) == done.text == hear(client, language="es").text
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens


def test_silence_is_an_empty_transcription(client):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16_000), 16_000, format="WAV")
    silence = ("silence.wav", buffer.getvalue())
    assert client.audio.transcriptions.create(file=silence, model="").text == ""
    verbose = client.audio.transcriptions.create(file=silence, model="", response_format="verbose_json")
    assert verbose.segments == [] and verbose.duration == 1


def test_a_translation(client):
    file = ("q.wav", SPOKEN)
    assert client.audio.translations.create(file=file, model="").text
    verbose = client.audio.translations.create(file=file, model="", response_format="verbose_json")
    assert verbose.language == "english" and verbose.segments
    assert " --> " in client.audio.translations.create(file=file, model="", response_format="srt")


def test_a_whisper_of_english_alone_does_not_translate(client, voice_qa, monkeypatch):
    monkeypatch.setattr(voice_qa.model.generation_config, "is_multilingual", False)
    with pytest.raises(openai.BadRequestError, match="can't translate"):
        client.audio.translations.create(file=("q.wav", SPOKEN), model="")


def say(client, **options) -> bytes:
    return client.audio.speech.create(input=TEXT, model="tts-1", **{"voice": "alloy", **options}).content


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "opus", "aac"])
def test_speech_in_each_format(client, form):
    if form == "aac" and shutil.which("ffmpeg") is None:
        with pytest.raises(openai.BadRequestError, match="FFmpeg"):
            say(client, response_format=form)
        return
    samples, rate = load_audio(say(client, response_format=form))
    pcm = np.frombuffer(say(client, response_format="pcm"), "<i2") / 32767
    assert len(samples) / rate == pytest.approx(len(pcm) / 24_000, abs=0.25)
    assert np.abs(samples).max() > 0.2 * np.abs(pcm).max() > 0


class Held(Whistle):
    """A voice that says its second phrase only when it is let."""

    def __init__(self):
        super().__init__()
        self.leave = threading.Event()

    def __call__(self, text, language, speaker_wav=None):
        if self.said:
            assert self.leave.wait(20)
        return np.tile(super().__call__(text, language, speaker_wav), 10)


def test_speech_comes_as_it_is_made(make, client):
    voice = Held()
    make(tts=voice)
    asked = {"input": TEXT, "model": "", "voice": "default", "response_format": "pcm"}
    with client.audio.speech.with_streaming_response.create(**asked) as response:
        pieces = response.iter_bytes()
        first = next(pieces)
        voice.leave.set()
        rest = b"".join(pieces)
    assert len(first) > 20_000 and len(rest) > 20_000


def test_speech_as_server_sent_events(server):
    body = {"input": TEXT, "model": "", "voice": "default", "response_format": "pcm", "stream_format": "sse"}
    with httpx.stream("POST", f"{server.url}/v1/audio/speech", json=body, timeout=60) as response:
        events = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line]
    *deltas, done = events
    assert {each["type"] for each in deltas} == {"speech.audio.delta"} and done["type"] == "speech.audio.done"
    assert done["usage"]["total_tokens"] > 0
    sound = b"".join(base64.b64decode(each["audio"]) for each in deltas)
    body["stream_format"] = "audio"
    assert (
        len(sound) > 2_000
        and abs(len(sound) - len(httpx.post(f"{server.url}/v1/audio/speech", json=body).content)) < 20_000
    )


def test_a_voice_without_a_speed_says_so(client):
    with pytest.raises(openai.BadRequestError, match="can't change its speed"):
        say(client, speed=1.5)
    with pytest.raises(openai.BadRequestError):
        say(client, speed=9)


def test_voices_by_name_and_speed(xtts_server):
    client = xtts_server.client()
    own, luis = (say(client, voice=name, response_format="pcm") for name in ("default", "Luis"))
    assert own != luis
    again = say(client, voice={"id": "Luis"}, response_format="pcm")
    assert np.allclose(np.frombuffer(again, "<i2"), np.frombuffer(luis, "<i2"), atol=50)
    assert len(say(client, voice="Luis", speed=2.0, response_format="pcm")) < 0.7 * len(luis)
    with pytest.raises(openai.BadRequestError, match="there is no voice 'Nadie'.*'?Ana"):
        say(client, voice="Nadie")


def test_a_consented_reference(xtts_server):
    client, data = xtts_server.client(), base64.b64encode((EXAMPLES / "voz.wav").read_bytes()).decode()
    own = say(client, voice="default", response_format="pcm")
    reference = {"data": data, "consent_by": "nobody: a synthetic voice"}
    assert say(client, response_format="pcm", extra_body={"reference": reference}) != own
    for unfit in (
        {"data": data},
        {"data": data, "consent_by": ""},
        {"data": "=", "consent_by": "x"},
        {"data": "/etc/passwd", "consent_by": "x"},
    ):
        with pytest.raises(openai.BadRequestError):
            say(client, extra_body={"reference": unfit})
