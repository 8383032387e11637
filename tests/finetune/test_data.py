"""Tables are read in any common format, and split without leaks."""

import csv
import time
import unicodedata

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.audio_files import find_files
from finetune.data import MISSING, Row, content, is_table, load, read_rows, split, stream_rows

# What a table keeps as it is: letters are composed, and what programs write for a missing value is none.
SENTENCE = (
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)
    .map(lambda text: unicodedata.normalize("NFC", text).strip())
    .filter(lambda text: text and text.lower() not in MISSING)
)


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


SPANISH = "¿Qué año? ¡Mañana, pingüino! Él comió ñoquis en México, D. F."
SHORT = [
    "Sí",
    "¿Qué?",
    "año",
    "¡Ya!",
    "CANCIÓN",
    "Ñandú",
    "Ávila",
    "Él",
    "día",
    "pingüino",
    "México",
    "útil",
    "MAÑANA",
]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp850", "mac_roman", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("sentence", [SPANISH, SPANISH.upper(), *SHORT])
def test_the_encoding_that_gives_spanish_is_chosen_and_noted(tmp_path, encoding, sentence):
    table = tmp_path / "train.csv"
    table.write_bytes(f"audio;sentence\na.wav;{sentence}\nb.wav;hola\n".encode(encoding))
    with pytest.warns(UserWarning, match="Save it as UTF-8"):
        rows = read_rows(table)
    assert [row.sentence for row in rows] == [sentence, "hola"] and rows[0].notes


def test_the_encoding_is_named(tmp_path):
    for encoding, name in (("cp1252", "Windows-1252"), ("cp850", "cp850"), ("mac_roman", "Mac Roman")):
        (tmp_path / "t.csv").write_bytes(f"audio,sentence\na.wav,{SPANISH!r}\n".encode(encoding))
        with pytest.warns(UserWarning, match=name):
            assert name in read_rows(tmp_path / "t.csv")[0].notes[0]


def test_typography_and_other_languages_stay_windows_1252(tmp_path):
    sentence = "“Año” – dijo «él»… c’est déjà l’été à Genève, müde Köln, João"
    (tmp_path / "t.csv").write_bytes(f"a.wav|{sentence}\n".encode("cp1252"))
    with pytest.warns(UserWarning, match="Windows-1252"):
        assert read_rows(tmp_path / "t.csv")[0].sentence == sentence


def test_only_the_lines_that_are_not_utf8_are_decoded_otherwise(tmp_path):
    (tmp_path / "t.csv").write_bytes("a.wav,¿Qué año?\n".encode() + "b.wav,¿Qué año?\n".encode("cp850"))
    with pytest.warns(UserWarning, match="1 lines aren't UTF-8 like the rest .* line 2"):
        assert [row.sentence for row in read_rows(tmp_path / "t.csv")] == ["¿Qué año?"] * 2


def test_decomposed_letters_are_composed_and_noted(tmp_path):
    (tmp_path / "t.csv").write_text(
        "audio,transcripcio\u0301n,pai\u0301s\na.wav,An\u0303o,Peru\u0301\nb.wav,Año,Perú\n"
    )
    first, second = read_rows(tmp_path / "t.csv")
    assert first.sentence == second.sentence == "Año" and first.extra == second.extra == {"país": "Perú"}
    assert [kind for kind, _ in first.found] == ["decomposed letters"] and not second.found


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "<NA>", "null", "NaT", "#N/A"])
def test_missing_values_of_pandas_are_no_text_and_no_speaker(tmp_path, missing):
    (tmp_path / "t.csv").write_text(
        f"audio,sentence,speaker\na.wav,{missing},ana\nb.wav,Nada,{missing}\n{missing},Sí,ana\n"
    )
    first, second, third = read_rows(tmp_path / "t.csv")
    assert first.sentence == "" and first.found == (("no text", f"{missing!r}, as pandas writes a missing value"),)
    assert second.sentence == "Nada" and second.speaker is None and third.audio == ""


def test_a_lost_quote_changes_only_the_lines_that_it_swallowed(tmp_path):
    lines = [f'{i}.wav,"Uno, dos y {i}"' for i in range(40)]
    lines[7] = '7.wav,"Uno, dos y 7'
    (tmp_path / "t.csv").write_text("audio,sentence\n" + "\n".join(lines) + "\n")
    rows = read_rows(tmp_path / "t.csv")
    assert [row.sentence for row in rows] == [f"Uno, dos y {i}" for i in range(40)]
    assert [row.line for row in rows] == list(range(2, 42)) and not any(row.cells for row in rows)
    assert [(row.line, row.found) for row in rows if row.found] == [
        (9, (("unpaired quote", "lines 9 to 10 were read one by one"),))
    ]


def test_lost_quotes_do_not_unquote_cells_of_several_lines(tmp_path):
    text = 'audio,sentence\n0.wav,"Hola,\nadiós"\n1.wav,"Sin cierre\n2.wav,Dos\n'
    text += '3.wav,"Tres,\ntres"\n4.wav,"Sin, nada\n5.wav,Fin\n'
    (tmp_path / "t.csv").write_text(text)
    rows = read_rows(tmp_path / "t.csv")
    sentences = {row.written: row.sentence for row in rows}
    assert sentences["0.wav"] == "Hola,\nadiós" and sentences["2.wav"] == "Dos" and sentences["5.wav"] == "Fin"
    assert sentences["4.wav"] == "Sin, nada" and len(rows) >= 6


