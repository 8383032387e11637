"""Colab is detected, files are only uploaded in it, and its torch is kept if it fits."""

import sys

import install
import pytest

from hfpipe.notebook.colab import in_colab, upload


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """Install a stand-in for Colab's package, whose user chooses no file."""
    package = tmp_path / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "files.py").write_text("def upload():\n    return {}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for module in [name for name in sys.modules if name.startswith("google.colab")]:
        del sys.modules[module]  # otherwise other tests would detect Colab


def test_elsewhere_a_path_is_asked_for():
    assert not in_colab()
    with pytest.raises(RuntimeError, match="the question is Colab's; here give the file's path"):
        upload("the question")


def test_a_user_who_chooses_no_file_is_told(colab):
    assert in_colab()
    with pytest.raises(ValueError, match="no file was chosen for the question"):
        upload("the question")


@pytest.fixture
def pip(monkeypatch):
    """Record the calls of pip instead of running them."""
    asked = []
    monkeypatch.setattr(install, "_pip", lambda *arguments: asked.append(arguments))
    return asked


@pytest.fixture
def bare(monkeypatch):
    """A Python environment with torchvision, but without the packages of the laboratory."""
    monkeypatch.setattr(install, "_is_installed", lambda module: module == "torchvision")


def test_what_is_there_is_not_installed_again(pip, capsys):
    install.install(["lab", "finetune"])
    assert pip == []
    assert "ya está instalado" in capsys.readouterr().out


def test_a_torch_that_works_stays(pip, bare, monkeypatch):
    monkeypatch.setattr(install, "_imports", lambda module: True)
    install.install(["lab", "xtts"])
    (arguments,) = pip
    assert arguments[0] == "install" and arguments[-1].endswith("[lab,xtts]")
    assert arguments[1] == "-c" and arguments[2].endswith("requirements.txt")


def test_a_torch_of_another_build_is_replaced_and_a_broken_torchvision_goes(pip, bare, monkeypatch):
    monkeypatch.setattr(install, "_is_installed", lambda module: module in ("torchaudio", "torchvision"))
    monkeypatch.setattr(install, "_imports", lambda module: False)
    install.install(["lab"])
    assert pip[1][:2] == ("install", "--force-reinstall") and pip[1][-2:] == ("torch", "torchaudio")
    assert pip[2] == ("uninstall", "--yes", "torchvision")


@pytest.mark.slow
def test_what_pip_refuses_is_said():
    with pytest.raises(RuntimeError, match="no-such-package-of-ours"):
        install._pip("install", "--no-index", "no-such-package-of-ours")


def test_only_a_module_that_imports_counts():
    assert install._imports("json") and not install._imports("no_such_module_of_ours")
