"""Answer a spoken question aloud: hear it (Whisper), think (a local LLM), speak (in a cloned voice)."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo
from transformers import AutomaticSpeechRecognitionPipeline, Pipeline

from .asr_checkpoint import complete_whisper
from .asr_whisper import prepare_whisper
from .audio import Recording, load_recording, undecoded
from .engine import Engine
from .engine_cancel import add_cancel_hooks
from .engine_protocols import MovesToDevices, SavesVoices
from .engine_request import Request
from .errors import explain_out_of_memory
from .hub_access import DEFAULT_WHISPER, split_revision
from .hub_code import import_part
from .hub_parts import Source, find_folder, find_part, find_source
from .hub_repo import upload_repo, write_repo
from .hub_space import check_space, push_space
from .hub_weights import check_weights
from .internals import arguments_of_pipeline
from .live_conversation import Conversation
from .live_stream import Stream
from .logs import logger
from .tts_load import load_tts

SHARED = ("device_map", "quantization_config")  # those of pipeline()'s arguments for the model that the LLM gets too


class VoiceQAPipeline(Pipeline):
    """Answer spoken questions aloud.

    Use it through `pipeline("voice-qa", model=repo)` or `hfpipe.load(repo)`. The model is a Whisper; its repo may hold
    the two other parts, and either can be replaced.

    Args:
        model: a `WhisperForConditionalGeneration`.
        llm: the part that thinks: a Hub id ("org/name" or "org/name@revision"), a folder, the URL of a server that
            speaks OpenAI's protocol ("http://localhost:8080/v1"; see `RemoteLLM`), or any object that fits
            `LanguageModel`.
        tts: the part that speaks: an id or folder of XTTS, of any transformers text-to-audio model or of Kokoro, or
            any object that fits `SpeechModel`.
        dtype: the dtype of the weights; "auto" or None is the one that they were saved in.
        precision: in which the models compute: "auto" is what is fastest here, or what `dtype` says; "float32",
            "bfloat16", "float16", "int8" and "mixed" force one, see `choose_precision`. A part that can't warns. What
            is saved stays as it was.
        llm_device, tts_device: where a part computes; None is the pipeline's `device`.
        llm_model_kwargs: for the LLM's `from_pretrained`: `quantization_config`, `attn_implementation` ... What
            `pipeline(model_kwargs=)` and `device_map=` say is taken for the LLM as well, where this doesn't say
            otherwise; the voice is neither quantized nor spread over devices.
        revision, token: of the model's repo, and the token also for the parts; `pipeline` gives its own.
        kwargs: `tokenizer`, `feature_extractor`, `device` and so on, as for any transformers pipeline; and defaults
            for the arguments of a call.

    One pipeline serves any number of threads at once. A process that is forked after it has computed can't use it, and
    is refused.

    Attributes:
        model, llm, tts: the parts; the last two may be replaced by others.
        engine: the steps of an answer, each of which may be called alone.
        sources: by part ("whisper", "llm", "tts"), where it was loaded from; none for an object.

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
        self.defaults = Request()
        super().__init__(model, *args, **kwargs)
        self.defaults = self._forward_params["request"]
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
        whisper = Source(self.model.config.name_or_path, revision)
        if whisper.find("config.json"):
            check_weights(self.model, *whisper, self.token)
        self.sources = {"whisper": whisper}
        if self.tokenizer is not None:
            complete_whisper(self.model, self.tokenizer)

        dtype = dtype if isinstance(dtype, torch.dtype) else None
        prepare_whisper(self.model, precision, dtype)
        add_cancel_hooks(self.model)
        shared = {name: value for name, value in given.get("model_kwargs", {}).items() if name in SHARED}
        if llm_device is not None or not isinstance(shared.get("device_map"), str):
            shared.pop("device_map", None)  # a map of the Whisper's own layers is not the LLM's
        options = {"device": llm_device or self.device, "dtype": dtype, "precision": precision}
        options |= {**shared, **(llm_model_kwargs or {})}
        llm_class: type[Any] = import_part("LLM")
        self.llm = self._load_part("llm", llm, llm_class.from_pretrained, options)
        options = {"device": tts_device or self.device, "dtype": dtype, "precision": precision}
        self.tts = self._load_part("tts", tts, load_tts, options)
        if tts is None:
            self._add_voices()
        parts = {name: str(self.sources.get(name, type(getattr(self, name)).__name__)) for name in ("llm", "tts")}
        logger.info("voice-qa of %s, with %s, in precision %r on %s", whisper, parts, precision, self.device)

    def __call__(self, audio, **kwargs):
        """Answer one spoken question, or each of many, aloud.

        Args:
            audio: a path, an http(s) or data: URL, bytes, a binary file object, an array (at 16 kHz), a pair
                `(sampling_rate, array)` or a dict with "array" and "sampling_rate" (see `load_audio`); or a list, a
                generator or a dataset of them (rows with an "audio" column).
            speaker_wav: a recording, or several, of the voice to answer in: 10 to 15 s by a speaker who agreed to be
                cloned. None is the voice part's own.
            speaker_text: what is said in `speaker_wav`, for voices that imitate it with its words (CSM, Dia, Higgs
                Audio); None lets Whisper write it down.
            speaker: instead of `speaker_wav`, the name of a voice that the part has, or that `pipe.tts.save_voice`
                keeps.
            language: code ("es") or English name of the question's and the answer's language; None detects it. With a
                region ("es-MX"), the LLM answers in that variety, numbers, dates and "$" are read aloud as there, and
                Kokoro has its accent.
            compare: also speak the answer in the part's own voice, as "audio_base".
            system_prompt: replaces the default instruction to the LLM (1 to 3 sentences, direct and kind).
            history: earlier turns, oldest first: `[{"role": "user" | "assistant", "content": text}, ...]`. The content
                may be a list of text parts, and a system or developer turn may come first, which is the
                `system_prompt`. Of one that is too long for the LLM the oldest turns are left out.
            max_new_tokens: the longest answer, in tokens; 128 by default. Thoughts don't count.
            generate_kwargs: further options of the LLM's generation, and `max_thinking_tokens`.
            tts_kwargs: further options of the voice part, such as `{"speed": 1.1}`.
            batch_size, num_workers: as for any transformers pipeline.

        Returns:
            A dict, a list of them for a list, or an iterator for a generator or a dataset, in order:

            - "question", "answer", "language": what was heard, what is said, in which language, with its region if
              one was given;
            - "audio", "sampling_rate": float32 waveform (samples,) in [-1, 1], and its rate in Hz;
            - "cloned": whether "audio" speaks with the voice of `speaker_wav`, or of a saved voice;
            - "audio_base": with `compare=True`, the same answer in the part's own voice;
            - "timings": seconds of each stage ("asr", "llm", "tts", "tts_base"), of the LLM until the first words of
              its answer, after any thoughts ("llm_first_token"), until there was sound to play ("first_audio"), and of
              it all ("total"); in a batch, each question's share of the batch's seconds. "overlap" is the share of the
              time in which two stages ran: 0, but for streams.

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
        """Answer one spoken question aloud while the answer is still being thought.

        The text is that of a plain call. So is the audio, but for rounding, where the LLM draws nothing at random.

        Args:
            audio: as a plain call takes it, one.
            options: those of a plain call but `compare`, `batch_size` and `num_workers`.

        Returns:
            The stream, to iterate over by `for` or `async for`. Its events are a `Transcript`, then `Text`s and
            `Audio`s as they come, then `Done`. Its `cancel` stops it, as when the listener interrupts.

        Raises:
            TypeError, ValueError: an option that isn't valid; what else a plain call raises comes where the events are
                read.
        """
        request = self.defaults.updated(**options)
        if request.compare:
            raise ValueError("a stream speaks in one voice: leave compare out, or make a plain call.")
        engine = self.engine
        engine.check(request)
        return Stream(engine, audio, request)

    @property
    def engine(self) -> Engine:
        """The steps of an answer, with the parts as they are now."""
        return Engine(self.asr, self.llm, self.tts)

    def conversation(self, history=None, **options) -> Conversation:
        """Start a conversation, in which a question may refer to what was said before.

        Args:
            history: earlier turns, or the JSON of an earlier conversation.
            options: of every turn: `system_prompt`, `speaker_wav`, `language` ...
        """
        return Conversation(self, history, **options)

    def listen(self, chunks: Iterable, **options) -> Iterator:
        """Answer live audio turn after turn, in a conversation of its own; options: see `Conversation.listen`."""
        return self.conversation().listen(chunks, **options)

    def save_pretrained(
        self, save_directory, copy_parts: bool = False, max_shard_size="5GB", push_to_hub: bool = False, **push_kwargs
    ):
        """Write a voice-qa repo, whole or not at all: a plain Whisper, the parts, and the code that loads them.

        A part that came from the Hub stays a reference, "org/name@commit"; one that came from a folder, from the
        repo itself or as an object is written. Weights are written as safetensors.

        Args:
            save_directory: a folder, which need not exist. Other files in it are left alone.
            copy_parts: write the parts that came from the Hub as well.
            max_shard_size: the largest file of the Whisper's weights.
            push_to_hub: upload it as well, with `repo_id` (the folder's name, by default) and what else
                `push_to_hub` takes.

        Raises:
            ValueError: a part can't save itself, or its license forbids a copy; nothing was written.
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
        space: bool = False,
    ) -> CommitInfo:
        """Save the pipeline and upload it to the Hub in one commit, with a model card made for it.

        What the repo holds of an older push is replaced; other files, and what somebody wrote around the generated
        part of its card, are kept.

        Args:
            repo_id: "user/name" or "name"; the repo is made where there is none.
            copy_parts, max_shard_size: see `save_pretrained`.
            private: whether a new repo, and a new Space, is private; None is the account's default.
            revision: branch to push to, made where there is none.
            token: None is the one that the pipeline was loaded with, or that of `hf auth login` or `HF_TOKEN`.
            commit_message, commit_description, create_pr: of the commit.
            tags: further tags for the card.
            space: make a Space as well, under the same name: a page to ask the repo aloud at this commit, as
                `hfpipe.demo` makes it. A Space of a private repo needs a secret HF_TOKEN that may read it.

        Returns:
            The commit in the repo.

        Raises:
            ValueError: see `save_pretrained`; or `space` with `create_pr`. HfHubHTTPError: the Hub refuses; the repo's
                content stays as it was. ImportError: `space` without hfpipe.
        """
        if space:
            check_space(create_pr)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "repo")
            write_repo(self, folder, copy_parts, max_shard_size)
            commit = {"commit_message": commit_message, "commit_description": commit_description}
            token = self.token if token is None else token
            pushed = upload_repo(self, folder, repo_id, private, revision, token, tags, create_pr=create_pr, **commit)
            if space:
                push_space(self, folder, pushed, private, token, **commit)
            return pushed

    def _sanitize_parameters(self, **options):
        return {}, {"request": self.defaults.updated(**options)}, {}

    def preprocess(self, audio):
        return load_recording(audio)._asdict()

    def _forward(self, inputs, request: Request):
        if not isinstance(inputs["samples"], list):
            [result] = self.engine.answer([Recording(**inputs)], request)
            return {"results": result}
        questions = [Recording(*each) for each in zip(*(inputs[name] for name in Recording._fields), strict=True)]
        return {"results": self.engine.answer(questions, request)}

    def postprocess(self, outputs):
        return outputs["results"]

    def _load_part(self, name: str, given, load, options: dict):
        """Load a part from what was given or, failing that, from what the repo says; an object stays as it is."""
        if name == "llm" and isinstance(given, str) and given.startswith(("http://", "https://")):
            return import_part("RemoteLLM")(given)
        if given is not None and not isinstance(given, (str, os.PathLike)):
            return given.to(options["device"]) if isinstance(given, MovesToDevices) else given
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
        """Add the voices that the repo carries for a voice part that lies elsewhere."""
        whisper, tts = self.sources["whisper"], self.sources["tts"]
        if whisper.name != DEFAULT_WHISPER[0] and not tts.is_folder and isinstance(self.tts, SavesVoices):
            with contextlib.suppress(OSError):  # no such folder in the repo: it carries no voices
                self.tts.read_voices(find_folder("tts", whisper, self.token, "tts", only="voice_*.safetensors"))
