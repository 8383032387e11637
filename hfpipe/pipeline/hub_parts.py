"""Find the parts of a voice-qa repo, and know where each came from."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers.utils.hub import resolve_revision

from .hub_access import DEFAULT_PARTS, DEFAULT_WHISPER, WITHOUT_HUB, check_reachable, split_revision

PARTS = ("llm", "tts")
EXAMPLE_PARTS = {
    "llm": "'Qwen/Qwen2.5-1.5B-Instruct' or 'google/flan-t5-base'",
    "tts": "'coqui/XTTS-v2' or 'facebook/mms-tts-spa'",
}
PINNED = dict(map(split_revision, DEFAULT_PARTS.values()))
REFERENCE = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")


class Source(NamedTuple):
    """Where a model was loaded from: a folder, or a Hub id at a commit."""

    name: str
    revision: str | None = None

    @property
    def is_folder(self) -> bool:
        return os.path.isdir(self.name)

    def find(self, file: str) -> Path | None:
        """Find a file of the model in its folder or in the Hub's cache, without asking the Hub."""
        if self.is_folder:
            found = os.path.join(self.name, file)
        else:
            try:
                found = try_to_load_from_cache(self.name, file, revision=self.revision)
            except HFValidationError:  # a folder that is gone
                found = None
        return Path(found) if isinstance(found, str) and os.path.isfile(found) else None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


def find_source(name: str, revision: str | None, token, argument: str) -> Source:
    """Pin a Hub id to the commit that its revision is now at; a folder stays as it is.

    Args:
        name: a folder or a Hub id.
        revision: branch, tag or commit; None is the main branch, or for a default part the commit that is pinned.
        token: for a private repo.
        argument: the argument that gave the name, for the message.

    Raises:
        OSError: neither a folder, nor in the cache, nor on a Hub that answers.
    """
    if os.path.isdir(name):
        return Source(name)
    check_reachable(name, revision, argument)
    revision = resolve_revision(name, revision or PINNED.get(name), token=token)
    return Source(name, getattr(revision, "resolved", revision))


def find_part(part: str, config, whisper: Source, token) -> Source:
    """Find the part that a repo's config names: a folder of the repo, downloaded if need be, or another repo.

    Args:
        part: "llm" or "tts".
        config: the Whisper's configuration, whose `voice_qa` names the parts.
        whisper: where the Whisper was loaded from.
        token: for a private repo.

    Raises:
        ValueError: it names none, or something that isn't a folder of the repo or "org/name@revision".
        OSError: the repo lacks the folder, or can't be reached.
    """
    named = getattr(config, "voice_qa", None) or {}
    if not named and whisper.name == DEFAULT_WHISPER[0]:
        named = DEFAULT_PARTS
    if not isinstance(named, dict):
        raise ValueError(
            f"the config.json of {whisper.name!r} has voice_qa {named!r}; valid is a dict of 'llm' and 'tts'. Load it "
            "again from where it came, or give llm= and tts=."
        )
    reference = named.get(part)
    if reference is None:
        raise ValueError(
            f"{whisper.name!r} has no {part!r} part: its config.json has no 'voice_qa' that names one. Give {part}= "
            f"{EXAMPLE_PARTS[part]}, a folder or an object; or load a voice-qa repo. {WITHOUT_HUB}"
        )
    if isinstance(reference, str) and re.fullmatch(r"[\w-]+", reference):
        return Source(find_folder(reference, whisper, token, part))
    if not isinstance(reference, str) or not REFERENCE.fullmatch(reference):
        raise ValueError(  # a repo from a stranger must not make us open any path
            f"the config.json of {whisper.name!r} names {reference!r} as its {part}; valid is a folder of the repo or "
            f"'org/name@revision'. Give {part}= to say it yourself."
        )
    name, revision = split_revision(reference)
    if os.path.isdir(name):
        raise ValueError(
            f"the config.json of {whisper.name!r} names the repo {name!r} as its {part}, and a folder of that name is "
            f"here. Give {part}={os.path.abspath(name)!r} if that is meant, or start from another folder."
        )
    return find_source(name, revision, token, part)


def find_folder(folder: str, whisper: Source, token, part: str, only: str = "*") -> str:
    """Return the path of a repo's folder, downloaded if the repo is on the Hub.

    Args:
        folder: name of the folder in the repo.
        whisper: the repo.
        token: for a private repo.
        part: what the folder holds, for the message.
        only: pattern of the files that are wanted.

    Raises:
        OSError: no such folder, or it can't be downloaded.
    """
    repo = whisper.name
    if not whisper.is_folder:
        try:
            repo = snapshot_download(
                whisper.name, revision=whisper.revision, token=token, allow_patterns=f"{folder}/{only}"
            )
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            raise OSError(
                f"the folder {folder!r} ({part}) of {whisper.name!r} can't be downloaded: "
                f"{str(error).splitlines()[0]} Check the connection, and token= if the repo is private."
            ) from error
    path = os.path.join(repo, folder)
    if not os.path.isdir(path):
        raise OSError(
            f"the repo {whisper.name!r} lacks its folder {folder!r} ({part}). Download it again, or give {part}=."
        )
    return path
