"""Answer a spoken question in three steps: hear it, think, speak."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import AutomaticSpeechRecognitionPipeline

from .asr_whisper import transcribe
from .audio import SAMPLING_RATE, Recording, Reference, refuse_silence, resample
from .cpu_threads import refuse_forked_process
from .engine_clock import Clock
from .engine_events import Audio, PhraseEnd, Transcript
from .engine_protocols import (
    AnswersBatches,
    ClonesVoices,
    ComparesVoices,
    LanguageModel,
    OnText,
    ResolvesVoices,
    SavesVoices,
    SpeaksLanguages,
    SpeaksRegions,
    SpeechModel,
    StreamsSpeech,
    StreamsText,
    WantsSpeakerText,
)
from .engine_request import Request
from .errors import NoSpeech
from .logs import logger
from .text_phrases import join_sounds, pause_after, split_phrases
from .text_speakable import speakable
from .tts_voices import check_voice

SILENCE = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Engine:
    """The steps of an answer, each of which may be called alone. It keeps no state, so any number of threads may.

    A plain call takes the steps one after the other, a batch takes each for all its questions, and a stream lets
    thinking and speaking overlap.

    Args:
        asr: the stock speech recognition pipeline around a Whisper.
        llm: the part that thinks.
        tts: the part that speaks.
    """

    asr: AutomaticSpeechRecognitionPipeline
    llm: LanguageModel
    tts: SpeechModel

    def check(self, request: Request) -> None:
        """Raise ValueError if the request asks for a language or a voice that these models don't have."""
        self._check_language(request.language)
        check_voice(request.speaker_wav, request.speaker, self.tts)

    def hear(self, questions: Sequence[Recording], request: Request, clock: Clock | None = None) -> list[Transcript]:
        """Transcribe spoken questions.

        Raises:
            NoSpeech: nobody speaks in one of them, or no word is understood.
            ValueError: the language that was heard is none that the voice speaks.
        """
        refuse_forked_process()
        with (clock or Clock()).stage("asr"):
            for question in questions:
                refuse_silence(question)
            heard = transcribe(self.asr, [question.samples for question in questions], request.language)
            for _, language in heard:
                self._check_language(language)
        return [Transcript(*each) for each in heard]

    def think(
        self, heard: Sequence[Transcript], request: Request, clock: Clock | None = None, on_text: OnText | None = None
    ) -> list[str]:
        """Answer what was heard, in one batch where all is in one language and the LLM takes batches.

        Args:
            on_text: called with the words of a single answer as they are written, or with all of it by an LLM that
                doesn't stream. The first call is what the clock marks as "llm_first_token": thoughts come before it.
        """
        refuse_forked_process()
        clock, options = clock or Clock(), request.llm_options()
        languages = {self._language_for(self.llm, transcript.language, request) for transcript in heard}
        with clock.stage("llm"):
            if len(heard) > len(languages) == 1 and isinstance(self.llm, AnswersBatches) and self.llm.batches:
                return self.llm([each.text for each in heard], language=languages.pop(), **options)
            if len(heard) > 1:
                spoken = [(each.text, self._language_for(self.llm, each.language, request)) for each in heard]
                return [self.llm(text, language=language, **options) for text, language in spoken]

            def write(text: str) -> None:
                clock.mark("llm_first_token", since="llm")
                if on_text is not None:
                    on_text(text)

            [question], [language] = heard, languages
            if isinstance(self.llm, StreamsText) and self.llm.streams:
                return [self.llm(question.text, language=language, on_text=write, **options)]
            answer = self.llm(question.text, language=language, **options)
            write(answer)
            return [answer]

    def voice(self, request: Request) -> dict[str, Any]:
        """Compute the voice that a request asks for, as keyword arguments for the part that speaks."""
        if {"voice", "speaker", "speaker_wav"} & request.tts_kwargs.keys():
            return {}  # it is named there, such as a blend of Kokoro's voices
        if isinstance(self.tts, ResolvesVoices):
            words = {}
            if isinstance(self.tts, WantsSpeakerText) and self.tts.wants_speaker_text:
                words = {"speaker_text": request.speaker_text or self._write_down}
            return {"voice": self.tts.resolve_voice(request.speaker_wav, request.speaker, **words)}
        named = {} if request.speaker is None else {"speaker": request.speaker}
        return {"speaker_wav": request.speaker_wav and list(request.speaker_wav), **named}

    def speak(
        self,
        phrases: Iterable[tuple[str, str]],
        request: Request,
        clock: Clock | None = None,
        *,
        voice: dict[str, Any] | None = None,
        stage: str = "tts",
        in_chunks: bool = False,
    ) -> Iterator[Audio | PhraseEnd]:
        """Speak phrases as they come, with the pauses between them.

        Args:
            phrases: as `split_phrases` cuts an answer, each with its language (ISO 639-1).
            voice: what `voice` returns; None computes it before the first phrase.
            stage: the stage under which the clock counts.
            in_chunks: yield a phrase's sound as it is made, where the part can; else each phrase whole.

        Yields:
            The `Audio` of each phrase, and after it a `PhraseEnd`.
        """
        refuse_forked_process()
        clock, rate, previous = clock or Clock(), self.tts.sampling_rate, None
        for phrase, language in phrases:
            with clock.stage(stage):
                if voice is None:
                    voice = self.voice(request)
                words = speakable(phrase, request.reading(language))
            if words:
                silence = pause_after(previous, rate) if previous else SILENCE
                options = {"language": self._language_for(self.tts, language, request), **voice, **request.tts_kwargs}
                with closing(self._sounds(words, options, in_chunks)) as sounds:
                    while True:
                        with clock.stage(stage):
                            sound = next(sounds, None)
                        if sound is None:
                            break
                        yield Audio(np.concatenate([silence, sound]), rate, phrase)
                        silence = SILENCE
                previous = words
            yield PhraseEnd(phrase)

    def answer(self, questions: Sequence[Recording], request: Request) -> list[dict]:
        """Answer questions one step after the other, each step for all of them; return the result of each.

        The seconds of a batch's hearing and thinking are shared out evenly.
        """
        self.check(request)
        clock, voice, results = Clock(), None, []
        heard = self.hear(questions, request, clock)
        answers = self.think(heard, request, clock)
        shares = {name: clock.seconds(name) / len(questions) for name in ("asr", "llm")}
        for question, transcript, answer in zip(questions, heard, answers, strict=True):
            spoken = Clock()
            with spoken.stage("tts"):
                voice = self.voice(request) if voice is None else voice
            phrases = split_phrases(answer, transcript.language)
            if request.compare:
                audio, base = self._compare(phrases, transcript.language, request, spoken, voice)
            else:
                audio, base = self._speak_whole(phrases, transcript.language, request, spoken, voice=voice), None
            timings = {**shares, **spoken.timings()}
            timings["asr"] += question.seconds
            timings["llm_first_token"] = clock.marks.get("llm_first_token", shares["llm"])
            timings["first_audio"] = timings["asr"] + timings["llm"] + timings["tts"]
            timings["total"] = timings["first_audio"] + timings.get("tts_base", 0.0)
            logger.debug("answered a question: %s", timings)
            results.append(self.result(transcript, answer, audio, request, timings, base))
        return results

    def result(self, heard: Transcript, answer: str, audio, request: Request, timings: dict, base=None) -> dict:
        """Return what a plain call returns for one question."""
        clones = isinstance(self.tts, ClonesVoices) and self.tts.clones
        is_saved = isinstance(self.tts, SavesVoices) and request.speaker in self.tts.saved_voices
        cloned = clones and (request.speaker_wav is not None or is_saved)
        text = {"question": heard.text, "answer": str(answer), "language": request.reading(heard.language)}
        speech = {"audio": audio, "sampling_rate": self.tts.sampling_rate, "cloned": cloned}
        return {**text, **speech, **({} if base is None else {"audio_base": base}), "timings": timings}

    def _write_down(self, references: Sequence[Reference]) -> str:
        """Return what is said in the recordings of a voice, in the language that Whisper detects."""
        waves = [resample(each.array, each.sampling_rate, SAMPLING_RATE) for each in references]
        try:
            return " ".join(text for text, _ in transcribe(self.asr, waves, None))
        except NoSpeech as error:
            raise ValueError(
                "Whisper understood no word of speaker_wav, and this voice imitates a recording with its words. Give "
                "them as speaker_text, or another recording."
            ) from error

    def _speak_whole(self, phrases: list[str], language: str, request: Request, clock: Clock, **options) -> np.ndarray:
        spoken = self.speak(((phrase, language) for phrase in phrases), request, clock, **options)
        return np.concatenate([SILENCE, *(event.audio for event in spoken if isinstance(event, Audio))])

    def _compare(self, phrases: list[str], language: str, request: Request, clock: Clock, voice) -> tuple:
        """Speak phrases in the voice asked for and in the part's own, at once if it can, which takes half as long."""
        if not isinstance(self.tts, ComparesVoices):
            audio = self._speak_whole(phrases, language, request, clock, voice=voice)
            return audio, self._speak_whole(phrases, language, request.in_own_voice(), clock, stage="tts_base")
        with clock.stage("tts"):
            texts = [words for phrase in phrases if (words := speakable(phrase, request.reading(language)))]
            options = {"language": self._language_for(self.tts, language, request), **voice, **request.tts_kwargs}
            pairs = [self.tts.compare(text, **options) for text in texts]
            sounds = list(zip(*pairs, strict=True)) or [(), ()]
            both = tuple(join_sounds(texts, each, self.tts.sampling_rate) for each in sounds)
        clock.halve("tts", "tts_base")
        return both

    def _sounds(self, text: str, options: dict[str, Any], in_chunks: bool) -> Generator[np.ndarray]:
        if in_chunks and isinstance(self.tts, StreamsSpeech):
            yield from self.tts.stream(text, **options)
        else:
            yield self.tts(text, **options)

    def _language_for(self, part, language: str, request: Request) -> str:
        """Return a language as a part takes it: with the region that is asked for, or without."""
        has_regions = isinstance(part, SpeaksRegions) and part.regions
        return request.reading(language) if has_regions else language

    def _check_language(self, language: str | None) -> None:
        languages = self.tts.languages if isinstance(self.tts, SpeaksLanguages) else None
        if language is not None and languages is not None and language not in languages:
            raise ValueError(
                f"the voice ({type(self.tts).__name__}) doesn't speak {language!r}; it speaks {', '.join(languages)}. "
                "Give one of these as language=, or another tts=."
            )
        whisper = self.asr.model
        if language not in (None, "en") and not whisper.generation_config.is_multilingual:
            raise ValueError(
                f"{whisper.config.name_or_path!r} hears English alone, not {language!r}. Give language='en', or a "
                "multilingual Whisper without '.en' in its name as model=."
            )
