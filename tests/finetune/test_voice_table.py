"""Tables of a voice's recordings are read in every shape that they come in."""

import csv
import io
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.voice.table import VoiceRow, read_table

RATE = 16_000
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30).map(
    lambda text: unicodedata.normalize("NFC", f"a {text} z")  # not empty, nor changed by stripping
)


def wav(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(RATE // 10), RATE)
    return path


def test_audio_text_speaker_and_country(tmp_path):
    (tmp_path / "train.csv").write_text('audio,text,speaker,country\na.wav,"Hola, vos",Ana,AR\nb.wav,Adiós,,\n')
    assert read_table(tmp_path / "train.csv") == [
        VoiceRow(tmp_path / "a.wav", "Hola, vos", "Ana", "AR", 2),
        VoiceRow(tmp_path / "b.wav", "Adiós", None, None, 3),
    ]


def test_metadata_csv_of_chatterbox(tmp_path):
    table = tmp_path / "metadata.csv"
    table.write_text(
        "audio_path,transcript,speaker_id,duration\n"
        'audio/speaker_001/audio_001.wav,"Hola, ¿cómo estás?",speaker_001,2.5\n',
        encoding="utf-8",
    )
    row = VoiceRow(tmp_path / "audio/speaker_001/audio_001.wav", "Hola, ¿cómo estás?", "speaker_001", None, 2)
    assert read_table(table) == [row]
    assert read_table(tmp_path) == [row]  # the folder stands for its table


def test_ljspeech(tmp_path):
    for i in range(3):
        wav(tmp_path / "wavs" / f"LJ001-000{i}.wav")
    (tmp_path / "metadata.csv").write_text(
        "LJ001-0000|El Dr. Gil, sí, vino|El doctor Gil, sí, vino\n"
        'LJ001-0001|Dijo: "No, ya.|Dijo: "No, ya.\n'  # LJSpeech quotes nothing
        "LJ001-0002|A las 3, tal vez|A las tres, tal vez\n",
        encoding="utf-8",
    )
    rows = read_table(tmp_path / "metadata.csv")
    assert [row.text for row in rows] == ["El Dr. Gil, sí, vino", 'Dijo: "No, ya.', "A las 3, tal vez"]
    assert [row.audio for row in rows] == [tmp_path / "wavs" / f"LJ001-000{i}.wav" for i in range(3)]


def test_json_lines(tmp_path):
    rows = [
        {"audio_filepath": "a.wav", "text": "Hola, José", "speaker": "ana", "duration": 2.5},
        {"audio_filepath": "b.wav", "text": None, "country": "CL"},
    ]
    lines = [json.dumps(rows[0]), "", json.dumps(rows[1], ensure_ascii=False), "{cut"]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert read_table(tmp_path / "manifest.jsonl")[:2] == [
        VoiceRow(tmp_path / "a.wav", "Hola, José", "ana", None, 1),
        VoiceRow(tmp_path / "b.wav", "", None, "CL", 3),
    ]
    assert len(read_table(tmp_path / "manifest.jsonl")) == 3  # the check counts the cut line


def test_folder_of_recordings_and_texts(tmp_path):
    wav(tmp_path / "ana" / "001.wav"), wav(tmp_path / "luis" / "001.wav"), wav(tmp_path / "luis" / "002.wav")
    (tmp_path / "ana" / "001.txt").write_text("Hola,\nsoy Ana.\n", encoding="utf-8")
    (tmp_path / "luis" / "001.txt").write_text("Mañana", encoding="cp1252")
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "transcripts" / "002.txt").write_text("Aparte")
    (tmp_path / "luis" / "003.txt").write_text("Sin audio")
    assert [(row.audio.relative_to(tmp_path).as_posix(), row.text, row.speaker) for row in read_table(tmp_path)] == [
        ("ana/001.wav", "Hola, soy Ana.", "ana"),
        ("luis/001.wav", "Mañana", "luis"),
        ("luis/002.wav", "Aparte", "luis"),
        ("luis/003", "", None),
    ]


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no table"):
        read_table(tmp_path / "nowhere.csv")
    with pytest.raises(ValueError, match="has no recordings"):
        read_table(tmp_path)
    (tmp_path / "a.jsonl").write_text("[1, 2]\n")
    with pytest.raises(ValueError, match="no JSON objects"):
        read_table(tmp_path / "a.jsonl")
    (tmp_path / "b.csv").write_text("audio,text\n")
    with pytest.raises(ValueError, match="a header and no rows"):
        read_table(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("audio,opinion\na.wave,Bien\n")
    with pytest.raises(ValueError, match="has the columns|header and no rows"):
        read_table(tmp_path / "c.csv")


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=5), shape=st.sampled_from([",", ";", "\t", "|", "json"]))
def test_every_text_survives_every_shape(tmp_path_factory, texts, shape):
    folder = tmp_path_factory.mktemp("table")
    rows = [(f"clips/{i}.wav", text, f"voz {i}", "MX") for i, text in enumerate(texts)]
    names = ("audio", "text", "speaker", "country")
    if shape == "json":
        content = "".join(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)
    else:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=shape).writerows([names, *rows])
        content = buffer.getvalue()
    table = folder / ("train.jsonl" if shape == "json" else "train.csv")
    table.write_text(content, encoding="utf-8", newline="")
    read = read_table(table)
    assert [(row.audio, row.speaker, row.country) for row in read] == [
        (folder / audio, speaker, country) for audio, _, speaker, country in rows
    ]
    assert [row.text for row in read] == texts
