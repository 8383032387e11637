"""Tables are read in any common format, and split without leaks."""

import csv

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data import Row, content, is_table, load, read_rows, split, stream_rows

SENTENCE = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30).map(str.strip).filter(bool)


def row(sentence="hola", speaker=None, line=1):
    return Row(f"{line}.wav", sentence, line, {"speaker": speaker} if speaker else {})


@pytest.mark.parametrize("text", [
    "audio,sentence\na.wav,Hola\nb/b.flac,\"Uno, dos\"\n",
    "a.wav,Hola\nb/b.flac,\"Uno, dos\"\n",
    "path;sentence\na.wav;Hola\nb/b.flac;Uno, dos\n",
    "a.wav|Hola\nb/b.flac|Uno, dos\n",
    "audio\ttexto\na.wav\tHola\n\nb/b.flac\tUno, dos\n",
    "\ufeffAudio,Sentence\r\na.wav,Hola\r\nb/b.flac,\"Uno, dos\"\r\n",
    "text|file\nHola|a.wav\nUno, dos|b/b.flac\n",
])  # fmt: skip
def test_tables_with_any_delimiter_and_optional_header(tmp_path, text):
    table = tmp_path / "train.csv"
    table.write_text(text, encoding="utf-8")
    rows = read_rows(table)
    assert [row.audio for row in rows] == [str(tmp_path / "a.wav"), str(tmp_path / "b" / "b.flac")]
    assert [row.sentence for row in rows] == ["Hola", "Uno, dos"]


def test_extra_columns_and_line_numbers_are_kept(tmp_path):
    table = tmp_path / "train.csv"
    table.write_text('client_id,path,sentence,country\nana,a.mp3,"Hola\nadiós",MX\n\nluis,b.mp3,Sí,CL\n')
    first, second = read_rows(table)
    assert (first.line, second.line) == (2, 5)
    assert first.extra == {"client_id": "ana", "country": "MX"} and second.speaker == "luis"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_spreadsheets(tmp_path, encoding):
    table = tmp_path / "train.csv"
    table.write_bytes("audio;sentence\na.wav;¿Qué año?\n".encode(encoding))
    if encoding == "cp1252":
        with pytest.warns(UserWarning, match="Windows-1252"):
            rows = read_rows(table)
    else:
        rows = read_rows(table)
    assert rows[0].sentence == "¿Qué año?"


def test_an_unpaired_quote_swallows_no_rows(tmp_path):
    table = tmp_path / "train.csv"
    table.write_text('a.wav|"Hola, dijo\nb.wav|Sí\nc.wav|No\n')
    assert [row.sentence for row in read_rows(table)] == ['"Hola, dijo', "Sí", "No"]


def test_rows_with_surplus_or_missing_cells_are_marked(tmp_path):
    table = tmp_path / "train.csv"
    table.write_text("audio,sentence\na.wav,Hola, amigo\nb.wav\nc.wav,Sí\n")
    assert [row.cells for row in read_rows(table)] == [1, -1, 0]


@pytest.mark.parametrize("text, words", [
    ("", "is empty"),
    ("\n \n", "is empty"),
    ("just a line\nand another\n", "is no table"),
    ("audio,sentence\n", "no rows"),
    ("audio,words\na.wav,Hola\n", "one must be called sentence"),
])  # fmt: skip
def test_invalid_tables_raise(tmp_path, text, words):
    table = tmp_path / "train.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_rows(table)


def test_a_missing_table_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no table"):
        read_rows(tmp_path / "train.csv")


@settings(max_examples=60, deadline=None)
@given(sentences=st.lists(SENTENCE, min_size=1, max_size=8), delimiter=st.sampled_from(",;|\t"), header=st.booleans())
def test_tables_of_the_csv_module_are_read_back(tmp_path_factory, sentences, delimiter, header):
    table = tmp_path_factory.mktemp("csv") / "train.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("audio", "sentence")] * header)
        writer.writerows((f"{i}.wav", sentence) for i, sentence in enumerate(sentences))
    assert [row.sentence for row in read_rows(table)] == sentences


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    speakers=st.lists(st.sampled_from("abcdef"), min_size=2, max_size=40),
    share=st.floats(0.05, 0.5),
    seed=st.integers(0, 99),
)
def test_a_split_separates_speakers_and_loses_no_row(speakers, share, seed):
    rows = [row(f"frase {i}", speaker, i) for i, speaker in enumerate(speakers)]
    first, second = split(rows, share, seed)
    assert sorted(r.line for r in first + second) == list(range(len(rows)))
    assert first and second
    if len(set(speakers)) > 1:
        assert not {r.speaker for r in first} & {r.speaker for r in second}
    assert (first, second) == split(rows, share, seed)


def test_without_speakers_a_split_separates_sentences():
    rows = [row(["Sí.", "sí", "No", "Tal vez"][i % 4], line=i) for i in range(40)]
    first, second = split(rows, 0.25, 1)
    assert not {content(r.sentence) for r in first} & {content(r.sentence) for r in second}


def test_a_single_group_cannot_be_split():
    with pytest.raises(ValueError, match="say the same"):
        split([row("Hola", line=1), row("hola!", line=2)], 0.1, 0)


def test_a_dataset_is_streamed_without_decoding(tmp_path):
    """The Hub serves folders of parquet files; the audio stays encoded."""
    datasets = pytest.importorskip("datasets")
    soundfile.write(tmp_path / "a.flac", np.linspace(-0.5, 0.5, 8000), 16_000)
    audio = {"bytes": (tmp_path / "a.flac").read_bytes(), "path": "a.flac"}
    features = datasets.Features(
        {"audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
         "sentence": datasets.Value("string"), "gender": datasets.Value("string")}
    )  # fmt: skip
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(
        {"audio": [audio] * 3, "sentence": ["Uno", "Dos", None], "gender": ["f"] * 3}, features=features
    ).to_parquet(tmp_path / "set" / "train.parquet")
    rows = list(stream_rows(f"{tmp_path / 'set'}::train"))
    assert [r.sentence for r in rows] == ["Uno", "Dos", ""] and rows[0].extra == {"gender": "f"}
    np.testing.assert_allclose(load(rows[0]), np.linspace(-0.5, 0.5, 8000), atol=1e-4)
    with pytest.raises(ValueError, match="could not open the dataset"):
        next(stream_rows(f"{tmp_path / 'none'}::train"))


def test_tables_are_distinguished_from_hub_datasets(tmp_path):
    (tmp_path / "table").write_text("")
    assert is_table("train.csv") and is_table(tmp_path / "table") and is_table("DATA.TSV")
    assert not is_table("google/fleurs:es_419:train")
