"""Many lines become a file each, whatever their format; a killed run goes on, and a bad line costs no other."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from own_parts import Whistle, wait_until
from typer.testing import CliRunner

from hfpipe.cli.app import app
from hfpipe.dubbing import MAX_SPEED, dub, stretch
from hfpipe.pipeline.audio import write_wav
from hfpipe.spoken_lines import read_lines
from hfpipe.synthesis import MANIFEST, read_manifest, speak_lines
from hfpipe.transcription import format_timestamp

runner = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"})


@pytest.fixture
def write(tmp_path):
    def write(name, text, encoding="utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    return write


def test_a_text_is_a_line_each(write):
    lines = read_lines(write("t.txt", "Hola.\r\n\n  ¿Qué tal?  \n"))
    assert [(line.number, line.text, line.file) for line in lines] == [
        (1, "Hola.", "audio_0000.wav"),
        (3, "¿Qué tal?", "audio_0001.wav"),
    ]


def test_a_table_names_its_files_and_voices(write, tmp_path):
    text = 'audio;text;language;speaker_wav\nuno.mp3;"Hola;\namigos";es-AR;yo.wav\n'
    text += "../x;Hola;;\n;;;\ndos;A;;\ndos.wav;B;;\n"
    first, second, third, *same = read_lines(write("t.csv", text, "utf-8-sig"))
    assert (first.file, first.text, first.language) == ("uno.wav", "Hola;\namigos", "es-AR")
    assert first.speaker_wav == str(tmp_path / "yo.wav") and not first.error
    assert "leads out" in second.error and third.error == "there is no text"
    assert all("2 lines are to be called 'dos.wav'" in line.error for line in same)


def test_json_lines_are_read_and_the_broken_ones_named(write):
    lines = read_lines(write("t.jsonl", '{"text": "Hola", "name": "a/b"}\n{"text"\n[1]\n{"text": null}\n'))
    assert lines[0].file == "a/b.wav" and not lines[0].error
    assert ["JSON" in lines[1].error, "object" in lines[2].error, "no text" in lines[3].error] == [True] * 3


@given(
    times=st.lists(st.integers(0, 7_200_000), min_size=2, max_size=12, unique=True).map(sorted),
    texts=st.lists(st.text("abcñ ¿?\n", min_size=1).filter(str.strip), min_size=6, max_size=6),
)
@settings(max_examples=50, deadline=None)
def test_subtitles_are_read_as_they_are_written(tmp_path_factory, times, texts):
    cues = list(zip(times[::2], times[1::2], texts, strict=False))
    blocks = [
        f"{n}\n{format_timestamp(start / 1000, ',')} --> {format_timestamp(end / 1000, ',')}\n<i>{text}</i>\n"
        for n, (start, end, text) in enumerate(cues, 1)
    ]
    file = tmp_path_factory.getbasetemp() / "cues.srt"
    file.write_text("\n".join(blocks), encoding="utf-8")
    lines = read_lines(file)
    found, written = ([line.start for line in lines], [line.end for line in lines]), zip(*cues, strict=True)
    for seconds, thousandths in zip(found, written, strict=False):
        assert seconds == pytest.approx([each / 1000 for each in thousandths])
    assert [line.text.split() for line in lines] == [text.split() for *_, text in cues]


def test_bad_cues_are_named(write):
    times = ("00:00:02,000 --> 00:00:01,000", "00:00:1 --> x", "99:00:00,000 --> 99:00:01,000")
    lines = read_lines(write("t.srt", "".join(f"{t}\nHola\n\n" for t in times)))
    assert ["valid is forward" in lines[0].error, "isn't such as" in lines[1].error, "24 hours" in lines[2].error] == [
        True
    ] * 3


@pytest.mark.parametrize(
    "name, text, words",
    [("t.pdf", "x", "valid is .txt"), ("t.txt", " \n", "no line"), ("t.csv", "a,b\n1,2\n", "one must be 'text'")],
)
def test_a_file_without_lines_is_refused(write, name, text, words):
    with pytest.raises(ValueError, match=words):
        read_lines(write(name, text))


def test_text_that_is_not_utf8_is_refused(write):
    with pytest.raises(ValueError, match="isn't UTF-8"):
        read_lines(write("t.txt", "¿Qué?", "cp1252"))


def test_bad_lines_cost_no_other_and_what_is_done_is_kept(write, tmp_path):
    texts = write("t.jsonl", '{"text": "Hola."}\n{"text": "…"}\n{"text": "Sí.", "language": "xx"}\n{"text": "No."}\n')
    lines, out, voice = read_lines(texts), tmp_path / "out", Whistle(fails_at=1)
    rows = {row["line"]: row for row in speak_lines(voice, lines, out, batch_size=1)}
    assert "error" not in rows[1] and "can be said" in rows[2]["error"] and "Whisper knows" in rows[3]["error"]
    assert rows[4]["error"] == "the whistle broke" and not (out / "audio_0003.wav").exists()
    assert [json.loads(line)["line"] for line in (out / MANIFEST).read_text().splitlines()] == [1, 2, 3, 4]
    voice.fails_at, voice.said = None, []
    assert "error" not in {row["line"]: row for row in speak_lines(voice, lines, out)}[4] and voice.said == ["No."]
    voice.said = []
    list(speak_lines(voice, lines, out, language="es-MX"))  # another reading is another sound
    assert len(voice.said) == 2


def test_a_batch_that_fails_is_spoken_line_by_line(write, tmp_path):
    class Choir(Whistle):
        def resolve_voice(self, speaker_wav=None, speaker=None):
            return None

        def speak_batch(self, texts, language, voices):
            if "dos" in texts:
                raise RuntimeError("dos is too much")
            return [np.full(len(text) * 10, 0.5, np.float32) for text in texts]

    rows = list(speak_lines(Choir(), read_lines(write("t.txt", "uno\ndos\ntres")), tmp_path / "out"))
    assert [row["text"] for row in rows if "error" in row] == ["dos"] and len(rows) == 3


@pytest.mark.slow
def test_lines_in_batches_are_what_they_are_alone(tiny_xtts, write, tmp_path):
    pytest.importorskip("TTS")
    from hfpipe.pipeline.tts_xtts import XTTS

    voice = XTTS.from_pretrained(tiny_xtts, precision="float32")
    texts = write("t.csv", "text,speaker\nHola a todos.,Ana\n¿Y tú?,Luis\nNo sé qué decir.,Ana\nSí.,Nadie\n")
    options = {"do_sample": False, "max_new_tokens": 12}
    rows = list(speak_lines(voice, read_lines(texts), tmp_path / "out", **options))
    assert sum("there is no speaker 'Nadie'" in row.get("error", "") for row in rows) == 1
    for row in rows:
        if "error" not in row:
            alone = voice(row["text"].lower(), speaker="Luis" if row["line"] == 3 else "Ana", **options)
            sound, _ = soundfile.read(tmp_path / "out" / row["file"], dtype="float32")
            np.testing.assert_allclose(sound, alone, atol=1e-4)


KILLED = """
import sys, time
import numpy as np
sys.path[:0] = sys.argv[3:]
from own_parts import Whistle
from hfpipe.spoken_lines import read_lines
from hfpipe.synthesis import speak_lines
class Slow(Whistle):
    def __call__(self, text, **options):
        time.sleep(0.02)
        with open(sys.argv[2] + ".said", "a") as file:
            file.write(text + "\\n")
        return super().__call__(text, **options)
