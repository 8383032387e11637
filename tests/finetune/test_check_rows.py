"""Every kind of unusable row is dropped, counted and reported, and the others are kept."""

import numpy as np
import pytest
import soundfile

from finetune.check import (
    DROPPED,
    NOTED,
    check_rows,
    count_shared_rows,
    drop_contradicted,
    explain_shared,
    find_leaks,
    refuse_leaks,
)
from finetune.data import Row, read_rows
from finetune.markdown import markdown_table
from finetune.normalize import normalize_spanish

RATE = 16_000


def speech(seconds=1.0, seed=0, loud=0.3):
    """Return noise modulated at the rate of syllables: as loud as speech, and different for each seed."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE)) / RATE
    return (loud * np.sin(2 * np.pi * 4 * times) ** 2 * rng.standard_normal(len(times)).clip(-3, 3) / 3).astype("f4")


def write_bad_rows(folder):
    """Write a table of good and bad rows; return its path, and the line and problem of each bad row."""

    def wav(name, samples, rate=RATE, **options):  # fmt: skip
        soundfile.write(folder / name, samples, rate, **options)
        return name

    for i in range(6):
        wav(f"good{i}.wav", speech(1.5, i))
    for i in range(40):
        wav(f"s{i}.wav", speech(2.0, 100 + i))
    (folder / "folder.wav").mkdir()
    (folder / "empty.wav").write_bytes(b"")
    (folder / "page.wav").write_text("<html>404 Not Found</html>")
    whole = (folder / "s0.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    nan = speech(1.0)
    nan[100] = np.nan
    bad = {  # by kind, in the order of the table
        "no audio given": [("", "Falta el audio")],
        "no text": [("s1.wav", ""), ("s2.wav", "   "), ("s11.wav", "nan"), ("s12.wav", "None"), ("s13.wav", "<NA>")],
        "no words": [("s3.wav", "¿…?")],
        "missing file": [("nowhere.wav", "No existe")],
        "not a file": [("folder.wav", "Una carpeta")],
        "empty file": [("empty.wav", "Nada dentro")],
        "unreadable": [
            ("page.wav", "Una página"),
            ("cut.wav", "Cortado"),
            (wav("nan.wav", nan, subtype="FLOAT"), "No es un número"),
            (wav("none.wav", np.zeros(0)), "Ninguna muestra"),
            (wav("int.wav", speech(1.0) * 20_000, subtype="FLOAT"), "Enteros guardados como reales"),
        ],
        "too short": [(wav("short.wav", speech(0.05, 7)), "Sí")],
        "too long": [(wav("long.wav", speech(31, 8)), "Demasiado largo")],
        "silence": [
            (wav("zero.wav", np.zeros(RATE)), "Silencio"),
            (wav("quiet.wav", speech(1.0, 9, 1e-4)), "Casi silencio"),
        ],
        "text too long": [(wav("talk.wav", speech(29, 10)), "Palabra " * 100)],
        "faster than speech": [(wav("fast.wav", speech(0.5, 11)), "Esto no se puede decir en medio segundo")],
        "broken characters": [("s4.wav", "El aÃ±o que viene"), ("s5.wav", "El a\ufffdo"), ("s6.wav", "Hola\x07")],
        "Whisper's own marks": [("s7.wav", "<|es|> Hola")],
        "duplicate": [
            ("good0.wav", "frase buena 0"),
            (wav("copy.flac", soundfile.read(folder / "good1.wav", dtype="int16")[0]), "Frase buena 1."),
        ],
        "two texts": [("s8.wav", "Una cosa"), ("s8.wav", "Otra cosa")],
        "wrong cells": [("s9.wav", "Hola", " amigo"), ("s10.wav",)],
    }
    lines = ["audio,sentence", *(f"good{i}.wav,Frase buena {i}" for i in range(6))]
    expected = []
    for kind, rows in bad.items():
        for cells in rows:
            lines.append(",".join(cells))
            expected.append((len(lines), kind))
    (folder / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "train.csv", expected


@pytest.fixture(scope="module")
def bad_rows(tmp_path_factory):
    return write_bad_rows(tmp_path_factory.mktemp("bad"))


def test_every_kind_of_bad_row_is_reported_and_the_good_rows_are_kept(bad_rows):
    table, expected = bad_rows
    report = check_rows(read_rows(table), str(table), len)
    assert len(report.kept) == 6 and report.rows == 6 + len(expected)
    assert sorted(row.sentence for row in report.kept) == [f"Frase buena {i}" for i in range(6)]
    found = {problem.line: problem.kind for problem in report.problems if problem.kind in DROPPED}
    assert sorted(found.items()) == expected
    assert set(DROPPED) - set(report.dropped) == {"contradicted", "also in the test"}  # these need a model or a stream
    markdown = report.markdown()
    for line, kind in expected:
        assert f"| {line} |" in markdown and kind in markdown
    assert report.as_dict()["dropped"] == dict(report.dropped)


def test_odd_rows_are_noted_and_kept(tmp_path):
    clipped = np.clip(speech(1.0, 1) * 50, -1, 1)
    for name, samples, rate in (("a", speech(), RATE), ("b", clipped, RATE), ("c", speech(seed=2), 8000)):
        soundfile.write(tmp_path / f"{name}.wav", samples, rate)
    soundfile.write(tmp_path / "d.wav", speech(seed=3), RATE)
    (tmp_path / "t.csv").write_text(
        'a.wav,Hola [risas] привет 🙂\nb.wav,Recortado\nd.wav,"An\u0303o nuevo\nc.wav,Teléfono\n'
    )
    report = check_rows(read_rows(tmp_path / "t.csv"), "t", len)
    assert len(report.kept) == 4 and not report.dropped
    assert set(report.noted) == set(NOTED)


def test_hours_are_counted_by_speaker(tmp_path):
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", speech(1.0 + i, i), RATE)
    (tmp_path / "t.csv").write_text("audio,sentence,speaker\n0.wav,Uno,ana\n1.wav,Dos,luis\n2.wav,Tres,ana\n")
    facts = check_rows(read_rows(tmp_path / "t.csv"), "t", len).as_dict()
    assert facts["hours_per_speaker"] == {"ana": round(4 / 3600, 4), "luis": round(2 / 3600, 4)}
    assert facts["seconds"]["longest"] == 3.0


def test_leaks_are_found_by_the_content_of_the_audio(tmp_path):
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", speech(1.0, i), RATE)
    soundfile.write(tmp_path / "other.flac", soundfile.read(tmp_path / "1.wav", dtype="int16")[0], RATE)
    (tmp_path / "train.csv").write_text("0.wav,Cero\n1.wav,Uno\n")
    (tmp_path / "test.csv").write_text("2.wav,Dos\nother.flac,Otro texto\n")
    train, test = (check_rows(read_rows(tmp_path / f"{n}.csv"), n, len) for n in ("train", "test"))
    assert [(a.line, b.line) for a, b in find_leaks(train.kept, test.kept)] == [(2, 2)]
    with pytest.raises(ValueError, match=r"1 of 2 test recordings are also in the training set: .*1\.wav \(line 2\)"):
        refuse_leaks(train, test)
    refuse_leaks(train, check_rows(read_rows(tmp_path / "test.csv")[:1], "test", len))


def test_rows_that_the_base_model_contradicts_are_dropped_and_counted(tmp_path):
    for i in range(2):
        soundfile.write(tmp_path / f"{i}.wav", speech(1.0, i), RATE)
    (tmp_path / "t.csv").write_text("0.wav,Tengo 20 euros\n1.wav,La puerta azul\n")
    report = check_rows(read_rows(tmp_path / "t.csv"), "t", len)
    report = drop_contradicted(report, ["tengo veinte euros", "algo muy distinto"], normalize_spanish)
    assert [row.sentence for row in report.kept] == ["Tengo 20 euros"]
    assert report.dropped == {"contradicted": 1} and "algo muy distinto" in report.markdown()


def test_table_cells_are_escaped_in_the_markdown_report():
    lines = markdown_table(("what", "n"), [("a|b\nc", 1)], right=("n",))
    assert lines == ["| what | n |", "|---|---:|", "| a\\|b c | 1 |"]


def test_sentences_and_speakers_in_both_sets_are_counted():
    def rows(*pairs):
        return [Row("a.wav", text, i, {"speaker": speaker}) for i, (text, speaker) in enumerate(pairs)]

    train = rows(("Hola.", "ana"), ("Sí", "luis"), ("No", ""))
    test = rows(("¡hola!", "eva"), ("Tal vez", "ana"), ("no", ""), ("Quizá", ""))
    shared = count_shared_rows(train, test)
    assert shared == {"rows": 4, "sentences": 2, "speakers": 2, "speakers_in_both": 1}
    assert "2 of 4 rows" in explain_shared(shared) and "1 of 2 speakers" in explain_shared(shared)
    unnamed = count_shared_rows(rows(("Hola", "")), rows(("Hola", "")))
    assert unnamed["speakers"] == unnamed["speakers_in_both"] == 0 and unnamed["sentences"] == 1
    assert "no column names the speakers" in explain_shared(unnamed)


def test_notes_on_the_table_are_in_the_report(tmp_path):
    (tmp_path / "clips").mkdir()
    for i in range(2):
        soundfile.write(tmp_path / "clips" / f"{i}.wav", speech(1.0, i), RATE)
    (tmp_path / "t.tsv").write_text("path\tsentence\n0.wav\tUno\n1.wav\tDos\n")
    report = check_rows(read_rows(tmp_path / "t.tsv"), "t", len)
    assert report.notes == {"audio found in clips/": 2} == report.as_dict()["notes"]
    assert report.markdown().count("ound in clips/") == 1
