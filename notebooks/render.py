"""Run the notebooks with the offline repo, and render them to notebooks/rendered: python notebooks/render.py

It needs the packages under [dev] in requirements.txt, and Chromium for the screenshot of the laboratory.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

NOTEBOOKS = Path(__file__).resolve().parent
RENDERED = NOTEBOOKS / "rendered"
SMALL = {"02_afinar_whisper": {"METODO": "full", "PASOS": 4, "LOTE": 2}}  # takes a minute on a CPU
TIMEOUT = 600  # seconds per cell, generous for a shared machine
WINDOW = "1150,1120"  # of the screenshot, in pixels


def execute(name: str, folder: Path, only: set[str] | None = None, **parameters):
    """Execute a notebook in a folder, injecting a parameters cell as papermill does.

    Args:
        name: file name in this folder, without the suffix.
        folder: working directory of the notebook.
        only: ids of the cells to run; None runs all.
        parameters: values for the notebook's form.

    Returns:
        The executed notebook.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if only is None or cell.id in only]
    if parameters:
        form = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
        given = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
        notebook.cells.insert(form + 1, nbformat.v4.new_code_cell(given, id="given"))
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", resources=resources).execute()
    return notebook


def write_markdown(notebook, name: str, folder: Path) -> None:
    """Render a notebook as Markdown with its images, but without audio, which would make it large."""
    text, resources = MarkdownExporter().from_notebook_node(
        notebook, {"unique_key": name, "output_files_dir": f"{name}_files"}
    )
    text = re.sub(r'"data:audio/[^"]*"', '""', text).replace(str(folder), "").replace(str(NOTEBOOKS.parent), "hfpipe")
    text = re.sub(r"\S*ipykernel_\d+/\d+\.py", "cell", text.replace(str(Path.home()), "~"))
    text = re.sub(r"[^\n]*\x1b\[[^\n]*\n|[^\n]*\d+%\|[^\n]*\n", "", text)  # progress bars
    text = re.sub(r"\n(?:[ \t]*\n){2,}", "\n\n", text)
    for path, picture in resources["outputs"].items():
        (RENDERED / path).parent.mkdir(exist_ok=True)
        (RENDERED / path).write_bytes(picture)
    (RENDERED / f"{name}.md").write_text(text, encoding="utf-8")


def take_picture(notebook, name: str, folder: Path) -> None:
    """Take a screenshot of the output of the comparison: table, chart, players, waveforms and metrics."""
    shown = nbformat.from_dict({**notebook, "cells": [c for c in notebook.cells if c.id.startswith("celda-7")]})
    html, _ = HTMLExporter(exclude_input=True, exclude_output_prompt=True).from_notebook_node(shown)
    page = folder / "page.html"
    page.write_text(html, encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WINDOW}"]
    command += ["--timeout=10000", f"--screenshot={RENDERED / name}.png", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    os.environ |= {"HFPIPE_CHECKOUT": str(NOTEBOOKS.parent), "HF_HUB_OFFLINE": "1"}
    shutil.rmtree(RENDERED, ignore_errors=True)
    RENDERED.mkdir()
    for name in sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(name, Path(folder), **SMALL.get(name, {}))
            write_markdown(notebook, name, Path(folder))
            if name.startswith("01") and shutil.which("chromium"):
                take_picture(notebook, name, Path(folder))
        print("rendered", name)