def test_a_text_of_several_lines_that_mentions_a_file_is_kept(tmp_path):
    (tmp_path / "t.csv").write_text('audio,sentence\na.wav,"Uno,\n\nescucha b.wav, dijo"\nc.wav,"Dos, x"\n')
    assert [row.sentence for row in read_rows(tmp_path / "t.csv")] == ["Uno,\n\nescucha b.wav, dijo", "Dos, x"]


@pytest.mark.parametrize("text", [
    'audio,sentence\n"a.wav,Uno\nb.wav,"Dos, dos"\nc.wav,Tres\n',
    '"audio,sentence\na.wav,Uno\nb.wav,"Dos, dos"\nc.wav,Tres\n',
    'audio,sentence\r\na.wav,Uno\r\n"b.wav,Dos\r\nc.wav,Tres\r\n',
])  # fmt: skip
def test_a_lost_quote_of_a_name_or_a_column_is_harmless(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, newline="")
    rows = read_rows(tmp_path / "t.csv")
    assert [row.written for row in rows] == ["a.wav", "b.wav", "c.wav"]
    assert [row.sentence.strip('"') for row in rows] in (["Uno", "Dos, dos", "Tres"], ["Uno", "Dos", "Tres"])


@pytest.mark.slow
def test_a_lost_quote_before_the_end_of_a_large_table_is_quick(tmp_path):
    with (tmp_path / "t.csv").open("w") as file:
        file.write('audio,sentence\na.wav,"Sin cierre\n')
        file.writelines(f"{i}.wav,Una frase de una longitud que es usual {i}\n" for i in range(50_000))
    start = time.perf_counter()
    rows = read_rows(tmp_path / "t.csv")
    assert len(rows) == 50_001 and rows[-1].sentence.endswith("49999") and time.perf_counter() - start < 60


def test_ids_without_an_extension_are_rows_too(tmp_path):
    (tmp_path / "wavs").mkdir()
    (tmp_path / "wavs" / "LJ-1.wav").touch()
    (tmp_path / "t.csv").write_text('LJ-1|"Hola\nLJ-2|Sí\nLJ-3|No\n')
    rows = read_rows(tmp_path / "t.csv")
    assert [row.sentence for row in rows][1:] == ["Sí", "No"] and rows[0].audio == str(tmp_path / "wavs" / "LJ-1.wav")


