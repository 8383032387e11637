"""Recordings of any length become text or subtitles, one file each, and a stopped run goes on."""

import json

import numpy as np
import pytest
import soundfile
from conftest import EXAMPLES
from hypothesis import given
from hypothesis import strategies as st
from transformers import pipeline
from typer.testing import CliRunner

import hfpipe.transcription as transcribing
from hfpipe.cli.app import app
from hfpipe.transcription import (
    MAX_CHUNK_SECONDS,
    find_chunks,
    find_chunks_by_language,
    find_utterances,
    format_timestamp,
    format_transcript,
    likeliest_sequence,
    targets,
    transcribe_file,
    transcribe_files,
)

RESULT = {
    "audio": "a.wav",
    "language": "es",
    "seconds": 3700.0,
    "text": "Hola. Adiós.",
    "segments": [{"start": 0.5, "end": 1.25, "text": "Hola."}, {"start": 3661.5, "end": 3663.0, "text": "Adiós."}],
}
runner = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def asr(tiny_whisper):
    return pipeline("automatic-speech-recognition", model=str(tiny_whisper), device="cpu")


@pytest.fixture(scope="module")
def minute(tmp_path_factory):
    """A minute of the example question, asked again and again after a pause."""
    samples, rate = soundfile.read(EXAMPLES / "pregunta.wav", dtype="float32")
    once = np.concatenate([samples, np.zeros(2 * rate, np.float32)])
    path = tmp_path_factory.mktemp("long") / "reunión.wav"
    soundfile.write(path, np.tile(once, 1 + 60 * rate // len(once)), rate)
    return path


@pytest.mark.slow
def test_chunks_hold_the_speech_and_fit_the_window(minute):
    samples, rate = soundfile.read(minute, dtype="float32")
    samples = transcribing.load_audio(str(minute), 16_000)[0]
    chunks = find_chunks(samples)
    assert 2 <= len(chunks) <= 5
    assert all(0 < end - start <= MAX_CHUNK_SECONDS * 16_000 for start, end in chunks)
    assert all(before[1] <= after[0] for before, after in zip(chunks, chunks[1:], strict=False))
    loud = np.abs(samples) > 0.1
    inside = np.zeros(len(samples), bool)
    for start, end in chunks:
        inside[start:end] = True
    assert (loud & ~inside).sum() < 0.01 * loud.sum()
    assert find_chunks(np.zeros(160_000, np.float32)) == []


@pytest.mark.slow
def test_a_long_recording_is_timed_from_its_start(asr, minute):
    seen = []
    result = transcribe_file(asr, minute, "es", on_progress=lambda done, total: seen.append((done, total)))
    assert result["seconds"] > 60 and result["language"] == "es"
    assert result["segments"][0]["start"] < 5 and result["segments"][-1]["end"] > 50
    assert all(segment["start"] <= segment["end"] <= result["seconds"] for segment in result["segments"])
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1] == pytest.approx(result["seconds"], abs=0.01)


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was(asr, minute, tmp_path, monkeypatch):
    whole = transcribe_file(asr, minute, "es", batch_size=1)
    heard = []
    hear = transcribing.transcribe_chunks

    def stop(asr, samples, chunks, language):
        if len(heard) == 2:
            raise KeyboardInterrupt
        heard.append(chunks)
        return hear(asr, samples, chunks, language)

    monkeypatch.setattr(transcribing, "transcribe_chunks", stop)
    with pytest.raises(KeyboardInterrupt):
        transcribe_file(asr, minute, "es", batch_size=1, partial=tmp_path / "partial")
    monkeypatch.setattr(transcribing, "transcribe_chunks", lambda *rest: heard.append(rest[2]) or hear(*rest))
    assert transcribe_file(asr, minute, "es", batch_size=1, partial=tmp_path / "partial") == whole
    chunks = find_chunks(transcribing.load_audio(str(minute), 16_000)[0])
    assert [one for batch in heard for one in batch] == chunks  # each was heard once


@pytest.mark.slow
def test_a_stopped_run_in_another_language_begins_anew(asr, minute, tmp_path):
    transcribe_file(asr, minute, "en", partial=tmp_path / "partial")
    assert transcribe_file(asr, minute, "es", partial=tmp_path / "partial")["language"] == "es"


@pytest.mark.slow
def test_one_file_each_and_a_bad_one_stops_nobody(asr, tmp_path):
    for name in ("a.wav", "a.flac", "b.wav"):
        soundfile.write(tmp_path / name, *soundfile.read(EXAMPLES / "pregunta.wav"))
    (tmp_path / "bad.wav").write_text("no audio")
    files = [str(tmp_path / name) for name in ("a.wav", "bad.wav", "a.flac", "b.wav")]
    done = {target.name: error for _, target, error in transcribe_files(asr, files, "txt", tmp_path / "out")}
    assert list(done) == ["a.wav.txt", "bad.txt", "a.flac.txt", "b.txt"]
    assert "no audio that" in str(done["bad.txt"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.flac.txt", "a.wav.txt", "b.txt"]
    (tmp_path / "out" / "b.txt").write_text("corregido a mano")
    list(transcribe_files(asr, files, "txt", tmp_path / "out"))
    assert (tmp_path / "out" / "b.txt").read_text() == "corregido a mano"


def test_formats():
    assert format_transcript(RESULT, "txt") == "Hola.\nAdiós.\n"
    assert json.loads(format_transcript(RESULT, "json")) == RESULT
    assert format_transcript(RESULT, "srt").split("\n") == [
        "1", "00:00:00,500 --> 00:00:01,250", "Hola.", "",
        "2", "01:01:01,500 --> 01:01:03,000", "Adiós.", "",
    ]  # fmt: skip
    assert format_transcript(RESULT, "vtt").startswith("WEBVTT\n\n1\n00:00:00.500 --> 00:00:01.250\nHola.\n")


@given(st.floats(0, 359_999))
def test_a_clock_tells_the_time(seconds):
    hours, minutes, rest = format_timestamp(seconds, ".").split(":")
    assert int(hours) * 3600 + int(minutes) * 60 + float(rest) == pytest.approx(seconds, abs=6e-4)
    assert int(minutes) < 60 and float(rest) < 60 and len(rest) == 6


def test_texts_lie_beside_their_recordings_unless_a_folder_is_given(tmp_path):
    assert targets(["x/a.wav", "y/a.wav"], "txt") == {
        "x/a.wav": transcribing.Path("x/a.txt"), "y/a.wav": transcribing.Path("y/a.txt")
    }  # fmt: skip
    assert targets(["x/a.wav", "x/b.wav"], "srt", tmp_path)["x/b.wav"] == tmp_path / "b.srt"


def test_the_command_line(tiny_whisper, tmp_path):
    question = str(EXAMPLES / "pregunta.wav")
    command = ["transcribe", question, "--model", str(tiny_whisper), "--out", str(tmp_path), "--format", "json"]
    result = runner.invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "pregunta.json").read_text())["segments"]
    result = runner.invoke(app, [*command, str(tmp_path / "none.wav")])
    assert result.exit_code == 1 and "there is no audio file" in result.stderr and "1 of 2 files" in result.stderr
    result = runner.invoke(app, [*command[:-1], "docx"])
    assert result.exit_code == 1 and "valid is txt, srt, vtt, json" in result.stderr
    assert "Traceback" not in result.output


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes((EXAMPLES / "pregunta.wav").read_bytes())
    return path


def test_an_existing_text_is_kept_and_said_so(tiny_whisper, recording):
    text = recording.with_suffix(".txt")
    text.write_text("corregido a mano")
    command = ["transcribe", str(recording), "--model", str(tiny_whisper)]
    result = runner.invoke(app, command)
    assert result.exit_code == 0 and "kept" in result.stderr and "exists already" in result.stderr
    assert "→" not in result.stderr and "Loading" not in result.stderr and text.read_text() == "corregido a mano"
    result = runner.invoke(app, [*command, "--overwrite"])
    assert result.exit_code == 0 and f"→ {text}" in result.stderr and "exists already" not in result.stderr
    assert text.read_text() != "corregido a mano"


def test_a_text_by_another_model_or_in_another_language_is_said_to_be(tiny_whisper, recording, tmp_path):
    command = ["transcribe", str(recording), "--model", str(tiny_whisper), "--format", "json"]
    assert runner.invoke(app, command).exit_code == 0
    text = recording.with_suffix(".json")
    made = json.loads(text.read_text())
    assert made["model"] == str(tiny_whisper) and made["language"] == "es"
    same = runner.invoke(app, command).stderr
    assert "exists already;" in same and "made by" not in same
    text.write_text(json.dumps(made | {"model": "openai/whisper-tiny"}))
    assert "made by openai/whisper-tiny" in runner.invoke(app, command).stderr
    text.write_text(json.dumps(made))
    assert "in 'es'" in runner.invoke(app, [*command, "--language", "en"]).stderr
    text.write_text("{")
    assert "isn't a transcript" in runner.invoke(app, command).stderr


def test_a_recording_in_which_nothing_was_heard_is_noted(tiny_whisper, tmp_path):
    soundfile.write(tmp_path / "still.wav", np.random.default_rng(0).normal(0, 1e-3, 48_000), 16_000)
    command = ["transcribe", str(tmp_path / "still.wav"), "--model", str(tiny_whisper)]
    for language in ("es", "auto"):
        for output_format in ("txt", "json", "srt"):
            options = ["--language", language, "--format", output_format, "--overwrite"]
            result = runner.invoke(app, [*command, *options])
            assert result.exit_code == 0, result.stderr
            assert "Note:" in result.stderr and "still.wav: nothing was heard in 3.0 s" in result.stderr
    assert json.loads((tmp_path / "still.json").read_text())["note"].startswith("nothing was heard")


def test_words_that_whisper_does_not_understand_are_noted(asr, recording, monkeypatch, tmp_path):
    monkeypatch.setattr(transcribing, "transcribe_chunks", lambda asr, samples, chunks, language: [[] for _ in chunks])
    with pytest.warns(UserWarning, match="Whisper understood no word"):
        assert [error for *_, error in transcribe_files(asr, [str(recording)], "txt", tmp_path / "out")] == [None]


def test_an_unknown_language_is_refused_before_models_load(tiny_whisper, recording):
    result = runner.invoke(app, ["transcribe", str(recording), "--model", str(tiny_whisper), "--language", "klingon"])
    assert result.exit_code == 1 and "language is 'klingon'" in result.stderr and "Loading" not in result.stderr


def test_the_text_of_a_url_goes_to_the_current_folder():
    assert targets(["https://example.org/a/b%20c.mp3?x=1", "d/e.wav"], "txt") == {
        "https://example.org/a/b%20c.mp3?x=1": transcribing.Path("b c.txt"), "d/e.wav": transcribing.Path("d/e.txt"),
    }  # fmt: skip


def test_the_likeliest_sequence_ignores_what_is_short_and_follows_what_lasts():
    sure, unsure, other = [0.98, 0.01, 0.01], [0.2, 0.45, 0.35], [0.01, 0.01, 0.98]
    assert likeliest_sequence(np.array([sure, unsure, sure, other, other]), 0.01) == [0, 0, 0, 2, 2]
    assert likeliest_sequence(np.zeros((0, 3)), 0.01) == []
    assert likeliest_sequence(np.ones((4, 1)), 0.01) == [0] * 4


@pytest.mark.slow
def test_no_chunk_has_two_languages(asr, minute, monkeypatch):
    samples = transcribing.load_audio(str(minute), 16_000)[0]

    def detect(asr, encoded):
        detect.calls += 1
        spanish = 0.9 if detect.calls > 3 else 0.1
        return ["en", "es"], np.array([[1 - spanish, spanish]])

    detect.calls = 0
    monkeypatch.setattr(transcribing, "language_probabilities", detect)
    result = transcribe_file(asr, minute, None)
    assert {segment["language"] for segment in result["segments"]} == {"en", "es"} and result["language"] == "es"
    languages = [segment["language"] for segment in result["segments"]]
    assert languages == sorted(languages)
    detect.calls = 0
    chunks = find_chunks_by_language(asr, samples, find_utterances(samples))
    assert [spoken for *_, spoken in chunks] == sorted(spoken for *_, spoken in chunks)
    assert all(0 < end - start <= MAX_CHUNK_SECONDS * 16_000 for start, end, _ in chunks)


@pytest.mark.offline
@pytest.mark.slow
def test_a_recording_that_changes_its_language_is_heard_in_both(offline_pipe, tmp_path):
    """Some 25 s in one language, then another: each stretch in its own."""
    pipe, order = offline_pipe, ("en", "es")
    said = {
        "en": (
            "The weather will be fine tomorrow morning, and we will walk along the river to the old bridge.",
            "My brother works in a small hospital near the station, where he takes care of the children.",
            "Last year they bought a new house with a large garden, but the kitchen is still not finished.",
            "Please bring some bread and cheese when you come, because the shops are closed on Sunday.",
        ),
        "es": (
            "Mañana por la mañana hará buen tiempo, y vamos a caminar junto al río hasta el puente viejo.",
            "Mi hermano trabaja en un hospital pequeño cerca de la estación, donde cuida de los niños.",
            "El año pasado compraron una casa nueva con un jardín grande, pero falta terminar la cocina.",
            "Trae por favor un poco de pan y queso cuando vengas, porque las tiendas cierran el domingo.",
        ),
    }
    pause = np.zeros(pipe.tts.sampling_rate // 2, np.float32)
    parts = [
        np.concatenate([np.append(pipe.tts(sentence, language=language), pause) for sentence in said[language]])
        for language in order
    ]
    soundfile.write(tmp_path / "both.wav", np.concatenate(parts), pipe.tts.sampling_rate)
    result = transcribe_file(pipe.asr, tmp_path / "both.wav", None)
    border = len(parts[0]) / pipe.tts.sampling_rate
    for segment in result["segments"]:
        if abs((segment["start"] + segment["end"]) / 2 - border) > 10:
            assert segment["language"] == order[segment["start"] > border], segment
    text = result["text"].lower()
    for word in ("bridge", "hospital", "garden", "puente", "cocina", "domingo"):
        assert word in text
