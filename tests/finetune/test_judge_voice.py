"""What is measured of a voice is right where the truth is known, and what goes wrong is counted."""

import csv
import json

import numpy as np
import pytest
import soundfile
from test_check_rows import speech
from typer.testing import CliRunner

import hfpipe
from finetune.__main__ import app
from finetune.score import Counts, gain_of_mean, mean_interval
from finetune.voice.judge import judge_voice
from finetune.voice.judgement import Utterance, compare, judge_goals, summarize
from finetune.voice.measures import Measures, ends_abruptly, find_failures, measure_pitch
from finetune.voice.synthesize import choose_references
from finetune.voice.table import VoiceRow
from hfpipe.pipeline.audio import resample, write_wav

RATE = 16_000
TEXTS = (
    "Buenos días, ¿en qué puedo ayudarle hoy?",
    "El tren sale a las tres y media de la tarde.",
    "Mañana lloverá en el norte del país.",
    "La biblioteca abre de lunes a viernes por la mañana.",
    "Necesito reservar una mesa para cuatro personas.",
)


@pytest.mark.parametrize(
    "heard, failures",
    [
        ("el tren sale a las tres", ()),
        ("el tren sala a las tres", ()),
        ("", ("silent",)),
        ("gracias por ver el vídeo", ("wrong",)),
        ("el tren sale", ("cut",)),
        ("el tren sale a las", ()),  # of one word, Whisper may be to blame
        ("el tren sale a las tres amara onga", ("babbles",)),
        ("el tren el tren sale a las tres", ("repeats",)),
        ("el tren sale a las tres sale a las tres", ("wrong", "repeats")),
        ("el el el tren sale a las tres", ("repeats",)),
    ],
)
def test_transcripts_show_what_went_wrong(heard, failures):
    assert find_failures("el tren sale a las tres", heard) == failures


def test_what_the_text_repeats_is_no_failure():
    assert find_failures("no no no y no", "no no no y no") == ()
    assert find_failures("no y no", "no no y no") == ()


def test_pitch_is_that_of_the_voice():
    times = np.arange(RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 150 * harmonic * times) / harmonic for harmonic in range(1, 9))
    pitch, intonation = measure_pitch((0.2 * voice).astype(np.float32))
    assert pitch == pytest.approx(150, rel=0.02) and intonation < 0.1
    glide = np.cumsum(150 * 2 ** (np.linspace(-6, 6, RATE) / 12)) / RATE  # an octave in all
    voice = sum(np.sin(2 * np.pi * harmonic * glide) / harmonic for harmonic in range(1, 9))
    assert measure_pitch((0.2 * voice).astype(np.float32))[1] == pytest.approx(12 / np.sqrt(12), rel=0.15)
    assert np.isnan(measure_pitch(np.zeros(RATE, np.float32))).all()


def test_a_sound_that_stops_in_its_middle_is_cut(spoken):
    samples = resample(*spoken, RATE)
    loud = int(np.argmax(np.convolve(samples**2, np.ones(160), "valid"))) + 160
    assert ends_abruptly(samples[:loud])
    assert not ends_abruptly(np.concatenate([samples, np.zeros(1600, np.float32)]))
    assert not ends_abruptly(np.zeros(0, np.float32))


def utterance(errors=0, similarity=0.9, mos=3.0, failures=(), speaker="ana", rtf=0.5, country=None):
    counts = Counts(errors, 0, 0, 10)
    measures = Measures("", counts, counts, mos, mos, 2.0, 150.0, float("nan"), 12.0, failures)
    return Utterance("", speaker, country, measures, similarity, None, rtf, None)


def test_summaries_have_the_means_of_what_was_measured():
    few, many = [utterance()] * 6, [utterance(errors=4, similarity=0.7, failures=("cut",), speaker="leo", rtf=1.5)] * 6
    found = summarize([*few, *many])
    assert found["wer"]["value"] == 20 and found["wer"]["low"] < 20 < found["wer"]["high"]
    assert found["similarity"]["value"] == pytest.approx(0.8) and found["rtf"]["value"] == pytest.approx(1.0)
    assert found["intonation"] is None and found["first_audio"] is None and found["similarity_to_others"] is None
    assert found["failures"]["cut"] == found["failed"] == 6 and found["failures"]["silent"] == 0
    by = found["by"]["speaker"]
    assert [by[name]["wer"]["value"] for name in ("ana", "leo")] == [0, 40] and "country" not in found["by"]
    assert json.loads(json.dumps(found)) == found


def test_goals_are_reached_only_where_the_interval_says_so():
    spread = [utterance(errors=errors, similarity=alike, mos=3.6) for errors, alike in [(0, 0.8), (5, 0.91)] * 10]
    goals = judge_goals(spread)
    assert goals["mos"]["reached"] == goals["rtf"]["reached"] == "yes"
    assert goals["similarity"]["reached"] == "not certain" and goals["wer"]["reached"] == "no"
    assert goals["wer"] == {"goal": "< 15", "value": 25.0, "reached": "no"}
    assert judge_goals([utterance(rtf=None)])["rtf"]["reached"] == "not measured"