list(speak_lines(Slow(), read_lines(sys.argv[1]), sys.argv[2], batch_size=2))
print("done")
"""


@pytest.mark.slow
def test_killed_at_random_moments_every_line_is_spoken_once(write, tmp_path):
    texts, out = write("t.txt", "".join(f"Esta es la línea {n}.\n" for n in range(60))), tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(texts), str(out), *sys.path]
    rng = np.random.default_rng(0)
    for done in (10, 35):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        assert wait_until(lambda: len(read_manifest(out)) >= done, 60)  # noqa: B023
        time.sleep(float(rng.uniform(0, 0.05)))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with open(out / MANIFEST, "a") as manifest:
            manifest.write('{"line": 3, "te')  # as a kill may leave it
    assert subprocess.run(command, capture_output=True, text=True).stdout == "done\n"
    rows = [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, 61)) and not any("error" in row for row in rows)
    files = sorted(file.name for file in out.glob("*.wav"))
    assert files == [f"audio_{n:04d}.wav" for n in range(60)]
    said = (tmp_path / "out.said").read_text().splitlines()
    assert len(set(said)) == 60 and len(said) <= 60 + 2 * 2 * 2  # at most the batches that were being made


def test_speech_keeps_its_pitch_at_another_speed():
    rate = 24_000
    tone = np.sin(2 * np.pi * 220 * np.arange(2 * rate) / rate).astype(np.float32)
    for speed in (0.8, 1.25, MAX_SPEED):
        sound = stretch(tone, speed, rate)
        assert len(sound) == round(len(tone) / speed)
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
        assert abs(spectrum.argmax() * rate / len(sound) - 220) < 2
        assert 0.9 < np.abs(sound[rate // 10 : -rate // 10]).max() < 1.1
    assert len(stretch(np.zeros(0, np.float32), 1.5, rate)) == 0


def test_cues_begin_at_their_times_and_are_sped_up_within_bounds(tmp_path):
    rate = 1000
    for name, seconds in (("a.wav", 1.2), ("b.wav", 3.0), ("c.wav", 0.5)):
        write_wav(tmp_path / name, np.full(round(seconds * rate), 0.25, np.float32), rate)
    cues = [
        {"file": name, "start": start, "end": 9.0} for name, start in (("c.wav", 3.0), ("a.wav", 0.5), ("b.wav", 1.5))
    ]
    first, second, last = dub(cues, tmp_path, tmp_path / "t.wav")
    assert (first["speed"], first["overran"]) == (1.2, 0.0)
    assert (second["speed"], second["overran"]) == (MAX_SPEED, 0.5)
    assert (last["speed"], last["overran"]) == (1.0, 0.0)
    track, _ = soundfile.read(tmp_path / "t.wav", dtype="float32")
    assert not track[:490].any() and track[600:2900].min() > 0.2 and len(track) == 3500
    assert track[3100:3400].min() > 0.45  # the second goes on over the beginning of the last


@pytest.fixture
def tiny(tiny_vits):
    return ["--tts", str(tiny_vits)]


def test_the_command_says_what_it_did(tiny, write, tmp_path):
    texts, out = write("t.txt", "Hola.\n…\nAdiós.\n"), tmp_path / "out"
    result = runner.invoke(app, ["speak", str(texts), *tiny, "--out", str(out)])
    assert result.exit_code == 1 and "line 2: nothing in it can be said" in result.stderr
    assert "1 of 3 lines could not be spoken" in result.stderr and "2 lines, " in result.stdout
    texts.write_text("Hola.\nAdiós.\nBuenas.\n")
    result = runner.invoke(app, ["speak", str(texts), *tiny, "--out", str(out)])
    assert result.exit_code == 0 and "1 of 3 lines were done already" in result.stderr
    result = runner.invoke(app, ["speak", str(texts), *tiny, "--out", str(out), "--option", "speed=2"])
    assert result.exit_code == 1 and "can't change its speed" in result.stderr


def test_subtitles_become_a_track(tiny, write, tmp_path):
    cues = "1\n00:00:01,000 --> 00:00:02,000\nHola a todos los amigos.\n\n2\n00:00:01,010 --> 00:00:03,000\nSí.\n"
    result = runner.invoke(app, ["speak", str(write("t.srt", cues)), *tiny, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "too long, even at 1.50 times the speed" in result.stderr
    track, rate = soundfile.read(tmp_path / "out" / "t.wav")
    assert not track[: rate - 100].any() and len(track) > rate


@pytest.mark.parametrize(
    "words, arguments",
    [
        ("there is no file", ["nada.txt"]),
        ("is a file; give a folder", ["t.txt", "--out", "t.txt"]),
        ("can't be written", ["t.txt", "--out", "/proc/nothing"]),
        ("NAME=VALUE", ["t.txt", "--option", "fast"]),
        ("there is no audio file", ["t.txt", "--speaker-wav", "nada.wav"]),
    ],
)
def test_what_cannot_be_is_said_before_models_load(write, tmp_path, monkeypatch, words, arguments):
    write("t.txt", "Hola.")
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["speak", *arguments])
    assert result.exit_code == 1 and words in result.stderr
    assert "Loading" not in result.output and not (tmp_path / "out").exists()


@pytest.mark.offline
def test_lines_are_spoken_and_read_back_offline(write, tmp_path):
    texts = write("t.txt", "El tren sale a las 8:30.\nCuesta $15.\n")
    asked = ["--model", "offline", "--language", "es-MX", "--read-back", "--out", str(tmp_path / "out")]
    result = runner.invoke(app, ["speak", str(texts), *asked])
    assert result.exit_code == 0, result.output
    rows = read_manifest(tmp_path / "out")
    assert all(row["wer"] == 0 for row in rows.values()) and "pesos" in rows["audio_0001.wav"]["heard"]
