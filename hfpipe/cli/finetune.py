"""`hfpipe finetune`: the command line of the `finetune` package, imported when it is run."""

import importlib
import importlib.util
import sys
from pathlib import Path

import typer

FOLDER = Path(__file__).parents[2] / "finetune"


def finetune(context: typer.Context) -> None:
    """Fine-tune, evaluate and export Whisper models; `hfpipe finetune --help` lists the commands."""
    load_app()(args=context.args, prog_name=context.command_path)


def load_app() -> typer.Typer:
    """Return the command line of the `finetune` package that is installed beside hfpipe.

    It is imported by its location, not through `sys.path`: a `finetune.py` in the current folder, or the unrelated
    package of that name on PyPI, may come first there.
    """
    loaded = sys.modules.get("finetune")
    if loaded is None or Path(loaded.__file__ or "").parent != FOLDER:
        spec = importlib.util.spec_from_file_location("finetune", FOLDER / "__init__.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["finetune"] = module
        spec.loader.exec_module(module)
    return importlib.import_module("finetune.__main__").app
