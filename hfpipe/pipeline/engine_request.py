"""The options of one call of the pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .asr_whisper import language_code
from .audio import Reference, load_reference
from .text_locale import region_of


@dataclass(frozen=True)
class Request:
    """What a call asks for besides the question; see `VoiceQAPipeline.__call__`. None is the part's own default.

    Attributes:
        language: ISO 639-1 code of question and answer; None detects it.
        locale: the language with its region ("es-MX"), for the answer and how it is read aloud; None has no region.
        speaker_wav: recordings of the voice to answer in, decoded and checked.
        speaker_text: what is said in these, for a part that wants to know; None lets Whisper write it down.
        speaker: instead of these, the name of a voice.
        compare: also speak in the part's own voice.
        system_prompt: the instruction to the LLM.
        history: earlier turns in chat format, oldest first.
        max_new_tokens: the longest answer, in tokens.
        generate_kwargs: further options of the LLM.
        tts_kwargs: further options of the voice.
    """

    language: str | None = "es"
    locale: str | None = None
    speaker_wav: tuple[Reference, ...] | None = None
    speaker_text: str | None = None
    speaker: str | None = None
    compare: bool = False
    system_prompt: str | None = None
    history: tuple[dict, ...] | None = None
    max_new_tokens: int | None = None
    generate_kwargs: Mapping[str, Any] = field(default_factory=dict)
    tts_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def updated(self, **options) -> "Request":
        """Return a request in which the options given, as a caller writes them, replace these.

        Raises:
            TypeError: no such option.
            ValueError, FileNotFoundError: a language that Whisper doesn't know, an unfit `speaker_wav`, `speaker_text`
                without it, or `compare` without a voice.
        """
        valid = [each.name for each in fields(self) if each.name != "locale"]  # it comes with the language
        unknown = sorted(options.keys() - set(valid))
        if unknown:
            raise TypeError(f"voice-qa got the arguments {unknown}; valid are {valid}.")
        if "language" in options:
            tag, code = options["language"], language_code(options["language"])
            options["language"] = code
            options["locale"] = f"{code}-{region_of(str(tag))}" if code and region_of(str(tag)) else None
        if options.get("speaker_wav") is not None:
            options["speaker_wav"] = tuple(load_reference(options["speaker_wav"]))
        if "speaker_wav" in options:  # the words of another recording say nothing of this one
            options.setdefault("speaker_text", None)
        if options.get("history") is not None:
            options["history"] = tuple(options["history"])
        for name in ("generate_kwargs", "tts_kwargs"):
            if name in options:
                options[name] = dict(options[name] or {})
        request = replace(self, **options)
        if request.speaker_text is not None and request.speaker_wav is None:
            raise ValueError("speaker_text is what is said in speaker_wav: give the recording as well.")
        if request.compare and not request.has_voice:
            raise ValueError("compare=True sets a cloned voice beside the part's own: give speaker_wav= as well.")
        return request

    def reading(self, language: str) -> str:
        """Return the tag of a language (ISO 639-1) in the answer: with the region that is asked for."""
        return self.locale if self.locale and self.locale.startswith(f"{language}-") else language

    @property
    def has_voice(self) -> bool:
        """Whether a voice is asked for, by recordings or by name."""
        return self.speaker_wav is not None or self.speaker is not None

    def in_own_voice(self) -> "Request":
        """Return the request without the voice that it asks for."""
        return replace(self, speaker_wav=None, speaker_text=None, speaker=None, compare=False)

    def llm_options(self) -> dict[str, Any]:
        """Return what the LLM is called with besides question and language: what was given, and nothing else."""
        history = None if self.history is None else list(self.history)
        given: dict[str, Any] = {"system_prompt": self.system_prompt, "max_new_tokens": self.max_new_tokens}
        given = {name: value for name, value in {**given, "history": history}.items() if value is not None}
        return given | dict(self.generate_kwargs)
