"""Answer a spoken question aloud: hear it (Whisper), think (a local LLM), speak (in a cloned voice)."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from huggingface_hub import CommitInfo
from transformers import AutomaticSpeechRecognitionPipeline, Pipeline

from .asr_whisper import language_code, prepare_whisper, transcribe
from .audio import load_question, load_reference, undecoded
from .engine_cancel import watch
from .hub_access import DEFAULT_WHISPER, split_revision
from .hub_parts import (
    Source,
    arguments_of_pipeline,
    check_weights,
    explain_out_of_memory,
    find_folder,
    find_part,
    find_source,
)
from .hub_repo import upload_repo, write_repo
from .live_conversation import Conversation
from .live_stream import Stream
from .llm_local import LLM
from .llm_remote import RemoteLLM
from .text_phrases import join_sounds, split_phrases
from .text_speakable import speakable
from .tts_transformers import load_tts

SHARED = ("device_map", "quantization_config")  # of pipeline()'s arguments for the model, those for the LLM as well


class VoiceQAPipeline(Pipeline):
    """Turns spoken questions into spoken answers.

    Use it through `pipeline("voice-qa", model=repo)` or `hfpipe.load(repo)`. The model is a Whisper; its repo may hold
    the two other parts, and either can be replaced.

    Args:
        model: a `WhisperForConditionalGeneration`.
        llm: the part that answers: a Hub id ("org/name" or "org/name@revision"), a folder, the URL of a server that
            speaks OpenAI's protocol ("http://localhost:8080/v1"; see `RemoteLLM`), or an object called as
            `llm(question, language=)`, with the options that a call gives, and for a text (a list, for a batch) that
            gives the answer's text (a list). It may say that it `streams`: then it takes `on_text=`, as `LLM` does.
        tts: the part that speaks: an id or folder of XTTS, of any transformers text-to-audio model or of Kokoro, or an
            object with a `sampling_rate`, called as `tts(text, language=, speaker_wav=)`, that gives a waveform. It
            may say its `languages`, and whether it `clones`, and have a `stream` that gives the waveform in pieces.
        dtype: the dtype of the weights; "auto" or None is the one that they were saved in.
        precision: in which the models compute: "auto" is what is fastest here, or what `dtype` says; "float32",
            "bfloat16", "float16", "int8" and "mixed" force one. What is saved stays as it was.
        llm_device, tts_device: where a part computes; None is the pipeline's `device`.
        llm_model_kwargs: for the LLM's `from_pretrained`: `quantization_config`, `attn_implementation` ... What
            `pipeline(model_kwargs=)` and `device_map=` say is taken for the LLM as well, where this doesn't say
            otherwise; the voice is neither quantised nor spread over devices.
        revision, token: of the model's repo, and the token also for the parts; `pipeline` gives its own.
        kwargs: `tokenizer`, `feature_extractor`, `device` and so on, as for any transformers pipeline; and defaults
            for the arguments of a call.

    Raises:
        ValueError: the model is no Whisper, or no part is given and the repo names none.
        OSError: a part can't be reached or read.
        MemoryError: the models don't fit; the message names smaller ones.
    """

    _load_tokenizer = True
    _load_feature_extractor = True
    _load_image_processor = False
    _load_processor = False

    def __init__(
        self,
        model,
        *args,
        llm=None,
        tts=None,
        dtype=None,
        precision="auto",
        llm_device=None,
        tts_device=None,
        llm_model_kwargs=None,
        revision=None,
        token=None,
        **kwargs,
    ):
        if model.config.model_type != "whisper":
            raise ValueError(
                f"voice-qa hears with Whisper; the model given is of type {model.config.model_type!r}. Give model= a "
                "Whisper, such as 'openai/whisper-small', or a folder where one was fine-tuned."
            )
        super().__init__(model, *args, **kwargs)
        watch(self.model)
        is_placed = hasattr(self.model, "hf_device_map")
        self.asr = AutomaticSpeechRecognitionPipeline(
            model=self.model,
            tokenizer=self.tokenizer,
            feature_extractor=self.feature_extractor,
            device=None if is_placed else self.device,
        )
        given = arguments_of_pipeline(type(self))
        self.token = given.get("token") if token is None else token
        revision = given.get("revision") if revision is None else revision
        whisper = Source(self.model.config.name_or_path, getattr(revision, "resolved", revision))
        if whisper.find("config.json"):
            check_weights(self.model, *whisper, self.token)
        self.sources = {"whisper": whisper}  # by part, where it was loaded from; none for an object

        dtype = dtype if isinstance(dtype, torch.dtype) else None
        if dtype is None or precision != "auto":
            prepare_whisper(self.model, precision)
        shared = {name: value for name, value in given.get("model_kwargs", {}).items() if name in SHARED}
        if llm_device is not None or not isinstance(shared.get("device_map"), str):
            shared.pop("device_map", None)  # a map of the Whisper's own layers is not the LLM's
        options = {"device": llm_device or self.device, "dtype": dtype, "precision": precision}
        options |= {**shared, **(llm_model_kwargs or {})}
        self.llm = self._load_part("llm", llm, LLM.from_pretrained, options)
        options = {"device": tts_device or self.device, "dtype": dtype, "precision": precision}
        self.tts = self._load_part("tts", tts, load_tts, options)
        if tts is None:
            self._add_voices()

    def __call__(self, audio, **kwargs):
        """Answers one spoken question, or each of many, aloud.

        Args:
            audio: a path, an http(s) URL, bytes, an array (at 16 kHz), a dict with "array" and "sampling_rate"; or a
                list, a generator or a dataset of them (rows with an "audio" column).
            speaker_wav: a recording, or several, of the voice to answer in: 10 to 15 s by a speaker who agreed to be
                cloned. None is the voice part's own.
            speaker: instead of `speaker_wav`, the name of a voice that the part has, or that `pipe.tts.save_voice`
                keeps.
            language: code ("es") or English name of the question's and the answer's language; None detects it.
            compare: also speak the answer in the part's own voice, as "audio_base".
            system_prompt: replaces the default instruction to the LLM (1 to 3 sentences, direct and kind).
            history: earlier turns, oldest first: `[{"role": "user" | "assistant", "content": text}, ...]`. Of one
                that is too long for the LLM the oldest turns are left out.
            max_new_tokens: the longest answer, in tokens; 128 by default.
            generate_kwargs: further options of the LLM's generation.
            tts_kwargs: further options of the voice part, such as `{"speed": 1.1}`.
            batch_size, num_workers: as for any transformers pipeline.

        Returns:
            A dict, a list of them for a list, or an iterator for a generator or a dataset, in order:

            - "question", "answer", "language": what was heard, what is said, in which language;
            - "audio", "sampling_rate": float32 waveform (samples,) in [-1, 1], and its rate in Hz;
            - "cloned": whether "audio" speaks with the voice of `speaker_wav`, or of a saved voice;
            - "audio_base": with `compare=True`, the same answer in the part's own voice;
            - "timings": seconds of each stage ("asr", "llm", "tts", "tts_base"), of the LLM until its first words
              ("llm_first_token"), until there was sound to play ("first_audio"), and of it all ("total"); in a batch,
              each question's share of the batch's seconds. "overlap" is the share of the time in which two stages
              ran: 0, but for streams.

        Raises:
            ValueError, FileNotFoundError: unreadable audio, no speech in it, an unfit `speaker_wav`, a language that
                the voice doesn't speak.
            MemoryError: it doesn't fit; the message names a smaller model.
        """
        if isinstance(audio, list) and not audio:
            return []
        if hasattr(audio, "column_names") and hasattr(audio, "features"):  # a dataset of the datasets library
            audio = (row["audio"] for row in undecoded(audio))
        start = time.perf_counter()
        result = super().__call__(audio, **kwargs)
        if isinstance(result, dict):  # the whole call, with the checks of the reference voice
            timings = result["timings"]
            timings["total"] = time.perf_counter() - start
            timings["first_audio"] = timings["total"] - timings.get("tts_base", 0.0)
        return result

    def stream(self, audio, **options) -> Stream:
        """Answers one spoken question aloud while the answer is still being thought.

        The text is that of a plain call. So is the audio, but for rounding, where the LLM draws nothing at random.

        Args:
            audio: as a plain call takes it, one.
            options: those of a plain call but `compare`, `batch_size` and `num_workers`.

        Returns:
            An iterator over events: `Transcript`, then `Text`s and `Audio`s as they come, then `Done`. Its `cancel`
            stops it, as when the listener interrupts.

        Raises:
            TypeError, ValueError: an option that isn't valid; what else a plain call raises comes where the events are
                read.
        """
        parameters = self._forward_params | self._sanitize_parameters(**options)[1]
        if parameters.get("compare"):
            raise ValueError("a stream speaks in one voice: leave compare out, or make a plain call.")
        self._check(parameters)
        return Stream(self, audio, parameters)

    def conversation(self, history=None, **options) -> Conversation:
        """Begins a conversation, in which a question may refer to what was said before.

        Args:
            history: earlier turns, or the JSON of an earlier conversation.
            options: of every turn: `system_prompt`, `speaker_wav`, `language` ...
        """
        return Conversation(self, history, **options)

    def listen(self, chunks: Iterable, **options) -> Iterator:
        """Answers live audio turn after turn, in a conversation of its own; options: see `Conversation.listen`."""
        return self.conversation().listen(chunks, **options)

    def save_pretrained(
        self, save_directory, copy_parts: bool = False, max_shard_size="5GB", push_to_hub: bool = False, **push_kwargs
    ):
        """Writes a voice-qa repo, whole or not at all: a plain Whisper, the parts, and the code that loads them.

        A part that came from the Hub stays a reference, "org/name@commit"; one that came from a folder, from the
        repo itself or as an object is written. Weights are written as safetensors.

        Args:
            save_directory: a folder, which need not exist. Other files in it are left alone.
            copy_parts: write the parts that came from the Hub as well.
            max_shard_size: the largest file of the Whisper's weights.
            push_to_hub: upload it as well, with `repo_id` (the folder's name, by default) and what else
                `push_to_hub` takes.

        Raises:
            ValueError: a part can't save itself, or its licence forbids a copy; nothing was written.
            NotADirectoryError: `save_directory` is a file.
        """
        if push_kwargs and not push_to_hub:
            raise TypeError(f"save_pretrained got {sorted(push_kwargs)}, which go with push_to_hub=True alone.")
        write_repo(self, save_directory, copy_parts, max_shard_size)
        if push_to_hub:
            push_kwargs = {"repo_id": Path(save_directory).name, "max_shard_size": max_shard_size, **push_kwargs}
            return self.push_to_hub(copy_parts=copy_parts, **push_kwargs)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        copy_parts: bool = False,
        private: bool | None = None,
        revision: str | None = None,
        token: bool | str | None = None,
        commit_message: str = "Upload VoiceQAPipeline",
        commit_description: str | None = None,
        create_pr: bool = False,
        max_shard_size: int | str = "5GB",
        tags: list[str] | None = None,
    ) -> CommitInfo:
        """Saves the pipeline and uploads it to the Hub in one commit, with a model card made for it.

        What the repo holds of an older push is replaced; other files, and what somebody wrote around the generated
        part of its card, are kept.

        Args:
            repo_id: "user/name" or "name"; the repo is made where there is none.
            copy_parts, max_shard_size: see `save_pretrained`.
            private: whether a new repo is private; None is the account's default.
            revision: branch to push to, made where there is none.
            token: None is the one that the pipeline was loaded with, or that of `hf auth login` or `HF_TOKEN`.
            commit_message, commit_description, create_pr: of the commit.
            tags: further tags for the card.

        Raises:
            ValueError: see `save_pretrained`. HfHubHTTPError: the Hub refuses; the repo's content stays as it was.
        """
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "repo")
            write_repo(self, folder, copy_parts, max_shard_size)
            commit = {"commit_message": commit_message, "commit_description": commit_description}
            token = self.token if token is None else token
            return upload_repo(self, folder, repo_id, private, revision, token, tags, create_pr=create_pr, **commit)

    def _sanitize_parameters(self, **parameters):
        valid = ("speaker_wav", "speaker", "language", "compare", "system_prompt", "history", "max_new_tokens")
        valid = (*valid, "generate_kwargs", "tts_kwargs")
        unknown = sorted(parameters.keys() - set(valid))
        if unknown:
            raise TypeError(f"voice-qa got the arguments {unknown}; valid are {list(valid)}.")
        if "language" in parameters:
            parameters["language"] = language_code(parameters["language"])
        if parameters.get("speaker_wav") is not None:
            parameters["speaker_wav"] = load_reference(parameters["speaker_wav"])
        speaker_wav, speaker = parameters.get("speaker_wav"), parameters.get("speaker")
        if parameters.get("compare") and speaker_wav is None and speaker is None:
            raise ValueError("compare=True sets a cloned voice beside the part's own: give speaker_wav= as well.")
        return {}, parameters, {}

    def preprocess(self, audio):
        start = time.perf_counter()
        return {"audio": load_question(audio), "loading": time.perf_counter() - start}

    def _forward(self, inputs, **options):
        batched = isinstance(inputs["audio"], list)
        questions = inputs["audio"] if batched else [inputs["audio"]]
        loading = inputs["loading"] if batched else [inputs["loading"]]
        language = self._check(options)

        start = time.perf_counter()
        with explain_out_of_memory("asr"):
            heard = transcribe(self.asr, questions, language)
        asr_seconds = (time.perf_counter() - start) / len(questions)

        start, first_words = time.perf_counter(), []
        with explain_out_of_memory("llm"):
            answers = self._answer(heard, options, lambda text: first_words.append(time.perf_counter() - start))
        llm_seconds = (time.perf_counter() - start) / len(questions)

        results = []
        for (question, spoken), answer, seconds in zip(heard, answers, loading, strict=True):
            with explain_out_of_memory("tts"):
                speech = self._speak(answer, spoken, options)
            timings = {"asr": seconds + asr_seconds, "llm": llm_seconds, **speech.pop("timings")}
            timings |= {"llm_first_token": min([*first_words, llm_seconds]), "overlap": 0.0}
            timings["first_audio"] = timings["asr"] + timings["llm"] + timings["tts"]
            timings["total"] = timings["first_audio"] + timings.get("tts_base", 0.0)
            text = {"question": question, "answer": answer, "language": spoken}
            results.append({**text, **speech, "timings": timings})
        return {"results": results if batched else results[0]}

    def postprocess(self, outputs):
        return outputs["results"]

    def _hear(self, audio, options: dict) -> tuple[str, str]:
        """Gives what is asked, and in which language."""
        samples = load_question(audio)
        return transcribe(self.asr, [samples], self._check(options))[0]

    def _answer(self, heard: list[tuple[str, str]], options: dict, on_text) -> list[str]:
        """Asks the LLM, in one batch where all are in one language; `on_text` gets a single answer's text."""
        if len(heard) == 1:
            return [self._think(*heard[0], options, on_text)]
        if len({language for _, language in heard}) == 1:
            return self._think([question for question, _ in heard], heard[0][1], options)
        return [self._think(question, language, options) for question, language in heard]

    def _think(self, question, language: str, options: dict, on_text=None):
        """Asks the LLM; `on_text` gets the answer's text as it is written, or whole from an LLM that can't."""
        names = ("system_prompt", "history", "max_new_tokens")
        given = {name: options[name] for name in names if options.get(name) is not None}
        given |= options.get("generate_kwargs") or {}
        if on_text is None:
            return self.llm(question, language=language, **given)
        if getattr(self.llm, "streams", False):
            return self.llm(question, language=language, on_text=on_text, **given)
        answer = self.llm(question, language=language, **given)
        on_text(answer)
        return answer

    def _speak(self, answer: str, language: str, options: dict) -> dict:
        """Speaks an answer, phrase by phrase, in the voice asked for and for `compare` in the part's own."""
        self._check_language(language)
        phrases = [words for phrase in split_phrases(answer, language) if (words := speakable(phrase, language))]
        voice, rate = self._voice_options(language, options), self.tts.sampling_rate
        speech = {"sampling_rate": rate, "cloned": self._imitates(options)}
        start = time.perf_counter()
        if options.get("compare") and hasattr(self.tts, "compare"):  # both at once: each takes half the time
            both = list(zip(*(self.tts.compare(phrase, **voice) for phrase in phrases), strict=True)) or [(), ()]
            speech["audio"], speech["audio_base"] = (join_sounds(phrases, sounds, rate) for sounds in both)
            share = (time.perf_counter() - start) / 2
            return {**speech, "timings": {"tts": share, "tts_base": share}}
        speech["audio"] = join_sounds(phrases, [self.tts(phrase, **voice) for phrase in phrases], rate)
        timings = {"tts": time.perf_counter() - start}
        if options.get("compare"):
            start, voice = time.perf_counter(), {"language": language, **(options.get("tts_kwargs") or {})}
            speech["audio_base"] = join_sounds(phrases, [self.tts(phrase, **voice) for phrase in phrases], rate)
            timings["tts_base"] = time.perf_counter() - start
        return {**speech, "timings": timings}

    def _voice_options(self, language: str, options: dict) -> dict:
        """Gives what the voice part is called with, besides the text."""
        voice = {"language": language, "speaker_wav": options.get("speaker_wav")}
        if options.get("speaker") is not None:
            voice["speaker"] = options["speaker"]
        return voice | (options.get("tts_kwargs") or {})

    def _imitates(self, options: dict) -> bool:
        """Tells whether the voice is that of a `speaker_wav`, or of a saved voice."""
        is_given = options.get("speaker_wav") is not None
        is_given = is_given or options.get("speaker") in getattr(self.tts, "saved_voices", ())
        return is_given and getattr(self.tts, "clones", False)

    def _check(self, options: dict) -> str | None:
        """Refuses what can't be heard or said; gives the language, or None to detect it."""
        language = options.get("language", "es")
        self._check_language(language)
        self._check_speaker(options.get("speaker"), options.get("speaker_wav"))
        return language

    def _check_speaker(self, speaker: str | None, speaker_wav) -> None:
        if speaker is None:
            return
        if speaker_wav is not None:
            raise ValueError("both speaker_wav and speaker were given; give one: each says which voice to speak with.")
        speakers = getattr(self.tts, "speakers", ())
        if speaker not in speakers:
            valid = ", ".join(map(repr, speakers)) or f"none, as {type(self.tts).__name__} has no named voices"
            remedy = " pipe.tts.save_voice adds one." if hasattr(self.tts, "save_voice") else " Give another tts=."
            raise ValueError(f"there is no speaker {speaker!r}; valid is {valid}.{remedy}")

    def _check_language(self, language: str | None) -> None:
        languages = getattr(self.tts, "languages", None)
        if language is not None and languages is not None and language not in languages:
            raise ValueError(
                f"the voice ({type(self.tts).__name__}) doesn't speak {language!r}; it speaks {', '.join(languages)}. "
                "Give one of these as language=, or another tts=."
            )
        if language not in (None, "en") and not self.model.generation_config.is_multilingual:
            raise ValueError(
                f"{self.model.config.name_or_path!r} hears English alone, not {language!r}. Give language='en', or a "
                "multilingual Whisper without '.en' in its name as model=."
            )

    def _load_part(self, name: str, given, load, options: dict):
        """Loads a part from what was given or, failing that, from what the repo says; an object passes as it is."""
        if name == "llm" and isinstance(given, str) and given.startswith(("http://", "https://")):
            return RemoteLLM(given)
        if given is not None and not isinstance(given, (str, os.PathLike)):
            return given.to(options["device"]) if hasattr(given, "to") else given
        if given is None:
            source = find_part(name, self.model.config, self.sources["whisper"], self.token)
        elif os.path.isdir(given):
            source = Source(os.fspath(given))
        else:
            source = find_source(*split_revision(os.fspath(given)), self.token, name)
        self.sources[name] = source
        with explain_out_of_memory(name):
            return load(source.name, revision=source.revision, token=self.token, **options)

    def _add_voices(self) -> None:
        """Adds the voices that the repo carries for a voice part that lies elsewhere."""
        whisper, tts = self.sources["whisper"], self.sources["tts"]
        if whisper.name != DEFAULT_WHISPER[0] and not tts.is_folder and hasattr(self.tts, "read_voices"):
            with contextlib.suppress(OSError):  # no such folder in the repo: it carries no voices
                self.tts.read_voices(find_folder("tts", whisper, self.token, "tts", only="voice_*.safetensors"))
