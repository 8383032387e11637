"""The code that travels with a repo: the modules that its own parts need, and no others."""

import importlib
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_import_files

from .engine_protocols import NeedsPackages

MODULES = {  # the module of each class of a part
    "LLM": "llm_local",
    "RemoteLLM": "llm_remote",
    "XTTS": "tts_xtts",
    "Kokoro": "tts_kokoro",
    "ChatterboxTTS": "tts_chatterbox",
    "TransformersTTS": "tts_transformers",
}
FALLBACKS = {"llm": "LLM", "tts": "TransformersTTS"}  # what loads a part that somebody else's class saved
ENTRY = "voice_qa_repo"  # the module that is written for each repo
CUSTOM_PIPELINES = {  # by this transformers finds the code in the repo
    "voice-qa": {"impl": f"{ENTRY}.VoiceQAPipeline", "pt": ["AutoModelForSpeechSeq2Seq"], "type": "multimodal"}
}
REQUIREMENTS = (  # what the modules of each repo import; a part adds its own, as its attribute `requirements`
    "accelerate",
    "babel",
    "emoji",
    "markdown-it-py",
    "num2words",
    "numba",
    "psutil",
    "sentencepiece",
    "sentencex",
    "silero-vad",
    "soundfile",
    "soxr",
    "threadpoolctl",
    "torch",
    "transformers",
)


def import_part(name: str) -> type:
    """Import a class of a part, by a key of `MODULES`.

    Raises:
        ImportError: this is the code of a repo that doesn't carry it.
    """
    module = f"{__package__}.{MODULES[name]}"
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ImportError(
            f"the code of this repo has no {name}: it carries what its own parts need. For another part install "
            "hfpipe, and load the repo by hfpipe.load(…)."
        ) from error


def write_code(pipe, folder: Path) -> None:
    """Write the modules that load a repo without hfpipe, the one that names them, and what they need from PyPI."""
    here = Path(__file__).parent
    names = sorted({_class_name(part) or FALLBACKS[kind] for kind, part in (("llm", pipe.llm), ("tts", pipe.tts))})
    modules = {MODULES[name]: name for name in names} | {"voice_qa": "VoiceQAPipeline"}
    files = {here / f"{module}.py" for module in modules}
    for file in list(files):
        files |= set(map(Path, get_relative_import_files(str(file))))
    for file in sorted(files):
        shutil.copyfile(file, folder / file.name)
    imports = "".join(f"from .{module} import {name}\n" for module, name in sorted(modules.items()))
    exports = ", ".join(f'"{name}"' for name in sorted(modules.values()))
    (folder / f"{ENTRY}.py").write_text(
        f'"""The pipeline of this repo, and the classes of its parts."""\n\n{imports}\n__all__ = [{exports}]\n',
        encoding="utf-8",
    )
    needed = set(REQUIREMENTS)
    for part in (pipe.llm, pipe.tts):
        needed |= set(part.requirements) if isinstance(part, NeedsPackages) else set()
    (folder / "requirements.txt").write_text("".join(f"{name}{_pin(name)}\n" for name in sorted(needed)))


def modules_here() -> list[str]:
    """Return the names of the files that a repo may carry, by which an older push's are found."""
    return sorted(file.name for file in Path(__file__).parent.glob("*.py") if file.name != "__init__.py")


def _class_name(part) -> str | None:
    """Return the key in `MODULES` of a part's class, or of the class that it derives from."""
    ours = {f"{__package__}.{module}": name for name, module in MODULES.items()}
    return next((ours[kind.__module__] for kind in type(part).__mro__ if kind.__module__ in ours), None)


def _pin(name: str) -> str:
    try:
        return f"=={version(name).split('+')[0]}"  # without the build, which PyPI doesn't have
    except PackageNotFoundError:
        return ""
