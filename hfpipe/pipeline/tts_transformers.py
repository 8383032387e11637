"""Speak with any text-to-audio model of transformers."""

import copy
import json
import threading
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, SpeechT5HifiGan, SpeechT5HifiGanConfig, pipeline
from transformers.utils import cached_file, is_diffusers_available

from .audio import Reference, load_reference, resample
from .cpu_precision import warn_of_precision
from .cpu_threads import refuse_forked_process
from .engine_cancel import add_cancel_hooks, holding
from .errors import is_out_of_memory
from .hub_weights import check_weights, read_config
from .memo import Memo
from .text_sentences import split_text
from .tts_transformers_clone import (
    CLONING,
    CODECS,
    LONGEST_PIECE,
    LONGEST_POCKET,
    LONGEST_REFERENCE,
    POCKET,
    WANT_WORDS,
    ClonedVoice,
    speak_in_voice,
)
from .tts_voices import check_voice

VOCODER_ID = "microsoft/speecht5_hifigan"
PAUSE_SECONDS = 0.2  # between the pieces of a text too long to say at once
MAX_WORDS = 64  # references whose words are kept
LONGEST_BARK = 180  # characters: Bark says at most about 13 s at once (suno-ai/bark, README.md)

# ISO 639-3, which MMS checkpoints give, to ISO 639-1.
ISO_639_1 = dict(
    pair.split(":")
    for pair in """afr:af aka:ak amh:am ara:ar asm:as azb:az aze:az azj:az bak:ba bel:be ben:bn bod:bo bul:bg cat:ca
    ces:cs chv:cv cmn:zh cym:cy dan:da deu:de dzo:dz ell:el eng:en epo:eo est:et eus:eu ewe:ee fao:fo fas:fa fin:fi
    fra:fr ful:ff gle:ga glg:gl grn:gn guj:gu hat:ht hau:ha heb:he hin:hi hrv:hr hun:hu hye:hy ibo:ig ind:id isl:is
    ita:it jav:jv jpn:ja kan:kn kat:ka kaz:kk khm:km kik:ki kin:rw kir:ky kmr:ku kor:ko lao:lo lat:la lav:lv lit:lt
    lug:lg mal:ml mar:mr mkd:mk mlg:mg mlt:mt mon:mn mya:my nld:nl nor:no npi:ne nya:ny oci:oc ori:or orm:om ory:or
    pan:pa pol:pl por:pt pus:ps ron:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slv:sl sna:sn snd:sd som:so sot:st
    spa:es sqi:sq srp:sr sun:su swa:sw swe:sv swh:sw tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th tir:ti tsn:tn tso:ts
    tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz ven:ve vie:vi wol:wo xho:xh yor:yo zho:zh zlm:ms zul:zu""".split()
)


