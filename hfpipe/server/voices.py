"""Voices that clients upload, each with who consented: kept in the server's own folder."""

import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from ..pipeline.audio import Reference
from ..pipeline.engine_protocols import NamesVoices, SavesVoices
from ..pipeline.files import atomic_write, write_text
from ..pipeline.tts_voices import SavedVoice, write_voices
from .errors import ApiError

MAX_KEPT = 200  # voices, and consents, so that clients can't fill the disk
MAX_CONSENT_BYTES = 10 << 20  # OpenAI's limit
FILE = "voice_{}.safetensors"  # as `write_voices` names it


class Voices:
    """The voices that a server keeps.

    Args:
        tts: the part that speaks.
        folder: of the server; made for this user alone.

    Raises:
        OSError: the folder can't be made or written. ValueError: a voice in it is damaged or another model's.
    """

    def __init__(self, tts, folder: Path):
        self.tts, self.folder, self.consents = tts, folder / "voices", folder / "consents"
        self._lock = threading.Lock()
        for each in (folder, self.folder, self.consents):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        if isinstance(tts, SavesVoices):
            tts.read_voices(self.folder)

    def names(self) -> list[dict[str, Any]]:
        """Return the voices that can be asked for: the model's own, and those saved with their consent."""
        saved = self.tts.saved_voices if isinstance(self.tts, SavesVoices) else {}
        speakers = self.tts.speakers if isinstance(self.tts, NamesVoices) else ()
        own = [{"id": name, "name": name, "object": "audio.voice", "saved": False} for name in speakers]
        return [each for each in own if each["name"] not in saved] + [self._describe(each) for each in saved.values()]

    def save(self, name: str, reference: tuple[Reference, ...], consent_by: str, consent_on: str | None) -> dict:
        """Save what the model computes of a recording, never the recording.

        Raises:
            ApiError: the model can't save voices, or there are too many.
            ValueError: the name, the consent or the recording is unfit.
        """
        if not isinstance(self.tts, SavesVoices):
            message = f"the voice part ({type(self.tts).__name__}) can't save voices; serve XTTS or Kokoro."
            raise ApiError(400, message, "voices_not_supported")
        with self._lock:
            self._check_room(len(list(self.folder.glob("voice_*"))), "voices")
            voice = self.tts.save_voice(name, list(reference), consent_by, consent_on)
            write_voices({name: voice}, self.folder)
        return self._describe(voice)

    def delete(self, name: str) -> None:
        """Delete a voice that was uploaded; raise `ApiError` if there is none of that name."""
        with self._lock:
            saved = self.tts.saved_voices if isinstance(self.tts, SavesVoices) else {}
            if name not in saved or not self._file(name).is_file():
                raise ApiError(404, f"no voice {name!r} was uploaded here.", "voice_not_found")
            self._file(name).unlink()
            self.tts.saved_voices = {key: voice for key, voice in saved.items() if key != name}

    def add_consent(self, name: str, language: str, recording: bytes) -> dict:
        """Keep the recording of a consent, and return it as OpenAI's API describes it.

        Raises:
            ApiError: it is too large, or there are too many.
        """
        if len(recording) > MAX_CONSENT_BYTES:
            message = f"the recording has {len(recording)} bytes; valid is up to {MAX_CONSENT_BYTES}."
            raise ApiError(413, message, "too_large", "recording")
        self._check_room(len(self.list_consents()), "consents")
        key = f"cons_{uuid.uuid4().hex}"
        consent: dict[str, Any] = {"id": key, "object": "audio.voice_consent", "name": name, "language": language}
        consent["created_at"] = int(time.time())
        with atomic_write(self.consents / f"{key}.audio") as temporary:
            temporary.write_bytes(recording)
        write_text(self.consents / f"{key}.json", json.dumps(consent, ensure_ascii=False))
        return consent

    def list_consents(self) -> list[dict]:
        """Return the consents, oldest first."""
        found = [json.loads(file.read_text(encoding="utf-8")) for file in self.consents.glob("cons_*.json")]
        return sorted(found, key=lambda each: (each["created_at"], each["id"]))

    def find_consent(self, key: str) -> dict:
        """Return a consent; raise `ApiError` if there is none."""
        for consent in self.list_consents():  # no path is made of what a client sent
            if consent["id"] == key:
                return consent
        raise ApiError(404, f"there is no consent {key!r}.", "consent_not_found", "consent")

    def delete_consent(self, key: str) -> None:
        """Delete a consent and its recording; raise `ApiError` if there is none."""
        found = self.find_consent(key)["id"]
        for suffix in ("json", "audio"):
            (self.consents / f"{found}.{suffix}").unlink(missing_ok=True)

    def _check_room(self, count: int, what: str) -> None:
        if count >= MAX_KEPT:
            raise ApiError(400, f"{MAX_KEPT} {what} are kept already; delete one first.", "too_many")

    def _file(self, name: str) -> Path:
        return self.folder / FILE.format(name)

    def _describe(self, voice: SavedVoice) -> dict[str, Any]:
        file = self._file(voice.name)
        created = {"created_at": int(file.stat().st_mtime)} if file.is_file() else {}
        named = {"id": voice.name, "name": voice.name, "object": "audio.voice", "saved": True, "type": "audio_sample"}
        return {**named, **created, "consent_by": voice.consent_by, "consent_on": voice.consent_on}
