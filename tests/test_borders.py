"""The rooms of hfpipe: what travels to the Hub stands alone, and fine-tuning meets the pipeline in files."""

import ast
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_import_files

import hfpipe
from hfpipe.pipeline import hub_code, hub_space

ROOT = Path(__file__).parent.parent
PIPELINE = ROOT / "hfpipe" / "pipeline"
MODULES = sorted(PIPELINE.glob("*.py"))


def imports(file: Path):
    """Yield (level, module, names) of each import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name, []) for alias in node.names)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.stem)
def test_nothing_in_the_pipeline_imports_from_outside_it(file):
    for level, module, _ in imports(file):
        assert level <= 1, f"{file.name} imports from above its folder: {module}"
        assert module.split(".")[0] not in ("hfpipe", "finetune"), f"{file.name} imports {module} by its full name"
        if level == 1:  # transformers copies flat siblings, named as `from .module import name`
            assert (PIPELINE / f"{module}.py").is_file(), f"{file.name} imports {module or 'a module by `from .`'}"


def test_the_pipeline_is_flat():
    assert not [path for path in PIPELINE.iterdir() if path.is_dir() and path.name != "__pycache__"]


def test_finetune_and_hfpipe_meet_in_files():
    """finetune takes modules for audio, text, models and voices; hfpipe imports finetune only to run its commands."""
    allowed = ("asr_", "audio", "text_", "tts_", "files", "errors", "logs", "hub_access", "hub_cache", "cpu_threads")
    for file in (ROOT / "finetune").rglob("*.py"):
        for _, module, names in imports(file):
            if module.startswith("hfpipe.pipeline"):
                module = module.removeprefix("hfpipe.pipeline").removeprefix(".") or names[0]
                assert module.startswith(allowed), f"{file.name} imports {module}"
    for file in (ROOT / "hfpipe").rglob("*.py"):
        assert not any(module.split(".")[0] == "finetune" for level, module, _ in imports(file) if level == 0), file


def closure(*modules: str) -> set[str]:
    files = {PIPELINE / f"{module}.py" for module in modules}
    for file in list(files):
        files |= set(map(Path, get_relative_import_files(str(file))))
    return {file.name for file in files}


def pushed(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("*.py")}


def test_a_repo_carries_what_its_parts_need_and_no_more(voice_qa, tiny_whisper, tiny_chat, tiny_xtts, tmp_path):
    voice_qa.save_pretrained(tmp_path / "vits")
    assert pushed(tmp_path / "vits") == {"voice_qa_repo.py"} | closure("voice_qa", "llm_local", "tts_transformers")
    assert not [
        name for name in pushed(tmp_path / "vits") if name.startswith(("tts_xtts", "tts_kokoro", "llm_remote"))
    ]
    pipe = hfpipe.load(str(tiny_whisper), llm=str(tiny_chat), tts=str(tiny_xtts))
    pipe.save_pretrained(tmp_path / "xtts")
    assert pushed(tmp_path / "xtts") == {"voice_qa_repo.py"} | closure("voice_qa", "llm_local", "tts_xtts")
    needed = (tmp_path / "xtts" / "requirements.txt").read_text()
    assert "coqui-tts" in needed and "coqui-tts" not in (tmp_path / "vits" / "requirements.txt").read_text()
    pipe.save_pretrained(tmp_path / "vits")  # what the older repo carried and this one doesn't need goes
    assert pushed(tmp_path / "vits") == pushed(tmp_path / "xtts")


@pytest.mark.offline
def test_the_offline_repo_carries_its_own_parts(offline_pipe, tmp_path):
    hub_code.write_code(offline_pipe, tmp_path)
    assert pushed(tmp_path) == {"voice_qa_repo.py"} | closure("voice_qa", "llm_local", "tts_kokoro")


def test_every_module_of_the_pipeline_travels_with_some_repo():
    """But for a part behind a server, which can't be saved, and for what travels to a Space and stands alone."""
    travels = set().union(
        *(closure("voice_qa", module) for module in hub_code.MODULES.values() if module != "llm_remote")
    )
    to_spaces = {name for name in hub_space.DEMO if name.endswith(".py")}
    assert {file.name for file in MODULES} - travels == {"__init__.py", "llm_remote.py"} | to_spaces
    assert not [level for name in to_spaces for level, _, _ in imports(PIPELINE / name) if level]


def test_a_part_that_a_repo_does_not_carry_says_what_to_do(monkeypatch):
    monkeypatch.setitem(hub_code.MODULES, "XTTS", "tts_missing")
    with pytest.raises(ImportError, match="carries what its own parts need.*install hfpipe.*hfpipe.load"):
        hub_code.import_part("XTTS")
