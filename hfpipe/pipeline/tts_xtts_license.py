"""Ask the user once to accept the license of XTTS's weights, and remember the acceptance."""

import contextlib
import os
import sys

from .files import write_text
from .hub_access import XTTS_LICENSE_URL
from .hub_cache import cache_folder

LICENSE_COPY = "https://huggingface.co/coqui/XTTS-v2/blob/main/LICENSE.txt"
LICENSE_VARIABLE = "COQUI_TOS_AGREED"  # the environment variable that coqui-tts uses; "1" is acceptance
LICENSE_FILE = "coqui-cpml-accepted"
YES = {"y", "yes", "s", "si", "sí"}


def require_license() -> None:
    """Ensure that the user accepted the Coqui Public Model License, asking in a terminal or notebook if necessary.

    Raises:
        PermissionError: the license wasn't accepted, or the session isn't interactive.
    """
    accepted = cache_folder() / LICENSE_FILE
    if os.environ.get(LICENSE_VARIABLE) == "1" or accepted.is_file():
        return
    if _is_interactive() and _ask():
        accepted.parent.mkdir(parents=True, exist_ok=True)
        write_text(accepted, f"The Coqui Public Model License, {XTTS_LICENSE_URL}, was accepted here.\n")
        return
    raise PermissionError(
        "XTTS's weights are only downloaded after you accept their license, the Coqui Public Model License "
        f"(non-commercial use only): read {XTTS_LICENSE_URL} or {LICENSE_COPY}, and if you agree set "
        f"{LICENSE_VARIABLE}=1 and try again. Or give another tts model."
    )


def _ask() -> bool:
    """Ask the user to accept the license; return whether they did."""
    print(
        "XTTS's weights are under the Coqui Public Model License (CPML): they, and the speech they make, are for "
        f"non-commercial use only. Read it at {XTTS_LICENSE_URL} or {LICENSE_COPY}."
    )
    with contextlib.suppress(EOFError, RuntimeError):  # RuntimeError: a notebook executed without a frontend
        return input("Do you accept the license? [y/N] ").strip().lower() in YES
    return False


def _is_interactive() -> bool:
    if sys.stdin is not None and sys.stdin.isatty():
        return True
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
