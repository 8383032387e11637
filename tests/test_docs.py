"""What the README shows runs."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.offline
def test_python_examples_run(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
        exec(compile(code, "README.md", "exec"), names)
    assert "París" in capsys.readouterr().out
    assert (tmp_path / "answer.wav").stat().st_size > 10_000
    assert set(names["result"]) <= set(re.findall(r"`(\w+)`", README))


def test_commands_are_targets_or_the_command_line():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    ci = (ROOT / ".ci" / "run").read_text()
    assert "make test" in ci and "make test" in README
