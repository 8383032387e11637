"""Install hfpipe with extras into this Python environment, keeping its torch if possible: python install.py EXTRA ...

Nothing is done if everything is installed already. A torch of the pinned version is kept, whatever its build (Colab's
is for its CUDA version); only if torchaudio can't be imported then are both reinstalled from PyPI. A torch of another
version is replaced, and a torchvision that is incompatible with the new one is uninstalled: hfpipe doesn't use it, and
transformers can't be imported next to a broken one.
"""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PINS = ["-c", str(CHECKOUT / "requirements.txt")]
PROBES = {
    "lab": "resemblyzer",
    "offline": "onnxruntime",
    "xtts": "TTS",
    "finetune": "peft",
}  # a module that each extra installs


def install(extras: list[str]) -> None:
    """Install hfpipe and the extras if any are missing, and print the steps, in Spanish like the notebooks."""
    missing = [extra for extra in extras if not _is_installed(PROBES[extra])]
    if not missing and _is_installed("hfpipe"):
        print("hfpipe ya está instalado con", ", ".join(extras))
        return
    print("Instalando hfpipe con", ", ".join(extras), "(unos minutos)")
    _pip("install", *PINS, f"{CHECKOUT}[{','.join(extras)}]")
    if _is_installed("torchaudio") and not _imports("torchaudio"):
        print("torch y torchaudio no son de la misma compilación: instalando las dos de PyPI")
        _pip("install", "--force-reinstall", *PINS, "torch", "torchaudio")
    if _is_installed("torchvision") and not _imports("torchvision"):
        print("torchvision es de otro torch: quitándolo")
        _pip("uninstall", "--yes", "torchvision")
    importlib.invalidate_caches()


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _imports(module: str) -> bool:
    """Return whether a module can be imported, in a new interpreter that sees the changes made by pip."""
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode == 0


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    install(sys.argv[1:])