def test_a_voice_is_better_only_where_the_interval_says_so():
    rng = np.random.default_rng(0)
    base = [utterance(errors=e, similarity=s) for e, s in zip([1, 2] * 20, rng.normal(0.8, 0.02, 40), strict=True)]
    better = [utterance(errors=0, similarity=each.similarity + 0.05) for each in base]
    assert {name: gain["verdict"] for name, gain in compare(base, better).items()} == {
        "wer": "better",
        "similarity": "better",
        "mos": "no better",
        "failed": "no better",
    }
    assert compare(better, base)["wer"]["verdict"] == "worse"
    noise = gain_of_mean([0.0] * 30, rng.normal(0, 1, 30))
    assert noise["verdict"] == "no better" and noise["low"] < 0 < noise["high"]
    low, high = mean_interval(rng.normal(3, 1, 400))
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_references_are_the_longest_recordings_of_each_speaker():
    rows = [VoiceRow(audio=f"{i}.wav", text="", speaker="ab"[i % 2]) for i in range(8)]
    assert choose_references(rows, [4, 1, 5, 2, 3, 1, 2, 12]) == {"a": [2, 0, 4], "b": [7]}
    assert choose_references(rows[:1], [1.0]) == {"a": [0]}


@pytest.fixture
def table(tmp_path):
    with open(tmp_path / "test.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["audio", "text", "speaker", "spoken"])
        for i, text in enumerate(TEXTS[:3]):
            soundfile.write(tmp_path / f"{i}.wav", speech(2.0, i), RATE)
            rows.writerow([f"{i}.wav", text, "ana", f"{i}.wav" if i < 2 else ""])
    return tmp_path / "test.csv"


@pytest.mark.parametrize(
    "change, said",
    [
        ({"model": "column:spoken"}, "line 4 .* has no recording in a column 'spoken'; its columns: speaker, spoken"),
        ({"language": "xx"}, "xx"),
        ({"out": "."}, "has files in it"),
        ({"model": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_is_written(table, tiny_whisper, tmp_path, change, said):
    given = {"model": "column:audio", "out": "report", "language": "es", **change}
    with pytest.raises((ValueError, OSError), match=said):
        judge_voice(given["model"], table, tmp_path / given["out"], language=given["language"], whisper=tiny_whisper)
    assert not (tmp_path / "report").exists()


@pytest.mark.offline
@pytest.mark.slow
def test_spoiled_recordings_are_counted_and_a_whole_voice_is_not(tmp_path):
    """One synthetic speaker is imitated by a like voice; of another program's recordings each fails in its own way."""
    tts = hfpipe.load_tts(hfpipe.offline_repo() + "/tts")
    waves = [tts(text, speaker="ef_dora") for text in TEXTS]
    other = tts("Y además le quería contar otra cosa muy distinta.", speaker="ef_dora")
    pause = np.zeros(tts.sampling_rate // 4, np.float32)
    spoiled = [
        np.zeros(2 * tts.sampling_rate, np.float32),
        waves[1][: int(0.45 * len(waves[1]))],
        np.concatenate([waves[2], pause, waves[2]]),
        np.concatenate([waves[3], pause, other]),
        waves[4],
    ]
    with open(tmp_path / "test.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["audio", "text", "speaker", "country", "spoiled"])
        for i, text in enumerate(TEXTS):
            write_wav(tmp_path / f"{i}.wav", waves[i], tts.sampling_rate)
            write_wav(tmp_path / f"bad{i}.wav", spoiled[i], tts.sampling_rate)
            rows.writerow([f"{i}.wav", text, "ana", "MX", f"bad{i}.wav"])
    out = tmp_path / "report"
    command = ["judge-voice", "column:spoiled", str(tmp_path / "test.csv"), "--out", str(out)]
    command += ["--whisper", "offline", "--base", hfpipe.offline_repo()]
    ran = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"}).invoke(app, command)
    assert ran.exit_code == 0, ran.output
    result = json.loads((out / "judgement.json").read_text())
    failures = [set(each["failures"]) for each in result["utterances"]["model"]]
    assert failures[0] == {"silent"} and "cut" in failures[1] and failures[4] == set()
    assert failures[2] & {"repeats", "babbles"}  # Whisper may write down once what is said twice; the duration tells
    assert "babbles" in failures[3]
    assert result["voices"]["model"]["failed"] == 4
    assert result["voices"]["recordings"]["failed"] == result["voices"]["base"]["failed"] == 0
    assert result["voices"]["base"]["wer"]["value"] < 15 and result["voices"]["base"]["similarity"]["value"] > 0.8
    assert result["gain"]["wer"]["verdict"] == result["gain"]["failed"]["verdict"] == "worse"
    assert result["goals"]["wer"]["reached"] == "no" and result["goals"]["rtf"]["reached"] == "not measured"
    assert "worse than" in ran.stdout
    report, page = (out / "judgement.md").read_text(), (out / "judgement.html").read_text()
    assert "not comparable with published tables" in report and "☐" in report
    assert page.count("<audio") == 3 * len(TEXTS) == len([*out.glob("audio/*/*.wav")])
    assert (out / "judgement.png").stat().st_size > 5000
    rate, wave = result["utterances"]["recordings"][0]["pitch"], resample(waves[0], tts.sampling_rate, RATE)
    assert rate == pytest.approx(measure_pitch(wave)[0], rel=0.05) and str(tmp_path) not in report