class TransformersTTS:
    """Speak text with a text-to-audio model of transformers: VITS and MMS, SpeechT5, Bark, CSM, Dia and others.

    Pocket TTS and VibeVoice imitate a `speaker_wav`; CSM, Dia and Higgs Audio imitate it with what is said in it, the
    `speaker_text`. The others speak in voices of their own.

    Attributes:
        sampling_rate: Hz of the waveforms.
        languages: ISO 639-1 codes (the model's own for a language without one), or None where it doesn't say.
        clones: True if a `speaker_wav` is really imitated.
        wants_speaker_text: True if that takes the words of the recording as well.
        requirements: what it needs from PyPI besides transformers.
    """

    def __init__(self, pipe, speaker_embeddings: np.ndarray | None = None):
        self.pipe = pipe
        self._hooks = []
        self.sampling_rate = pipe.sampling_rate
        self.model_type = pipe.model.config.model_type
        self.clones = self.model_type in CLONING
        self.wants_speaker_text = self.model_type in WANT_WORDS
        self.requirements = ("diffusers",) if self.model_type == "vibevoice" else ()
        self._words: Memo[str] = Memo(MAX_WORDS)  # by the recordings' content
        code = getattr(pipe.tokenizer, "language", None) if self.model_type == "vits" else None
        code = code and code.split("-")[0]  # "uig-script_arabic"
        self.languages = (ISO_639_1.get(code, code),) if code else None
        self._speaker_embeddings = speaker_embeddings
        self._has_warned = False
        self._speaking = threading.Lock()  # transformers' tokenizers and vocoders keep settings while they are used

    @classmethod
    def from_pretrained(
        cls, name_or_path, revision=None, token=None, device=None, dtype=None, precision="auto"
    ) -> "TransformersTTS":
        """Load a text-to-audio model from a folder or the Hub, with what it needs to make a waveform.

        SpeechT5 takes its voice from `speaker_embeddings.npy`, of shape (1, 512), and its vocoder from
        `vocoder.safetensors` and `vocoder_config.json`, where they lie beside it, or else from
        `microsoft/speecht5_hifigan`.

        Args:
            name_or_path, revision, token, device: see `load_tts`.
            dtype: of the weights, in which it computes; float32 by default.
            precision: it computes in the weights' dtype, and warns of another precision.

        Raises:
            ValueError: not a text-to-audio model, or its files are damaged. OSError: a file is missing, or the Hub.
            ImportError: VibeVoice without diffusers.
        """
        name, source = str(name_or_path), {"revision": revision, "token": token}
        dtype = dtype or torch.float32
        model_type = read_config(name, revision, token).get("model_type")
        warn_of_precision(f"the voice {name}", precision, str(dtype).removeprefix("torch."))
        if model_type == "vibevoice" and not is_diffusers_available():
            raise ImportError("VibeVoice needs diffusers: pip install 'hfpipe[vibevoice]'")
        given, embeddings = {}, None
        if model_type == "speecht5":
            given["vocoder"] = _load_vocoder(name, source)
            found = _find(name, "speaker_embeddings.npy", source)
            embeddings = np.load(found, allow_pickle=False) if found else None
        try:
            source["trust_remote_code"] = False
            given |= _load_processor(name, model_type, source)
            pipe = pipeline("text-to-audio", model=name, device=device or "cpu", dtype=dtype, **source, **given)
        except Exception as error:  # a config that was tampered with makes transformers raise anything
            if is_out_of_memory(error):
                raise
            reason = (str(error).strip() or repr(error)).splitlines()[-1]
            raise ValueError(
                f"transformers can't load {name} (model_type {model_type!r}) as a text-to-audio model: {reason} "
                "Give a text-to-speech model, such as facebook/mms-tts-spa, or copy its files again."
            ) from error
        check_weights(pipe.model, name, revision, token)
        if model_type in CODECS and getattr(pipe.processor, "audio_tokenizer", None) is None:
            raise ValueError(f"{name} lacks its processor or its codec, so it can't speak; copy all its files again.")
        return cls(pipe, embeddings).to(pipe.device)

    def save_pretrained(self, folder) -> None:
        """Write the model, with its vocoder and voices, into one flat folder that `from_pretrained` loads again."""
        folder, processor = Path(folder), self.pipe.processor
        folder.mkdir(parents=True, exist_ok=True)
        self.pipe.model.save_pretrained(folder)
        tokenizer = self.pipe.tokenizer if processor is None else processor.tokenizer
        tokenizer = _as_loaded(tokenizer)
        if self.model_type == "bark":
            type(processor)(tokenizer).save_pretrained(folder)
            _save_voice_presets(processor, folder)
        else:
            (tokenizer if processor is None else _with_tokenizer(processor, tokenizer)).save_pretrained(folder)
        if self.model_type in CODECS:  # or the processor would look for it where it was, perhaps on another machine
            _save_beside(processor.audio_tokenizer, folder, "codec")
            config = json.loads((folder / "processor_config.json").read_text())
            config.pop("audio_tokenizer")
            (folder / "processor_config.json").write_text(json.dumps(config, indent=2))
        if self.pipe.vocoder is not None:
            _save_beside(self.pipe.vocoder, folder, "vocoder")
        if self._speaker_embeddings is not None:
            np.save(folder / "speaker_embeddings.npy", self._speaker_embeddings)

    def to(self, device) -> "TransformersTTS":
        """Move the model, and its vocoder or codec, to a torch device, and return itself."""
        for hook in self._hooks:
            hook.remove()
        self.pipe.device = torch.device(device)
        for part in (self.pipe.model, self.pipe.vocoder, getattr(self.pipe.processor, "audio_tokenizer", None)):
            if part is not None:
                part.to(device)
        self._hooks = add_cancel_hooks(self.pipe.model)
        return self

    def resolve_voice(self, speaker_wav=None, speaker: str | None = None, speaker_text=None) -> ClonedVoice | None:
        """Return a voice to imitate, or None for the own voice.

        A model that doesn't clone warns once of recordings, and speaks in its own voice.

        Args:
            speaker_wav: a recording, or several; at most 20 s for a model that wants the words.
            speaker: must be None, since there are no named voices.
            speaker_text: what is said in `speaker_wav`, or a function that writes down a list of `Reference`s, which
                is called once for the same recordings. Only read if `wants_speaker_text`.

        Raises:
            ValueError: a `speaker`, a reference that `load_reference` refuses or that is too long, or no words for it.
        """
        check_voice(speaker_wav, speaker, self)
        if speaker_wav is None:
            return None
        if self.clones:
            rate, references = self.sampling_rate, load_reference(speaker_wav)
            words = self._read_words(references, speaker_text) if self.wants_speaker_text else None
            samples = [resample(each.array, each.sampling_rate, rate) for each in references]
            return ClonedVoice(np.concatenate(samples), words)
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{self.model_type} can't imitate a voice, so speaker_wav is left unused and it speaks in its own. "
                "For cloning give another tts, such as coqui/XTTS-v2.",
                stacklevel=2,
            )
        return None

    def _read_words(self, references: list[Reference], speaker_text) -> str:
        """Return what is said in references, as it was given or written down."""
        seconds = sum(len(each.array) / each.sampling_rate for each in references)
        if seconds > LONGEST_REFERENCE:
            raise ValueError(
                f"speaker_wav lasts {seconds:.0f} s; {self.model_type} hears at most {LONGEST_REFERENCE} s. Cut it to "
                "10 to 15 s, where a sentence ends."
            )
        if callable(speaker_text):
            key = "".join(reference.sha256 for reference in references)
            return self._words.get(key, lambda: speaker_text(references))
        if speaker_text is None or not speaker_text.strip():
            raise ValueError(
                f"{self.model_type} imitates a recording with what is said in it; give the words as speaker_text, or "
                "call the whole pipeline, whose Whisper writes them down."
            )
        return speaker_text.strip()

    def __call__(
        self,
        text: str,
        language: str = "es",
        speaker_wav=None,
        *,
        speaker_text: str | None = None,
        voice: ClonedVoice | None = None,
        **options,
    ) -> np.ndarray:
        """Speak `text`, and return the waveform, float32 of shape (samples,) in [-1, 1] at `sampling_rate` Hz.

        Args:
            text: what to say; Bark, SpeechT5 and the models that clone get it in pieces that they can say at once.
            language: checked against `languages`, where the model says them.
            speaker_wav: a recording, or several, of the voice to speak with, see `resolve_voice`.
            speaker_text: what is said in it, see `resolve_voice`.
            voice: instead of both, what `resolve_voice` returned.
            options: for the model's `generate` (or `forward`: VITS). Two are hfpipe's: `voice_preset` of Bark, a name
                such as `"v2/es_speaker_0"`; `speaker_embeddings` of SpeechT5, an x-vector of shape (1, 512).

        Raises:
            ValueError: no text, or none that the model can say; another language; no such preset; SpeechT5 without a
                voice; a reference that `resolve_voice` refuses.
            TypeError: a `speed`, which these models don't have.
        """
        if not text or not text.strip():
            raise ValueError("there is no text to say; give at least a word.")
        if self.languages is not None and language not in self.languages:
            raise ValueError(
                f"this model doesn't speak {language!r}; valid is {', '.join(self.languages)}. "
                "Give that language, or another tts model."
            )
        if "speed" in options:  # VITS would leave it unused, and say nothing
            raise TypeError("this model can't change its speed; leave speed out, or give another tts: XTTS or Kokoro.")
        refuse_forked_process()
        voice = self.resolve_voice(speaker_wav, speaker_text=speaker_text) if voice is None else voice
        pause = np.zeros(int(PAUSE_SECONDS * self.sampling_rate), np.float32)
        spoken = []
        for piece in split_text(text, self._fits, language):
            with holding(self._speaking):
                spoken += [pause, self._speak(piece, voice, dict(options))]
        return np.clip(np.concatenate(spoken[1:]), -1.0, 1.0).astype(np.float32, copy=False)

    def _fits(self, text: str) -> bool:
        """Return whether the model can say a text at once; one that states no limit can say any."""
        if self.model_type == "bark":
            return len(text) <= LONGEST_BARK
        if self.model_type == "speecht5":
            return len(self.pipe.tokenizer(text)["input_ids"]) <= self.pipe.model.config.max_text_positions
        if self.model_type in POCKET:
            return len(self.pipe.tokenizer(text)["input_ids"]) <= LONGEST_POCKET
        return not self.clones or len(text) <= LONGEST_PIECE

    def _speak(self, text: str, voice: ClonedVoice | None, options: dict) -> np.ndarray:
        """Speak one piece of text: in a voice to imitate, or else with the stock pipeline."""
        if self.clones:
            return speak_in_voice(self.pipe, text, voice, options)
        preprocess = {}
        if self.model_type == "vits" and not self.pipe.tokenizer.prepare_for_tokenization(text)[0].strip():
            raise ValueError(f"{text!r} holds no letter that this model knows; write it in words of its language.")
        if self.model_type == "speecht5":
            options["speaker_embeddings"] = self._read_embeddings(options.get("speaker_embeddings"))
        if self.model_type == "bark" and "voice_preset" in options:
            preprocess["voice_preset"] = self._check_preset(options.pop("voice_preset"))
        waveform = self.pipe(text, preprocess_params=preprocess, forward_params=options)["audio"]
        return np.atleast_1d(waveform.mean(axis=0) if waveform.ndim == 2 else waveform)

    def _read_embeddings(self, given) -> torch.Tensor:
        given = self._speaker_embeddings if given is None else given
        size = self.pipe.model.config.speaker_embedding_dim
        if given is None:
            raise ValueError(
                f"SpeechT5 has no voice without an x-vector; give speaker_embeddings=, an array of shape (1, {size}), "
                "or put speaker_embeddings.npy in its folder. Matthijs/cmu-arctic-xvectors on the Hub has some."
            )
        embeddings = torch.as_tensor(given, dtype=self.pipe.model.dtype)
        if embeddings.numel() != size:
            raise ValueError(f"speaker_embeddings has shape {tuple(embeddings.shape)}; valid is (1, {size}).")
        return embeddings.reshape(1, size)

    def _check_preset(self, preset):
        known = self.pipe.processor.available_voice_presets
        if not isinstance(preset, str) or preset in known or Path(preset).is_file():
            return preset
        raise ValueError(
            f"there is no voice_preset {preset!r}; valid is {', '.join(known) or 'none that this model has'}, "
            "or the path of an .npz file."
        )


