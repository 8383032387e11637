"""Speak with XTTS, in the voice of a recording: coqui-tts, with safe loading and a voice computed once."""

import contextlib
import json
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from .audio import Reference, load_reference, resample
from .hub import DEFAULT_PARTS, WITHOUT_HUB, check_reachable, split_revision
from .licence import LICENCE_URL, require_licence
from .sentences import split_text
from .voices import Voice, make_voice, read_voices, write_voices

XTTS_ID, XTTS_REVISION = split_revision(DEFAULT_PARTS["tts"])
CONFIG, VOCABULARY = "config.json", "vocab.json"
WEIGHTS, SPEAKERS = "model.safetensors", "speakers_xtts.safetensors"
COQUI_WEIGHTS, COQUI_SPEAKERS = "model.pth", "speakers_xtts.pth"  # pickles, as Coqui publishes them
FILES = [CONFIG, VOCABULARY, WEIGHTS, SPEAKERS, COQUI_WEIGHTS, COQUI_SPEAKERS, "voice_*.safetensors"]

CONDITIONING_RATE = 22_050  # Hz, what XTTS hears of a voice (coqui-tts, Xtts.get_conditioning_latents)
PAUSE_SECONDS = 0.2  # between the pieces of a text too long to say at once
MAX_VOICES = 64  # kept in memory, about 130 kB each
DEFAULT_CHAR_LIMIT = 250  # coqui-tts's own, for a language without one


