"""Answer a spoken question aloud: hear it (Whisper), think (a local LLM), speak (in a cloned voice)."""

import contextlib
import os
import re
import time

import torch
from huggingface_hub import snapshot_download
from transformers import AutomaticSpeechRecognitionPipeline, Pipeline
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from .asr import transcribe
from .audio import load_question, load_reference
from .hub import DEFAULT_PARTS, DEFAULT_WHISPER, WITHOUT_HUB, split_revision
from .llm import LLM
from .tts import load_tts

PARTS = ("llm", "tts")
EXAMPLE_PARTS = {
    "llm": "'Qwen/Qwen2.5-1.5B-Instruct' or 'google/flan-t5-base'",
    "tts": "'coqui/XTTS-v2' or 'facebook/mms-tts-spa'",
}
SMALLER = {
    "asr": "a smaller Whisper (model='openai/whisper-base' or 'openai/whisper-tiny')",
    "llm": "a smaller LLM (llm='Qwen/Qwen2.5-0.5B-Instruct')",
    "tts": "a smaller voice (tts='facebook/mms-tts-spa')",
}


class VoiceQAPipeline(Pipeline):
    """Turns spoken questions into spoken answers.

    Use it through `pipeline("voice-qa", model=repo)` or `hfpipe.load(repo)`. The model is a Whisper; its repo may hold
    the two other parts, and either can be replaced.

    Args:
        model: a `WhisperForConditionalGeneration`.
        llm: the part that answers: a Hub id ("org/name" or "org/name@revision"), a folder, or an object called as
            `llm(question, language=)`, with the options that a call gives, and for a text (a list, for a batch) that
            gives the answer's text (a list).
        tts: the part that speaks: an id or folder of XTTS, of any transformers text-to-audio model or of Kokoro, or an
            object with a `sampling_rate`, called as `tts(text, language=, speaker_wav=)`, that gives a waveform. It
            may say its `languages`, and whether it `clones`.
        dtype: the dtype of the weights; "auto" or None is the one that they were saved in.
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

    def __init__(self, model, *args, llm=None, tts=None, dtype=None, **kwargs):
        if model.config.model_type != "whisper":
            raise ValueError(
                f"voice-qa hears with Whisper; the model given is of type {model.config.model_type!r}. Give model= a "
                "Whisper, such as 'openai/whisper-small', or a folder where one was fine-tuned."
            )
        super().__init__(model, *args, **kwargs)
        self.asr = AutomaticSpeechRecognitionPipeline(
            model=self.model,
            tokenizer=self.tokenizer,
            feature_extractor=self.feature_extractor,
            device=None if hasattr(self.model, "hf_device_map") else self.device,
        )
        dtype = dtype if isinstance(dtype, torch.dtype) else None
        self.references = {}  # the "org/name@revision" that a part was loaded from, for saving
        self.llm = self._load_part("llm", llm, LLM.from_pretrained, dtype)
        self.tts = self._load_part("tts", tts, load_tts, dtype)

    def __call__(self, audio, **kwargs):
        """Answers one spoken question, or each of many, aloud.

        Args:
            audio: a path, an http(s) URL, bytes, an array (at 16 kHz), a dict with "array" and "sampling_rate"; or a
                list, a generator or a dataset of them (rows with an "audio" column).
            speaker_wav: a recording, or several, of the voice to answer in: 10 to 15 s by a speaker who agreed to be
                cloned. None is the voice part's own.
            language: code ("es") or English name of the question's and the answer's language; None detects it.
            compare: also speak the answer in the part's own voice, as "audio_base".
            system_prompt: replaces the default instruction to the LLM (1 to 3 sentences, direct and kind).
            history: earlier turns, oldest first: `[{"role": "user" | "assistant", "content": text}, ...]`.
            max_new_tokens: the longest answer, in tokens; 128 by default.
            generate_kwargs: further options of the LLM's generation.
            tts_kwargs: further options of the voice part, such as `{"speaker": name}`.
            batch_size, num_workers: as for any transformers pipeline.

        Returns:
            A dict, a list of them for a list, or an iterator for a generator or a dataset, in order:

            - "question", "answer", "language": what was heard, what is said, in which language;
            - "audio", "sampling_rate": float32 waveform (samples,) in [-1, 1], and its rate in Hz;
            - "cloned": whether "audio" speaks with `speaker_wav`'s voice;
            - "audio_base": with `compare=True`, the same answer in the part's own voice;
            - "timings": seconds of each stage ("asr", "llm", "tts", "tts_base"), until there was sound to play
              ("first_audio"), and of it all ("total"); in a batch, each question's share of the batch's seconds.

        Raises:
            ValueError, FileNotFoundError: unreadable audio, no speech in it, an unfit `speaker_wav`, a language that
                the voice doesn't speak.
            MemoryError: it doesn't fit; the message names a smaller model.
        """
        if isinstance(audio, list) and not audio:
            return []
        if hasattr(audio, "column_names") and hasattr(audio, "features"):  # a dataset of the datasets library
            audio = (row["audio"] for row in _undecoded(audio))
        start = time.perf_counter()
        result = super().__call__(audio, **kwargs)
        if isinstance(result, dict):  # the whole call, with the checks of the reference voice
            timings = result["timings"]
            timings["total"] = time.perf_counter() - start
            timings["first_audio"] = timings["total"] - timings.get("tts_base", 0.0)
        return result

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Writes a voice-qa repo: a plain Whisper, and each part in its folder.

        A part that came from the Hub stays a reference to it; one that came from a folder is written.

        Raises:
            ValueError: a part is an object that can't save itself; nothing was written.
        """
        for name in PARTS:
            if name not in self.references and not hasattr(getattr(self, name), "save_pretrained"):
                raise ValueError(
                    f"the {name} is a {type(getattr(self, name)).__name__} without save_pretrained(folder), so this "
                    f"pipeline can't be saved. Give the object that method, or load {name}= from a folder or an id."
                )
        for name in PARTS:
            if name not in self.references:
                getattr(self, name).save_pretrained(os.path.join(save_directory, name))
        self.model.config.voice_qa = {name: self.references.get(name, name) for name in PARTS}
        super().save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(self, **parameters):
        valid = ("speaker_wav", "language", "compare", "system_prompt", "history", "max_new_tokens")
        valid = (*valid, "generate_kwargs", "tts_kwargs")
        unknown = sorted(parameters.keys() - set(valid))
        if unknown:
            raise TypeError(f"voice-qa got the arguments {unknown}; valid are {list(valid)}.")
        if "language" in parameters:
            parameters["language"] = _language_code(parameters["language"])
        if parameters.get("speaker_wav") is not None:
            parameters["speaker_wav"] = load_reference(parameters["speaker_wav"])
        if parameters.get("compare") and parameters.get("speaker_wav") is None:
            raise ValueError("compare=True sets a cloned voice beside the part's own: give speaker_wav= as well.")
        return {}, parameters, {}

    def preprocess(self, audio):
        start = time.perf_counter()
        return {"audio": load_question(audio), "loading": time.perf_counter() - start}

    def _forward(
        self,
        inputs,
        speaker_wav=None,
        language="es",
        compare=False,
        system_prompt=None,
        history=None,
        max_new_tokens=None,
        generate_kwargs=None,
        tts_kwargs=None,
    ):
        batched = isinstance(inputs["audio"], list)
        questions = inputs["audio"] if batched else [inputs["audio"]]
        loading = inputs["loading"] if batched else [inputs["loading"]]
        self._check_language(language)

        start = time.perf_counter()
        with explain_out_of_memory("asr"):
            heard = transcribe(self.asr, questions, language)
        asr_seconds = (time.perf_counter() - start) / len(questions)

        start = time.perf_counter()
        options = {"system_prompt": system_prompt, "history": history, "max_new_tokens": max_new_tokens}
        options = {name: value for name, value in options.items() if value is not None}
        with explain_out_of_memory("llm"):
            answers = self._answer(heard, {**options, **(generate_kwargs or {})})
        llm_seconds = (time.perf_counter() - start) / len(questions)

        results = []
        for (question, spoken), answer, seconds in zip(heard, answers, loading, strict=True):
            with explain_out_of_memory("tts"):
                speech = self._speak(answer, spoken, speaker_wav, compare, tts_kwargs or {})
            timings = {"asr": seconds + asr_seconds, "llm": llm_seconds, **speech.pop("timings")}
            timings["first_audio"] = timings["asr"] + timings["llm"] + timings["tts"]
            timings["total"] = timings["first_audio"] + timings.get("tts_base", 0.0)
            text = {"question": question, "answer": answer, "language": spoken}
            results.append({**text, **speech, "timings": timings})
        return {"results": results if batched else results[0]}

    def postprocess(self, outputs):
        return outputs["results"]

    def _answer(self, heard: list[tuple[str, str]], options: dict) -> list[str]:
        """Asks the LLM, in one batch where all questions are in one language."""
        if len(heard) > 1 and len({language for _, language in heard}) == 1:
            return self.llm([question for question, _ in heard], language=heard[0][1], **options)
        return [self.llm(question, language=language, **options) for question, language in heard]

    def _speak(self, answer: str, language: str, speaker_wav, compare: bool, tts_kwargs: dict) -> dict:
        """Speaks an answer, in the cloned voice and for `compare` in the part's own."""
        self._check_language(language)
        start = time.perf_counter()
        audio = self.tts(answer, language=language, speaker_wav=speaker_wav, **tts_kwargs)
        timings = {"tts": time.perf_counter() - start}
        cloned = speaker_wav is not None and getattr(self.tts, "clones", False)
        speech = {"audio": audio, "sampling_rate": self.tts.sampling_rate, "cloned": cloned}
        if compare:
            start = time.perf_counter()
            speech["audio_base"] = self.tts(answer, language=language, **tts_kwargs)
            timings["tts_base"] = time.perf_counter() - start
        return {**speech, "timings": timings}

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

    def _load_part(self, name: str, given, load, dtype):
        """Loads a part from what was given or, failing that, from what the repo says; an object passes as it is."""
        if given is not None and not isinstance(given, (str, os.PathLike)):
            return given.to(self.device) if hasattr(given, "to") else given
        if given is not None:
            folder, revision = os.fspath(given), None
            if not os.path.isdir(folder):
                folder, revision = split_revision(folder)
                self.references[name] = os.fspath(given)
        else:
            folder, revision = self._find_part(name)
        with explain_out_of_memory(name):
            return load(folder, revision=revision, device=self.device, dtype=dtype)

    def _find_part(self, name: str) -> tuple[str, str | None]:
        """Gives the folder, or the Hub id and revision, that the model's repo names for a part."""
        repo = self.model.config.name_or_path
        named = getattr(self.model.config, "voice_qa", None) or {}
        if not named and repo == DEFAULT_WHISPER[0]:
            named = DEFAULT_PARTS
        reference = named.get(name)
        if reference is None:
            raise ValueError(
                f"{repo!r} has no {name!r} part: its config.json has no 'voice_qa' that names one. Give {name}= "
                f"{EXAMPLE_PARTS[name]}, a folder or an object; or load a voice-qa repo. {WITHOUT_HUB}"
            )
        if re.fullmatch(r"[\w-]+", reference):  # a folder of the repo
            if not os.path.isdir(repo):
                revision = getattr(self.model.config, "_commit_hash", None)
                repo = snapshot_download(repo, revision=revision, allow_patterns=f"{reference}/*")
            folder = os.path.join(repo, reference)
            if not os.path.isdir(folder):
                raise OSError(
                    f"the repo {repo!r} lacks its folder {reference!r} ({name}). Download it again, or give {name}=."
                )
            return folder, None
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", reference):
            raise ValueError(  # a repo from a stranger must not make us open any path
                f"the config.json of {repo!r} names {reference!r} as its {name}; valid is a folder of the repo or "
                f"'org/name@revision'. Give {name}= to say it yourself."
            )
        self.references[name] = reference
        return split_revision(reference)


@contextlib.contextmanager
def explain_out_of_memory(stage: str):
    """Turns running out of memory, on a GPU or not, into a MemoryError that names the stage and a smaller model."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        allocation_failed = "alloc" in str(error).lower() and "memory" in str(error).lower()
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and not allocation_failed:
            raise
        raise MemoryError(
            f"out of memory in {stage!r} ({error}). Close other programs, or use {SMALLER[stage]}."
        ) from error


def _language_code(language: str | None) -> str | None:
    """Gives the code of a language named by code ("es", "es-MX") or in English ("Spanish")."""
    if language is None:
        return None
    name = str(language).lower()
    code = TO_LANGUAGE_CODE.get(name, name.replace("_", "-").split("-")[0])
    if code not in LANGUAGES:
        raise ValueError(
            f"language is {language!r}; valid is a code that Whisper knows, such as 'es', or None to detect."
        )
    return code


def _undecoded(dataset):
    """Leaves a dataset's audio encoded, since decoding it takes torchcodec and FFmpeg, and `load_audio` neither."""
    feature = (dataset.features or {}).get("audio")
    return dataset.cast_column("audio", type(feature)(decode=False)) if hasattr(feature, "decode") else dataset
