"""Ask once for the acceptance of the licence of XTTS's weights, and remember a yes."""

import contextlib
import os
import sys

from .hub_cache import cache_folder

LICENCE_URL = "https://coqui.ai/cpml"
LICENCE_COPY = "https://huggingface.co/coqui/XTTS-v2/blob/main/LICENSE.txt"
LICENCE_VARIABLE = "COQUI_TOS_AGREED"  # coqui-tts reads the same one, with the same "1"
LICENCE_FILE = "coqui-cpml-accepted"
YES = {"y", "yes", "s", "si", "sí"}


def require_licence() -> None:
    """Makes sure that the user accepted the Coqui Public Model License: asks where somebody can answer.

    Raises:
        PermissionError: it isn't accepted, or there is nobody to ask.
    """
    accepted = cache_folder() / LICENCE_FILE
    if os.environ.get(LICENCE_VARIABLE) == "1" or accepted.is_file():
        return
    if _is_interactive() and _asks():
        accepted.parent.mkdir(parents=True, exist_ok=True)
        accepted.write_text(f"The Coqui Public Model License, {LICENCE_URL}, was accepted here.\n")
        return
    raise PermissionError(
        "XTTS's weights are downloaded only once you accept their licence, the Coqui Public Model License "
        f"(non-commercial use only): read {LICENCE_URL} or {LICENCE_COPY}, and if you agree set "
        f"{LICENCE_VARIABLE}=1 and try again. Or give another tts model."
    )


def _asks() -> bool:
    """Puts the question, and tells whether the answer was a yes."""
    print(
        "XTTS's weights are under the Coqui Public Model License (CPML): they, and the speech they make, are for "
        f"non-commercial use only. Read it at {LICENCE_URL} or {LICENCE_COPY}."
    )
    with contextlib.suppress(EOFError, RuntimeError):  # RuntimeError: a notebook that runs with nobody there
        return input("Do you accept the licence? [y/N] ").strip().lower() in YES
    return False


def _is_interactive() -> bool:
    if sys.stdin is not None and sys.stdin.isatty():
        return True
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
