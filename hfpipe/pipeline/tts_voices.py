"""Keep a voice for later: what a model computed of a recording, never the recording, with its speaker's consent."""

import datetime
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .engine_protocols import NamesVoices, SavesVoices

NAME = re.compile(r"\w(?:[\w .-]{0,62}\w)?")  # is part of a file's name


@dataclass(frozen=True, eq=False)
class Voice:
    """A voice as a part computed it, of a recording or as its own.

    Attributes:
        tensors: what the part computed, by the part's own names, on the CPU.
    """

    tensors: dict[str, torch.Tensor]

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the tensors, by which caches know the voice."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            digest.update(name.encode() + self.tensors[name].cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class SavedVoice(Voice):
    """A voice that is kept under a name.

    Attributes:
        name: by which `speaker=` asks for it.
        consent_by: who agreed that the voice be cloned.
        consent_on: the day, as ISO 8601 writes it ("2026-11-22").
    """

    name: str
    consent_by: str
    consent_on: str


def check_voice(speaker_wav, speaker, part) -> None:
    """Raise ValueError unless a part has the voice that is asked for: by recordings, by a name, or by neither.

    Args:
        speaker_wav: recordings of a voice, or None.
        speaker: the name of a voice, or None.
        part: a `SpeechModel`.
    """
    if speaker is None:
        return
    if speaker_wav is not None:
        raise ValueError("both speaker_wav and speaker were given; give one: each says which voice to speak with.")
    speakers = part.speakers if isinstance(part, NamesVoices) else ()
    if speaker not in speakers:
        valid = ", ".join(map(repr, speakers)) or f"none, as {type(part).__name__} has no named voices"
        remedy = " pipe.tts.save_voice adds one." if isinstance(part, SavesVoices) else " Give another tts=."
        raise ValueError(f"there is no speaker {speaker!r}; valid is {valid}.{remedy}")


def make_voice(name: str, tensors: dict, taken, consent_by: str | None, consent_on) -> SavedVoice:
    """Return a voice to save, of what a part computed, if its name and its consent are in order.

    Args:
        name: letters, digits, spaces, dots and hyphens, at most 64.
        tensors: what the part computed.
        taken: names that are in use.
        consent_by: who agreed; None is the speaker, by the name that the voice has.
        consent_on: the day, a `datetime.date` or ISO text; None is today.

    Raises:
        ValueError: the name is unfit or taken, nobody agreed, or the day isn't one or is still to come.
    """
    check_name(name, taken)
    consent_by = name if consent_by is None else consent_by
    if not isinstance(consent_by, str) or not consent_by.strip():
        raise ValueError(f"consent_by is {consent_by!r}; give the name of whoever agreed that the voice be cloned.")
    today = datetime.date.today()
    try:
        day = today if consent_on is None else datetime.date.fromisoformat(str(consent_on))
    except ValueError as error:
        raise ValueError(f"consent_on is {consent_on!r}; valid is a day such as '{today}'.") from error
    if day > today + datetime.timedelta(days=1):  # it may be tomorrow already where the speaker is
        raise ValueError(f"consent_on is {day}, which is still to come; give the day on which {consent_by} agreed.")
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    return SavedVoice(tensors, name, consent_by, f"{day}")


def check_name(name: str, taken) -> None:
    """Raise ValueError if a name can't be a new voice's."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"a voice can't be called {name!r}; valid are at most 64 letters, digits, spaces, dots and hyphens, "
            "with a letter or digit first and last."
        )
    if name in taken:
        raise ValueError(f"there is a speaker {name!r} already; give another name. There are: {', '.join(taken)}.")


def write_voices(voices: dict[str, SavedVoice], folder: Path) -> None:
    """Write each voice as `voice_<name>.safetensors`, its consent in the file's own metadata."""
    for voice in list(voices.values()):
        metadata = {"name": voice.name, "consent_by": voice.consent_by, "consent_on": voice.consent_on}
        save_file(voice.tensors, folder / f"voice_{voice.name}.safetensors", metadata)


def read_voices(folder: Path, shapes: dict[str, tuple]) -> dict[str, SavedVoice]:
    """Read the voices in a folder, in the order of their names.

    Args:
        folder: where `write_voices` wrote them.
        shapes: what a voice of this model holds; None in a shape is any length.

    Raises:
        ValueError: a file is damaged, or another model's.
    """
    voices = {}
    for file in sorted(folder.glob("voice_*.safetensors")):
        try:
            with safe_open(file, "pt") as content:
                tensors = {key: content.get_tensor(key) for key in content.keys()}
                metadata = content.metadata() or {}
            voice = SavedVoice(tensors, metadata["name"], metadata["consent_by"], metadata["consent_on"])
            check_name(voice.name, voices)  # it becomes part of a file's name when the voice is saved again
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise ValueError(f"the voice {file} is damaged ({error!r}); copy it again or take it away.") from error
        found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
        if found.keys() != shapes.keys() or not all(_fits(found[key], shapes[key]) for key in shapes):
            raise ValueError(f"the voice {file} is another model's: it holds {found}; valid is {shapes}.")
        voices[voice.name] = voice
    return voices


def _fits(shape: tuple, wanted: tuple) -> bool:
    return len(shape) == len(wanted) and all(
        size in (length, None) for length, size in zip(shape, wanted, strict=True)
    )