def _as_loaded(tokenizer):
    """Return a copy of a tokenizer without what its use left in it: a dtype, which JSON can't hold, and padding."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.init_kwargs.pop("dtype", None)
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _with_tokenizer(processor, tokenizer):
    """Return a shallow copy of a processor with another tokenizer."""
    processor = copy.copy(processor)
    processor.tokenizer = tokenizer
    return processor


def _find(name: str, file: str, source: dict) -> str | None:
    return cached_file(name, file, **source, _raise_exceptions_for_missing_entries=False)


def _load_processor(name: str, model_type: str | None, source: dict) -> dict:
    """Return the processor, as arguments of `pipeline`, of a model whose codec `_save_beside` wrote beside it."""
    if model_type not in CODECS:
        return {}
    codec = _load_beside(*CODECS[model_type], name, "codec", source)
    if codec is None:  # the processor of the model's authors names a codec on the Hub
        return {}
    processor = AutoProcessor.from_pretrained(name, audio_tokenizer=codec, **source)
    return {"processor": processor, "tokenizer": processor.tokenizer}


def _load_vocoder(name: str, source: dict) -> SpeechT5HifiGan:
    """Load the vocoder that lies beside a SpeechT5, or the one of its authors."""
    vocoder = _load_beside(SpeechT5HifiGan, SpeechT5HifiGanConfig, name, "vocoder", source)
    try:
        return SpeechT5HifiGan.from_pretrained(VOCODER_ID) if vocoder is None else vocoder
    except OSError as error:
        raise OSError(
            f"{name} has no vocoder.safetensors with vocoder_config.json beside it, and {VOCODER_ID} isn't to be had: "
            f"{error} Check the connection, or give another tts model."
        ) from error


def _load_beside(model_class, config_class, name: str, stem: str, source: dict):
    """Load a second model that `_save_beside` wrote into the first one's folder, or None."""
    weights, config = (_find(name, f"{stem}{ending}", source) for ending in (".safetensors", "_config.json"))
    if weights is None or config is None:
        return None
    model = model_class(config_class.from_json_file(config))
    model.load_state_dict(load_file(weights))
    return model.eval()


def _save_beside(model, folder: Path, stem: str) -> None:
    """Write a second model into a folder under names of its own, since a part's folder has no folders."""
    model.config.to_json_file(folder / f"{stem}_config.json")
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / f"{stem}.safetensors"
    )


def _save_voice_presets(processor, folder: Path) -> None:
    """Write Bark's voices as flat files, and the index by which its processor finds them."""
    presets = {}
    for name in processor.available_voice_presets:
        presets[name] = {}
        for key, prompt in processor("a", voice_preset=name)["history_prompt"].items():
            presets[name][key] = f"voice_{name.replace('/', '_')}_{key}.npy"
            np.save(folder / presets[name][key], prompt.numpy(), allow_pickle=False)
    # The processor replaces repo_or_path by the folder that it is loaded from.
    index = {"repo_or_path": str(folder), **presets}
    (folder / "speaker_embeddings_path.json").write_text(json.dumps(index, indent=2))
