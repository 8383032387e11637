"""Recordings that would spoil a voice are dropped, counted and named, each kind in a row of real sound."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

import hfpipe
from finetune.check import refuse_leaks
from finetune.voice import check as voice_check
from finetune.voice.check import check_voice, load_ears
from finetune.voice.check_report import DROPPED, NOTED, write_report, write_rows
from finetune.voice.consent import NoConsent, require_consent
from finetune.voice.table import read_table
from hfpipe.pipeline.tts_kokoro import Kokoro

RATE = 24_000
TEXTS = (
    "El tren que va a Sevilla sale con mucho retraso.",
    "Mi hermana trabaja en un hospital cerca de la playa.",
    "Los niños juegan en el parque mientras sus padres conversan.",
    "Me gusta leer novelas de aventuras antes de dormir.",
)
COLUMNS = ("audio", "text", "speaker", "country", "consent")


class Rows:
    """A table in the making: each row's recording, and the kinds of problems that the check should name."""

    def __init__(self, folder: Path):
        self.folder, self.lines, self.expected = folder, [], {}

    def add(self, kind: str, samples, text: str, speaker="ana", country="MX", consent="sí", rate=RATE, name=None):
        """Add a row; `samples` are a waveform or the name of a file, and "" is the kind of a good row."""
        if not isinstance(samples, str):
            name = name or f"{len(self.lines)}.wav"
            soundfile.write(self.folder / name, samples, rate)
            samples = name
        self.lines.append((samples, text, speaker, country, consent))
        self.expected[len(self.lines) + 1] = kind

    def write(self) -> Path:
        with open(self.folder / "train.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *self.lines])
        return self.folder / "train.csv"


@pytest.fixture(scope="module")
def spoken():
    """Four sentences of Ana and of Luis, who are synthetic, at 24 kHz."""
    kokoro = Kokoro.from_pretrained(Path(hfpipe.offline_repo(), "tts"))
    return {name: [kokoro(text, speaker=name) for text in TEXTS] for name in ("ef_dora", "am_michael")}


@pytest.fixture(scope="module")
def ears():
    return load_ears("offline", "es")


def with_noise(speech, other, decibels):
    """Return speech with a sound that is so many decibels below it."""
    other = other / np.sqrt(np.mean(other**2)) * np.sqrt(np.mean(speech**2)) / 10 ** (decibels / 20)
    return (speech + other).clip(-1, 1)


def chords(count):
    """Return music: chords of four voices with overtones, a second each."""
    times = np.arange(count) / RATE
    music = np.zeros(count)
    for i, root in enumerate((220.0, 174.6, 261.6, 196.0)):
        for ratio in (1, 1.26, 1.5, 2):
            for overtone in (1, 2, 3):
                music += (times % 4 // 1 == i) * np.sin(2 * np.pi * root * ratio * overtone * times) / overtone
    return music / np.abs(music).max() / 2


def add_bad_text(rows: Rows, ana: list) -> None:
    for i, text in enumerate(TEXTS[:3]):
        rows.add("", ana[i], text)
    rows.add("no audio given", "", TEXTS[0])
    rows.add("no text", ana[3] * 0.99, "")
    rows.add("no words", ana[3] * 0.98, "¿…?")
    rows.add("missing file", "nowhere.wav", TEXTS[0])
    (rows.folder / "folder.wav").mkdir()
    rows.add("not a file", "folder.wav", TEXTS[0])
    (rows.folder / "empty.wav").write_bytes(b"")
    rows.add("empty file", "empty.wav", TEXTS[0])
    (rows.folder / "page.wav").write_text("<html>404 Not Found</html>")
    rows.add("unreadable", "page.wav", TEXTS[0])
    whole = (rows.folder / "0.wav").read_bytes()
    (rows.folder / "half.wav").write_bytes(whole[: len(whole) // 2])
    rows.add("unreadable", "half.wav", TEXTS[0])
    rows.add("broken characters", ana[3] * 0.97, "Me gusta leer novelas aÃ±os antes de dormir.")
    rows.add("no consent", ana[3] * 0.96, TEXTS[3], consent="no")
    rows.add("text too long", ana[3] * 0.95, "Me costó 1.234.567,89 €. " * 4)  # 104 characters, 300 read aloud
    rows.add("annotation", ana[3] * 0.94, f"[risas] {TEXTS[3]}")
    rows.add("duplicate", ana[0], TEXTS[0].lower())
    rows.add("two texts", ana[3], TEXTS[3])
    rows.add("two texts", ana[3], TEXTS[3].replace("leer", "escribir"))
    rows.lines.append((*rows.lines[0], "de más"))
    rows.expected[len(rows.lines) + 1] = "wrong cells"


def add_bad_sound(rows: Rows, ana: list, luis: list) -> None:
    rng = np.random.default_rng(0)
    text, speech, second = TEXTS[0], ana[0], np.zeros(RATE)
    noise = rng.standard_normal(5 * RATE) / 20
    for i in range(4):
        rows.add("", luis[i], TEXTS[i], speaker="luis", country="AR")
    rows.add("too short", speech[RATE : RATE + RATE // 3], "Sí")
    rows.add("too long", np.concatenate([*ana, *luis]), text)
    rows.add("too long", np.concatenate([*ana, *luis] * 3), text)  # which needn't be decoded
    rows.add("silence", np.zeros(2 * RATE), text)
    rows.add("no speech", noise, text)
    rows.add("no speech", chords(4 * RATE), text)
    rows.add("clipped", (8 * speech / np.abs(speech).max()).clip(-1, 1), text)
    rows.add("noise or music", with_noise(speech, noise[: len(speech)], 12), text)
    rows.add("noise or music", with_noise(speech, chords(len(speech)), 8), text)
    room = rng.standard_normal(RATE) * np.exp(-6.9 * np.arange(RATE) / RATE)  # which fades by 60 dB in a second
    echo = np.convolve(speech, np.concatenate([[3.0], room]))[: len(speech) + RATE // 2]
    rows.add("poor sound", echo / np.abs(echo).max() / 2, text)
    rows.add("silence before", np.concatenate([second, second, speech]), text)
    rows.add("silence after", np.concatenate([speech, second, second]), text)
    rows.add("several speakers", np.concatenate([ana[1], luis[2]]), f"{TEXTS[1]} {TEXTS[2]}")
    rows.add("another speaker", luis[2] * 0.9, TEXTS[2])
    rows.add("faster than speech", speech[RATE : 2 * RATE], TEXTS[0])
    rows.add("slower than speech", ana[2], "Los niños")
    rows.add("contradicted", ana[1] * 0.9, TEXTS[3])
    rows.add("end not said", ana[2] * 0.9, f"{TEXTS[2][:-1]} en voz baja.")
    both = np.concatenate([ana[0], ana[1]])
    rows.add("end not written", both, f"{TEXTS[0]} Mi hermana trabaja en un hospital cerca.")


@pytest.fixture(scope="module")
def checked(tmp_path_factory, spoken, ears):
    """The table of bad rows, its report, and the folder where its measures are kept."""
    folder = tmp_path_factory.mktemp("voice")
    rows = Rows(folder)
    add_bad_text(rows, spoken["ef_dora"])
    add_bad_sound(rows, spoken["ef_dora"], spoken["am_michael"])
    report = check_voice(rows.write(), ears=ears, keep=folder / "kept")
    return rows, report


@pytest.mark.slow
@pytest.mark.offline
def test_every_kind_of_bad_row_is_dropped_and_named(checked):
    rows, report = checked
    found = defaultdict(set)
    for problem in report.problems:
        found[problem.line].add(problem.kind)
    missed = {line: (kind, found[line]) for line, kind in rows.expected.items() if kind and kind not in found[line]}
    assert not missed, [problem for problem in report.problems if "similarity" in problem.detail]
    assert {line: found[line] for line, kind in rows.expected.items() if not kind and found[line]} == {}
    assert [row.line for row in report.kept] == [line for line, kind in rows.expected.items() if not kind]
    assert set(report.dropped) == set(DROPPED) - {"also in the test"}
    assert len(DROPPED) >= 20


@pytest.mark.slow
@pytest.mark.offline
def test_a_second_check_measures_nothing_and_finds_the_same(checked, ears, monkeypatch):
    rows, report = checked

    def fail(*args):
        raise AssertionError("measured or transcribed again")

    monkeypatch.setattr(voice_check, "measure_sound", fail)
    deaf = voice_check.Ears(ears.name, fail)
    again = check_voice(rows.folder / "train.csv", ears=deaf, keep=rows.folder / "kept")
    assert again.problems == report.problems and again.kept == report.kept


@pytest.mark.slow
@pytest.mark.offline
def test_the_report_counts_hours_and_names_rows_and_the_kept_ones_are_a_table(checked, tmp_path):
    rows, report = checked
    write_report(tmp_path / "report.json", [report])
    (facts,) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert facts["rows"] == len(rows.lines) and facts["kept"] == 7 == len(facts["kept_rows"])
    assert facts["dropped"]["unreadable"] == 2 and set(facts["hours_per_speaker"]) == {"ana", "luis"}
    assert facts["hours_per_country"].keys() == {"AR", "MX"}
    seconds = sum(row["seconds"] for row in facts["kept_rows"])
    assert sum(facts["hours_per_country"].values()) == pytest.approx(seconds / 3600, abs=2e-4)
    write_report(tmp_path / "report.md", [report])
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    for kind in report.dropped:
        assert f"| {kind} |" in markdown
    assert "## Hours per country" in markdown and "7 of 42 rows are usable" in markdown
    write_rows(tmp_path / "clean.csv", report.rows_kept)
    columns = [(row.audio.resolve(), row.text, row.speaker, row.country) for row in read_table(tmp_path / "clean.csv")]
    assert columns == [(row.audio.resolve(), row.text, row.speaker, row.country) for row in report.rows_kept]


VOICE = Path(__file__).parent.parent.parent / "examples" / "voz.wav"
SAID = "Buenos días. Esta voz no es de nadie: la ha creado un programa para enseñar cómo se imita una voz."


@pytest.fixture(scope="module")
def voice():
    """The first 6.2 s of the example's voice: two sentences, and the pause after them."""
    samples, rate = soundfile.read(VOICE, dtype="float32")
    assert rate == RATE
    return samples[: round(6.2 * rate)]


def test_what_is_noted_is_kept(tmp_path, voice):
    rows = Rows(tmp_path)
    half = len(voice) // 2
    pause = np.concatenate([voice[:half], np.zeros(3 * RATE), voice[half:]])
    rows.add("several countries", voice, SAID, country="MX")
    rows.add("several countries", voice * 0.9, SAID + " 😀", country="CL")
    rows.add("low rate", voice[::3], SAID, "luis", rate=8_000)
    rows.add("cut", voice[RATE // 2 : -RATE // 2], SAID, "luis")
    rows.add("long pause", pause, SAID, "luis")
    report = check_voice(rows.write(), keep=tmp_path / "kept")
    found = {(problem.line, problem.kind) for problem in report.problems}
    assert {(line, kind) for line, kind in rows.expected.items()} | {(3, "odd characters")} <= found
    assert len(report.kept) == 5 and set(report.noted) <= set(NOTED)


def test_leaks_into_the_test_set_are_refused_and_files_are_not_changed(tmp_path, voice):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / f"{name}.wav", voice, RATE)
        (tmp_path / f"{name}.csv").write_text(f"audio,text\n{name}/{name}.wav,{SAID}\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    reports = [check_voice(tmp_path / f"{name}.csv", keep=tmp_path / "kept") for name in ("train", "test")]
    with pytest.raises(ValueError, match="1 of 1 test recordings are also in the training set"):
        refuse_leaks(*reports)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_damaged_folder_of_measures_is_done_without(tmp_path, voice):
    rows = Rows(tmp_path)
    rows.add("", voice, SAID)
    table = rows.write()
    (tmp_path / "kept").write_text("a file, not a folder")
    assert len(check_voice(table, keep=tmp_path / "kept").kept) == 1
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "voice-check-1.sqlite").write_text("no database" * 100)
    assert len(check_voice(table, keep=tmp_path / "folder").kept) == 1


@pytest.mark.parametrize("statement", [None, "", "  ", "---", "2026-11-02"])
def test_a_voice_needs_a_statement_of_consent(statement):
    with pytest.raises(NoConsent, match="whose speakers agreed"):
        require_consent(statement)
    assert require_consent(" Ana Pérez, in writing ") == "Ana Pérez, in writing"


COUNT = 64  # rows, in four batches, so that a signal after the first one comes before the last


@pytest.mark.slow
def test_an_interrupted_check_leaves_nothing_half_written_and_goes_on(tmp_path, voice):
    rows = Rows(tmp_path)
    for i in range(COUNT):
        rows.add("", voice * (1 - i / 200), SAID)
    table = rows.write()
    command = [sys.executable, "-m", "finetune", "check-voice", str(table), "--asr", "none"]
    command += ["--out", str(tmp_path / "report.json"), "--kept", str(tmp_path / "clean.csv")]
    environment = os.environ | {"HFPIPE_CACHE": str(tmp_path / "cache")}
    options = {"env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A program that was started in the background, as the tests may be, ignores SIGINT, and what it starts does too.
    process = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options)
    database = tmp_path / "cache" / "voice-check" / "voice-check-1.sqlite"
    deadline = time.monotonic() + 120
    while not (database.exists() and count(database)) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "The same command goes on." in errors, errors
    assert not (tmp_path / "report.json").exists() and not (tmp_path / "clean.csv").exists()
    assert not list(tmp_path.rglob("*.partial*"))
    measured = count(database)
    assert 0 < measured < COUNT
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=200)
    assert done.returncode == 1 and "--consent is ''" in done.stderr  # checked and written, but not to be trained on
    assert f"{COUNT} of {COUNT} rows are usable" in done.stdout and count(database) == COUNT
    assert len(read_table(tmp_path / "clean.csv")) == COUNT
    done = subprocess.run([*command, "--consent", "synthetic voices"], env=environment, timeout=60)
    assert done.returncode == 0


def count(database: Path) -> int:
    import sqlite3

    try:
        with contextlib.closing(sqlite3.connect(database, timeout=0)) as connection:
            return connection.execute("SELECT count(*) FROM kept").fetchone()[0]
    except sqlite3.OperationalError:  # not made yet, or locked
        return 0