class XTTS:
    """Speaks text in the voice of a recording, or in one of the checkpoint's own.

    Attributes:
        sampling_rate: Hz of the waveforms, 24000 for XTTS v2.
        languages: ISO 639-1 codes; `"zh"` is what coqui calls `"zh-cn"`, and both are understood.
        clones: True: a `speaker_wav` is really imitated.
        saved_voices: the `Voice`s that `save_voice` made, by name.
    """

    clones = True
    requirements = ("coqui-tts", "six", "torchcodec")  # from PyPI, for a repo's requirements.txt

    def __init__(self, model, speakers: dict, source: str | None = None):
        self.model = model
        self.sampling_rate = model.config.audio.output_sample_rate
        self.languages = tuple(language.split("-")[0] for language in model.config.languages)
        self.saved_voices: dict[str, Voice] = {}
        self._speakers = speakers
        self._source = source  # "id@revision" of weights that come from the Hub
        self._voices: dict[tuple[str, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    @classmethod
    def from_pretrained(cls, name_or_path, revision=None, token=None, device=None, dtype=None) -> "XTTS":
        """Loads an XTTS checkpoint from a folder in coqui's layout, or from the Hub.

        A first download asks for the acceptance of the weights' licence, the Coqui Public Model License.

        Args:
            name_or_path: a folder with config.json, model.safetensors or model.pth, vocab.json and perhaps
                speakers_xtts.safetensors or speakers_xtts.pth, or a Hub id with these.
            revision: commit, branch or tag; `coqui/XTTS-v2` is pinned to one commit by default.
            token: for a private repo on the Hub.
            device: where to compute; the CPU by default.
            dtype: not used. XTTS computes in float32: coqui's vocoder takes nothing else from its language model.

        Raises:
            FileNotFoundError: a file is missing. ValueError: a file is damaged, or holds more than weights.
            PermissionError: the licence wasn't accepted. OSError: the Hub can't be reached or has no such repo.
            ImportError: coqui-tts isn't installed.
        """
        folder, source = Path(name_or_path), None
        if not folder.is_dir():
            revision = revision or (XTTS_REVISION if str(name_or_path) == XTTS_ID else None)
            folder, source = _download(str(name_or_path), revision, token), f"{name_or_path}@{revision or 'main'}"
        if missing := _missing(folder):
            raise FileNotFoundError(
                f"there is no {missing} in {folder}; an XTTS folder holds {CONFIG}, {WEIGHTS} (or {COQUI_WEIGHTS}) "
                f"and {VOCABULARY}, and {SPEAKERS} (or {COQUI_SPEAKERS}) for voices of its own. Copy it beside the "
                "others, or give another folder."
            )
        with _quietly():
            model = _build(folder)
        part = cls(model, _read_speakers(folder), source).to(device or "cpu")
        part.read_voices(folder)
        return part

    def save_pretrained(self, folder) -> None:
        """Writes config.json, vocab.json, the weights and the voices, as safetensors, for `from_pretrained`.

        Raises:
            ValueError: these are Coqui's own weights, under a licence that hfpipe points at instead of copying.
        """
        if self._source is not None and self._source.startswith(f"{XTTS_ID}@"):
            raise ValueError(
                f"the weights of {XTTS_ID} stay where they are: their licence, {LICENCE_URL}, goes with them. "
                f'Keep the reference "{self._source}" instead of a copy; weights loaded from a folder are written.'
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.model.config.save_json(str(folder / CONFIG))
        self.model.tokenizer.tokenizer.save(str(folder / VOCABULARY))
        weights = _without_duplicates(self.model.state_dict())
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
        if self._speakers:
            tensors = {
                f"{name}/{key}": tensor.contiguous()
                for name, voice in self._speakers.items()
                for key, tensor in voice.items()
            }
            save_file(tensors, folder / SPEAKERS, {"speakers": json.dumps(list(self._speakers))})
        self.write_voices(folder)

    def write_voices(self, folder) -> None:
        """Writes the saved voices, and nothing else, into a folder."""
        write_voices(self.saved_voices, Path(folder))

    def read_voices(self, folder) -> None:
        """Adds the voices that `write_voices` wrote into a folder.

        Raises:
            ValueError: a file is damaged, or another model's.
        """
        args = self.model.args
        shapes = {
            "gpt_cond_latent": (1, None, args.gpt_n_model_channels),
            "speaker_embedding": (1, args.d_vector_dim, 1),
        }
        self.saved_voices |= read_voices(Path(folder), shapes)

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names to give as `speaker=`: the checkpoint's own voices, the default one first, and then the saved ones."""
        return (*self._speakers, *self.saved_voices)

    def save_voice(self, name: str, speaker_wav, consent_by: str | None = None, consent_on=None) -> Voice:
        """Keeps the voice of a recording under a name, for `speaker=name`; saving the pipeline saves it too.

        What is kept is what XTTS computed of the recording, about 130 kB, and not the recording.

        Args:
            name: letters, digits, spaces, dots and hyphens, at most 64.
            speaker_wav: 10 to 15 s of speech by somebody who agreed to be cloned; several recordings in a list.
            consent_by: who agreed; None is the speaker, by the name that the voice has.
            consent_on: the day on which they agreed; None is today.

        Raises:
            ValueError: the name is unfit or taken, no consent, or a reference that `load_reference` refuses.
        """
        latents, embedding = self._cloned_voice(speaker_wav)
        tensors = {"gpt_cond_latent": latents, "speaker_embedding": embedding}
        self.saved_voices[name] = make_voice(name, tensors, self.speakers, consent_by, consent_on)
        return self.saved_voices[name]

    def to(self, device) -> "XTTS":
        """Moves the model to a torch device, and returns itself."""
        self.model.to(device)
        return self

    def __call__(
        self,
        text: str,
        language: str = "es",
        speaker_wav=None,
        *,
        speaker: str | None = None,
        temperature: float | None = None,
        length_penalty: float | None = None,
        repetition_penalty: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        speed: float = 1.0,
        max_new_tokens: int | None = None,
    ) -> np.ndarray:
        """Speaks `text` and gives the waveform, float32 of shape (samples,) in [-1, 1] at `sampling_rate` Hz.

        A text longer than XTTS can say at once is cut where a sentence, a clause or a word ends; nothing is left out.

        Args:
            text: what to say, in `language`.
            language: one of `languages`.
            speaker_wav: the voice: what `load_audio` takes, a list of them by one speaker, or `Reference`s.
            speaker: instead of `speaker_wav`, one of `speakers`; by default the first.
            temperature, length_penalty, repetition_penalty, top_k, top_p: how audio tokens are drawn; by default as
                the checkpoint's config.json says.
            speed: 1 is natural, 2 twice as fast.
            max_new_tokens: the most audio tokens of each piece of text (about 21 a second); coqui's own limit of 605
                by default.

        Raises:
            ValueError: no text, no such language or speaker, no voice at all, a reference that `load_reference`
                refuses, a speed that isn't positive.
        """
        language = self._check(text, language, speed)
        if speaker_wav is not None and speaker is not None:
            raise ValueError("both speaker_wav and speaker were given; give one: each says which voice to speak with.")
        latents, embedding = self._own_voice(speaker) if speaker_wav is None else self._cloned_voice(speaker_wav)
        given = {
            "temperature": temperature,
            "length_penalty": length_penalty,
            "repetition_penalty": repetition_penalty,
            "top_k": top_k,
            "top_p": top_p,
        }
        options = {name: self.model.config[name] if value is None else value for name, value in given.items()}
        limit = self.model.gpt.max_gen_mel_tokens
        pause = np.zeros(int(PAUSE_SECONDS * self.sampling_rate), np.float32)
        spoken = []
        with _quietly():
            for piece in split_text(text, lambda part: self._fits(part, language), language):
                said = self.model.inference(
                    piece,
                    language,
                    latents,
                    embedding,
                    speed=speed,
                    max_new_tokens=limit if max_new_tokens is None else min(max_new_tokens, limit),
                    **options,
                )["wav"]
                spoken += [pause, np.atleast_1d(said)]
        return np.clip(np.concatenate(spoken[1:]), -1.0, 1.0).astype(np.float32, copy=False)

    def _check(self, text: str, language: str, speed: float) -> str:
        """Refuses what can't be said; returns coqui's name of the language."""
        if not text or not text.strip():
            raise ValueError("there is no text to say; give at least a word.")
        if speed <= 0:
            raise ValueError(f"speed is {speed}; valid is above 0: 1 is natural, 2 twice as fast.")
        names = {name.split("-")[0]: name for name in self.model.config.languages}
        if language not in names and language not in names.values():
            raise ValueError(
                f"this XTTS doesn't speak {language!r}; valid is {', '.join(sorted(names))} "
                "(Chinese is 'zh' or 'zh-cn'). Give one of them, or another tts model."
            )
        return names.get(language, language)

    def _fits(self, text: str, language: str) -> bool:
        """Tells whether XTTS can say a text at once: by its characters, and by its tokens as numbers grow in words."""
        tokenizer = self.model.tokenizer
        if len(text) > tokenizer.char_limits.get(language.split("-")[0], DEFAULT_CHAR_LIMIT):
            return False
        try:
            return len(tokenizer.encode(text.lower(), lang=language)) < self.model.args.gpt_max_text_tokens
        except OverflowError:  # a number that num2words has no words for, such as one of thirty digits
            return False

    def _own_voice(self, speaker: str | None) -> tuple[torch.Tensor, torch.Tensor]:
        if speaker is None and not self._speakers:
            raise ValueError(
                f"this XTTS has no voice of its own (no {SPEAKERS} in its folder); give speaker_wav, a recording of "
                f"10 to 15 s of the voice to speak with, or one of its saved voices as speaker: {self.speakers}."
            )
        name = self.speakers[0] if speaker is None else speaker
        if name not in self.speakers:
            raise ValueError(f"there is no speaker {name!r}; valid is {', '.join(map(repr, self.speakers))}.")
        voice = self.saved_voices[name].tensors if name in self.saved_voices else self._speakers[name]
        device = self.model.device
        return voice["gpt_cond_latent"].to(device), voice["speaker_embedding"].to(device)

    def _cloned_voice(self, speaker_wav) -> tuple[torch.Tensor, torch.Tensor]:
        references = load_reference(speaker_wav)
        key = tuple(reference.sha256 for reference in references)
        if key not in self._voices:
            if len(self._voices) >= MAX_VOICES:
                self._voices.pop(next(iter(self._voices)))
            self._voices[key] = self._condition(references)
        return self._voices[key]

    def _condition(self, references: list[Reference]) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes what XTTS knows of a voice, as `Xtts.get_conditioning_latents` of coqui-tts 0.28 does from files.

        Returns:
            The language model's latents, (1, 32, channels) for XTTS v2, and the vocoder's embedding, (1, 512, 1).
        """
        config, waveforms = self.model.config, []
        for reference in references:
            samples = resample(reference.array, reference.sampling_rate, CONDITIONING_RATE)
            samples = samples[: CONDITIONING_RATE * config.max_ref_len]
            if config.sound_norm_refs:
                samples = samples / np.abs(samples).max() * 0.75
            waveforms.append(torch.from_numpy(np.ascontiguousarray(samples))[None].to(self.model.device))
        embeddings = [self.model.get_speaker_embedding(waveform, CONDITIONING_RATE) for waveform in waveforms]
        latents = self.model.get_gpt_cond_latents(
            torch.cat(waveforms, dim=-1),
            CONDITIONING_RATE,
            length=config.gpt_cond_len,
            chunk_length=config.gpt_cond_chunk_len,
        )
        return latents, torch.stack(embeddings).mean(dim=0)


def _build(folder: Path):
    """Builds coqui's model from a folder, with weights read as nothing but weights."""
    try:
        from TTS.tts.configs.xtts_config import XttsConfig
        from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
        from TTS.tts.models.xtts import Xtts
    except ImportError as error:
        raise ImportError(f"XTTS needs coqui-tts ({error}): pip install 'hfpipe[xtts]' or coqui-tts.") from error
    config = XttsConfig()
    try:
        config.load_json(str(folder / CONFIG))
        tokenizer = VoiceBpeTokenizer(vocab_file=str(folder / VOCABULARY))
    except Exception as error:  # tokenizers raises plain Exception, coqpit a TypeError, json a ValueError
        raise ValueError(f"{folder}: {CONFIG} or {VOCABULARY} is damaged ({error}). Copy it again.") from error
    config.model_args.gpt_number_text_tokens = None  # or Xtts() builds a language model, to build it again below
    model = Xtts(config)
    model.tokenizer = tokenizer
    model.init_models()
    weights = _find(folder, WEIGHTS, COQUI_WEIGHTS)
    try:
        model.load_state_dict(_without_duplicates(_read_weights(weights)))
    except RuntimeError as error:
        raise ValueError(
            f"the weights in {weights} don't fit its {CONFIG} and {VOCABULARY} ({str(error)[:500]}). "
            "Take all files from one checkpoint."
        ) from error
    model.gpt.init_gpt_for_inference(kv_cache=model.args.kv_cache)
    model.eval()
    return model


def _find(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _missing(folder: Path) -> str | None:
    """Names a file that an XTTS folder lacks, or None."""
    needed = ((CONFIG,), (WEIGHTS, COQUI_WEIGHTS), (VOCABULARY,))
    return next((names[-1] for names in needed if _find(folder, *names) is None), None)


def _read_weights(path: Path) -> dict:
    """Reads a dict of tensors: safetensors, or what torch saved, of which code is refused and never run."""
    if path.suffix != ".safetensors":
        return _read_pickle(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or truncated ({error}). Copy or download it again.") from error


def _read_speakers(folder: Path) -> dict:
    """Reads a checkpoint's own voices, in their order, as {name: {"gpt_cond_latent": …, "speaker_embedding": …}}."""
    path = _find(folder, SPEAKERS, COQUI_SPEAKERS)
    if path is None or path.name == COQUI_SPEAKERS:
        return _read_pickle(path) if path else {}
    tensors, speakers = _read_weights(path), {}
    with safe_open(path, "pt") as content:
        names = json.loads((content.metadata() or {}).get("speakers", "[]"))
    try:
        for name in names:
            speakers[name] = {key: tensors[f"{name}/{key}"] for key in ("gpt_cond_latent", "speaker_embedding")}
    except KeyError as error:
        raise ValueError(f"{path} is damaged (it lacks {error}). Copy or download it again.") from error
    return speakers


def _read_pickle(path: Path) -> dict:
    """Reads a dict of tensors saved by torch, on the CPU; code in the file is refused, never run.

    Raises:
        ValueError: the file holds more than weights, or is damaged.
    """
    try:
        from TTS.config.shared_configs import BaseDatasetConfig
        from TTS.tts.configs.xtts_config import XttsArgs, XttsAudioConfig, XttsConfig

        allowed = [  # Coqui's own files carry their config as objects of these classes, two under their former place
            BaseDatasetConfig,
            XttsConfig,
            (XttsArgs, "TTS.tts.models.xtts.XttsArgs"),
            (XttsAudioConfig, "TTS.tts.models.xtts.XttsAudioConfig"),
        ]
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} isn't a file of plain weights, so it wasn't loaded and nothing in it was run: "
            f"{str(error)[:300]} … Download the checkpoint again, from somebody you trust."
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is damaged or truncated ({error}). Copy or download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict; give a file that coqui-tts wrote.")
    return content


def _without_duplicates(checkpoint: dict) -> dict:
    """Keeps a checkpoint's own weights: coqui's trainer adds a prefix and its own, and inference second names."""
    state = {name.removeprefix("xtts."): tensor for name, tensor in checkpoint.get("model", checkpoint).items()}
    added = ("gpt.gpt_inference.", "gpt.gpt.wte.", "torch_mel_spectrogram_style_encoder", "torch_mel_spectrogram_dvae")
    return {name: tensor for name, tensor in state.items() if not name.startswith((*added, "dvae."))}


def _download(name: str, revision: str | None, token) -> Path:
    """Finds a checkpoint in the Hugging Face cache, or downloads it once its licence is accepted."""
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise FileNotFoundError(f"there is no folder {name}; give a folder, or a Hub id such as {XTTS_ID}.")
    wanted = {"repo_id": name, "revision": revision, "allow_patterns": FILES}
    with contextlib.suppress(LocalEntryNotFoundError):
        folder = Path(snapshot_download(**wanted, local_files_only=True))
        if not _missing(folder):
            return folder
    check_reachable(name, revision, "tts")
    require_licence()
    try:
        return Path(snapshot_download(**wanted, token=token))
    except Exception as error:  # a connection's errors are httpx's, and no OSError
        reason = str(error).splitlines()[0]
        raise OSError(
            f"tts={name!r} (revision {revision or 'main'}) can't be downloaded: {reason}. Check the name and the "
            f"connection, or give tts= a folder with the checkpoint or another id. {WITHOUT_HUB}"
        ) from error


@contextlib.contextmanager
def _quietly():
    """Keeps to itself what coqui-tts makes transformers say about options that it sets on purpose."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