def find_one(folder, cell, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return find_files([cell], folder)[cell]


@pytest.mark.parametrize("cell, file, place", [
    ("a.wav", "a.wav", ""),
    ("a.mp3", "clips/a.mp3", "clips/"),
    ("a.wav", "audio/a.wav", "audio/"),
    ("a.wav", "wavs/a.wav", "wavs/"),
    ("a.wav", "deep/er/a.wav", "deep/"),
    ("ana/a.wav", "clips/ana/a.wav", "clips/"),
    ("clips\\a.wav", "clips/a.wav", "the table's folder, in another spelling"),
    ("ana\\a.wav", "wavs/ana/a.wav", "wavs/"),
    ("C:\\Users\\ana\\corpus\\clips\\a.wav", "clips/a.wav", "the table's folder, in another spelling"),
    ("C:/corpus/a.wav", "a.wav", "the table's folder, in another spelling"),
    ("\\\\server\\share\\a.wav", "clips/a.wav", "clips/"),
    ("/home/ana/corpus/a.wav", "a.wav", "the table's folder, in another spelling"),
    ("/home/ana/corpus/clips/a.wav", "clips/a.wav", "the table's folder, in another spelling"),
    ("/content/drive/x/a.wav", "audio/a.wav", "audio/"),
    ("data/clips/a.wav", "clips/a.wav", "the table's folder, in another spelling"),
    ("../audio/a.wav", "wavs/a.wav", "wavs/"),
    ("./a.wav", "clips/a.wav", "clips/"),
    ("man\u0303ana.wav", "mañana.wav", "the table's folder, in another spelling"),
    ("mañana.wav", "man\u0303ana.wav", "the table's folder, in another spelling"),
    ("a.WAV", "a.wav", "the table's folder, in another spelling"),
    ("a.wav", "clips/A.Wav", "clips/"),
    ("a%20b.wav", "a b.wav", "the table's folder, in another spelling"),
    ("clips/ma%C3%B1ana.wav", "clips/mañana.wav", "the table's folder, in another spelling"),
    ("100%.wav", "clips/100%.wav", "clips/"),
    ("file:///home/ana/a.wav", "clips/a.wav", "clips/"),
    ("file://localhost/home/ana/a.wav", "a.wav", "the table's folder, in another spelling"),
    ("LJ001-0001", "wavs/LJ001-0001.wav", "wavs/"),
])  # fmt: skip
def test_files_are_found_in_the_usual_places(tmp_path, cell, file, place):
    found = find_one(tmp_path, cell, file, "clips/other.wav")
    assert found == (str(tmp_path / file), place, "")


def test_a_file_url_of_this_machine_is_found(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a b.wav").touch()
    (tmp_path / "table").mkdir()
    cell = (tmp_path / "elsewhere" / "a b.wav").as_uri()
    assert find_files([cell], tmp_path / "table")[cell].path == str(tmp_path / "elsewhere" / "a b.wav")


def test_the_likest_of_several_files_is_found(tmp_path):
    files = ("train/a.wav", "test/a.wav")
    assert find_one(tmp_path, "/home/ana/train/a.wav", *files).path == str(tmp_path / "train/a.wav")
    assert find_one(tmp_path, "test\\A.wav", *files).path == str(tmp_path / "test/a.wav")
    assert find_one(tmp_path, "b.wav", "clips/b.wav", "b/c/b.wav").path == str(tmp_path / "clips/b.wav")


def test_no_file_is_guessed(tmp_path):
    found = find_one(tmp_path, "a.wav", "x/a.wav", "y/a.wav")
    assert found.path == str(tmp_path / "a.wav") and "x/a.wav and y/a.wav" in found.problem
    (tmp_path / "luis").mkdir()
    (tmp_path / "luis" / "1.wav").touch()
    found = find_files(["ana/1.wav", "luis/1.wav"], tmp_path)
    assert found["luis/1.wav"] == (str(tmp_path / "luis/1.wav"), "", "") and "luis/1.wav" in found["ana/1.wav"].problem
    found = find_files(["/x/ana/1.wav", "/x/eva/1.wav"], tmp_path)
    assert all(file.problem for file in found.values())
    assert find_files(["http://x/a.wav", "none.wav"], tmp_path)["none.wav"] == (str(tmp_path / "none.wav"), "", "")


@pytest.mark.slow
def test_many_rows_elsewhere_are_found_quickly(tmp_path):
    (tmp_path / "clips").mkdir()
    for i in range(2000):
        (tmp_path / "clips" / f"{i}.mp3").touch()
    start = time.perf_counter()
    found = find_files([*(f"{i}.mp3" for i in range(2000)), *(f"C:\\x\\gone{i}.mp3" for i in range(50_000))], tmp_path)
    assert sum(file.place == "clips/" for file in found.values()) == 2000
    assert time.perf_counter() - start < 30


def test_common_voice_is_read_as_it_is_unpacked(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "common_voice_es_1.mp3").touch()
    (tmp_path / "train.tsv").write_text("client_id\tpath\tsentence\nx\tcommon_voice_es_1.mp3\tHola\n")
    (row,) = read_rows(tmp_path / "train.tsv")
    assert row.audio == str(tmp_path / "clips" / "common_voice_es_1.mp3") and row.name == "common_voice_es_1.mp3"
    assert row.notes == ("audio found in clips/",)


@pytest.mark.parametrize("written, name", [
    ("clips/a.wav", "clips/a.wav"),
    ("clips\\a.wav", "clips\\a.wav"),
    ("/home/ana/a.wav", "a.wav"),
    ("C:\\Users\\ana\\a.wav", "a.wav"),
    ("file:///home/ana/a.wav", "a.wav"),
    ("https://example.org/a.wav", "https://example.org/a.wav"),
])  # fmt: skip
def test_reports_name_no_absolute_path(written, name):
    assert Row("/x/a.wav", "hola", 1, written=written).name == name


@pytest.mark.parametrize("columns, values, chosen", [
    (["transcription", "raw_transcription"], ["hola amigo", "¡Hola, amigo!"], "raw_transcription"),
    (["raw_text", "normalized_text"], ["Hola, amigo.", "hola amigo"], "raw_text"),
    (["text", "sentence"], ["Hola, amigo.", "hola amigo"], "text"),
    (["sentence", "text"], ["Hola, amigo.", "Hola, amigo."], "sentence"),
    (["text", "normalized_text"], ["HOLA AMIGO", "Hola, amigo"], "normalized_text"),
    (["raw_text", "normalized_text"], ["", "hola amigo"], "raw_text"),
])  # fmt: skip
def test_the_text_column_is_the_one_as_people_write(tmp_path, columns, values, chosen):
    (tmp_path / "t.csv").write_text(f"audio|{'|'.join(columns)}\na.wav|{'|'.join(values)}\n")
    (row,) = read_rows(tmp_path / "t.csv")
    assert row.sentence == values[columns.index(chosen)]
    assert any(f"the column {chosen!r}" in note for note in row.notes)


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


@pytest.mark.parametrize("empty", [0, 3, 7])
def test_an_unnamed_row_is_a_group_of_its_own(empty):
    rows = [row(f"frase {i % 4}", "abcdefgh"[i % 8], i) for i in range(40)]
    rows[empty] = row("frase", None, empty)
    first, second = split(rows, 0.25, 1)
    assert not {r.speaker for r in first if r.speaker} & {r.speaker for r in second if r.speaker}
    assert len(first) + len(second) == 40 and 5 <= len(second) <= 10


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
