"""Speak with Chatterbox of Resemble AI, in the voice of a recording: its own package's models, and its watermark."""

import functools
import json
import threading
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import save_file

from .audio import Reference, load_reference, resample
from .cpu_precision import warn_of_precision
from .cpu_threads import refuse_forked_process
from .engine_cancel import add_cancel_hooks, holding
from .hub_access import CHATTERBOX_ID
from .memo import Memo
from .text_sentences import split_text
from .tts_voices import Voice, check_voice

INSTALL = "pip install 'hfpipe[chatterbox]' and then pip install --no-deps chatterbox-tts==0.1.7"
CONFIG = "config.json"
# The files of each model, as the package's from_local reads them.
MULTILINGUAL = ("ve.pt", "t3_mtl23ls_v2.safetensors", "s3gen.pt", "grapheme_mtl_merged_expanded_v1.json")
ENGLISH = ("ve.safetensors", "t3_cfg.safetensors", "s3gen.safetensors", "tokenizer.json")
OWN_VOICE, CANGJIE = "conds.pt", "Cangjie5_TC.json"

TOKENIZER_RATE = 16_000  # Hz, of what turns a reference into tokens
TOKENS_PER_SECOND = 25
LONGEST_PIECE = 300  # characters
MAX_NEW_TOKENS = 1000  # of a piece, as the package has it: 40 s
MAX_VOICES = 64  # kept in memory
PAUSE_SECONDS = 0.2  # between the pieces of a text too long to say at once
# What its files raise if they are damaged.
DAMAGED = (RuntimeError, ValueError, AssertionError, EOFError, OSError, UnpicklingError, SafetensorError)
LEAST_GUIDANCE = 1e-6  # at 0, generate of chatterbox-tts 0.1.7 joins batches of one and of two, and fails
DEFAULTS = {"temperature": 0.8, "min_p": 0.05, "top_p": 1.0}


class ChatterboxTTS:
    """Speak text in the voice of a recording, more or less expressively. All speech carries Resemble AI's watermark.

    Attributes:
        model: the package's `ChatterboxMultilingualTTS` or `ChatterboxTTS`.
        sampling_rate: Hz of the waveforms, 24000.
        languages: ISO 639-1 codes: 23 of the multilingual model, or English alone.
        clones: True: a `speaker_wav` is really imitated.
    """

    clones = True
    # chatterbox-tts itself pins versions that nothing here resolves with, so it isn't among them.
    requirements = ("conformer", "diffusers", "omegaconf", "pyloudnorm", "resemble-perth", "s3tokenizer", "torchaudio")

    def __init__(self, model, device="cpu"):
        self.model = model
        self.sampling_rate = model.sr
        self.is_multilingual = model.t3.hp.is_multilingual
        self.languages = tuple(model.get_supported_languages()) if self.is_multilingual else ("en",)
        self._voices: Memo[Voice] = Memo(MAX_VOICES)  # by the recordings' content
        self._speaking = threading.Lock()  # the package keeps the state of a sentence in its modules
        self._hooks: list = []
        self.to(device)

    @classmethod
    def from_pretrained(
        cls, name_or_path, revision=None, token=None, device=None, dtype=None, precision="auto"
    ) -> "ChatterboxTTS":
        """Load Chatterbox from a folder in the package's layout, or the multilingual model from the Hub.

        Args:
            name_or_path: `ResembleAI/chatterbox`, another Hub id, or a folder with the package's files.
            revision, token, device: see `load_tts`.
            dtype, precision: it computes in float32, and warns of another.

        Raises:
            ImportError: the package isn't installed; the message says how to.
            FileNotFoundError: a file is missing. OSError: the Hub can't be reached or has no such repo.
            ValueError: a file is damaged, or another model's.
        """
        package = _import_package()
        warn_of_precision(f"the voice {name_or_path}", precision, "float32")
        folder = Path(name_or_path)
        if not folder.is_dir():
            files = [*MULTILINGUAL, OWN_VOICE, CANGJIE, CONFIG]
            folder = Path(snapshot_download(str(name_or_path), revision=revision, token=token, allow_patterns=files))
        is_english = (folder / ENGLISH[1]).is_file() and not (folder / MULTILINGUAL[1]).is_file()
        for name in ENGLISH if is_english else MULTILINGUAL:
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"there is no {name} in {name_or_path}; Chatterbox's folder holds {', '.join(MULTILINGUAL)}, or "
                    f"{', '.join(ENGLISH)} for English alone. Copy it beside the others, or give {CHATTERBOX_ID}."
                )
        kind = package.ChatterboxTTS if is_english else package.ChatterboxMultilingualTTS
        try:
            model = kind.from_local(folder, "cpu")
        except (
            RuntimeError,
            ValueError,
            AssertionError,
            EOFError,
            OSError,
            UnpicklingError,
            SafetensorError,
        ) as error:
            raise ValueError(f"{name_or_path} isn't a whole Chatterbox ({error}); copy its files again.") from error
        return cls(model, device or "cpu")

    def save_pretrained(self, folder) -> None:
        """Write the package's files, and a config.json by which `load_tts` knows them, into a flat folder."""
        folder, model = Path(folder), self.model
        folder.mkdir(parents=True, exist_ok=True)
        encoder, t3, vocoder, vocabulary = MULTILINGUAL if self.is_multilingual else ENGLISH
        write = torch.save if self.is_multilingual else save_file
        write(_state(model.ve), folder / encoder)
        save_file(_state(model.t3), folder / t3)
        write(_state(model.s3gen), folder / vocoder)
        model.tokenizer.tokenizer.save(str(folder / vocabulary))
        if model.conds is not None:
            model.conds.save(folder / OWN_VOICE)
        (folder / CONFIG).write_text(json.dumps({"model": "chatterbox"}), encoding="utf-8")

    def to(self, device) -> "ChatterboxTTS":
        """Move the models to a torch device, and return itself; the watermark is made on the CPU."""
        for hook in self._hooks:
            hook.remove()
        for part in (self.model.t3, self.model.s3gen, self.model.ve):
            part.to(device)
        self.model.device = torch.device(device)
        self._hooks = [*add_cancel_hooks(self.model.t3), *add_cancel_hooks(self.model.s3gen)]
        return self

    def resolve_voice(self, speaker_wav=None, speaker: str | None = None) -> Voice:
        """Return the voice of recordings, kept under their content; without any, the checkpoint's own.

        Raises:
            ValueError: a `speaker`, since there are no named voices; a reference that `load_reference` refuses; no
                reference for a checkpoint that has no voice of its own.
        """
        check_voice(speaker_wav, speaker, self)
        if speaker_wav is not None:
            references = load_reference(speaker_wav)
            key = "".join(reference.sha256 for reference in references)
            return self._voices.get(key, lambda: self._clone(references))
        if self.model.conds is None:
            raise ValueError(
                f"this Chatterbox has no voice of its own (no {OWN_VOICE} in its folder); give speaker_wav, a "
                "recording of 10 to 15 s of the voice to speak with."
            )
        own = {"speaker_emb": self.model.conds.t3.speaker_emb, **self.model.conds.gen}
        own["cond_prompt_speech_tokens"] = self.model.conds.t3.cond_prompt_speech_tokens
        return Voice({name: tensor for name, tensor in own.items() if torch.is_tensor(tensor)})

    def __call__(
        self,
        text: str,
        language: str = "es",
        speaker_wav=None,
        *,
        voice: Voice | None = None,
        exaggeration: float = 0.5,
        cfg_weight: float = 0.5,
        max_new_tokens: int = MAX_NEW_TOKENS,
        **options,
    ) -> np.ndarray:
        """Speak `text`, and return the waveform, float32 of shape (samples,) in [-1, 1] at `sampling_rate` Hz.

        Args:
            text: what to say; a long one is said in pieces of up to 300 characters.
            language: one of `languages`.
            speaker_wav: a recording, or several, of the voice to speak with, see `resolve_voice`.
            voice: instead of `speaker_wav`, what `resolve_voice` returned.
            exaggeration: how expressive the speech is; 0.5 is neutral, and 1 or more may be unstable.
            cfg_weight: how closely text and pace are followed (classifier-free guidance), 0 to 1; lower is slower.
            max_new_tokens: the most audio tokens of a piece, 25 a second.
            options: `temperature`, `repetition_penalty`, `min_p` and `top_p`, as in the package's `generate`.

        Raises:
            ValueError: no text, no such language, a reference that `resolve_voice` refuses, a negative number.
            TypeError: no such option.
        """
        if not text or not text.strip():
            raise ValueError("there is no text to say; give at least a word.")
        if language not in self.languages:
            raise ValueError(
                f"this Chatterbox doesn't speak {language!r}; valid is {', '.join(self.languages)}. "
                "Give one of them, or another tts model."
            )
        for name, value in {"exaggeration": exaggeration, "cfg_weight": cfg_weight}.items():
            if value < 0:
                raise ValueError(f"{name} is {value}; valid is 0 or more: 0.5 by default.")
        valid = (*DEFAULTS, "repetition_penalty")
        if unknown := sorted(options.keys() - set(valid)):
            raise TypeError(f"Chatterbox has no {', '.join(unknown)}; valid are {', '.join(valid)}.")
        refuse_forked_process()
        voice = self.resolve_voice(speaker_wav) if voice is None else voice
        penalty = 2.0 if self.is_multilingual else 1.2  # the package's own
        sampling = {"repetition_penalty": penalty, **DEFAULTS, **options, "max_new_tokens": max_new_tokens}
        sampling["cfg_weight"] = max(cfg_weight, LEAST_GUIDANCE)
        spoken = []
        for piece in split_text(text, lambda part: len(part) <= LONGEST_PIECE, language):
            with holding(self._speaking), torch.inference_mode():
                spoken += [np.zeros(int(PAUSE_SECONDS * self.sampling_rate), np.float32)]
                spoken += [self._speak(self.encode(piece, language), voice, exaggeration, sampling)]
        return np.clip(np.concatenate(spoken[1:]), -1.0, 1.0).astype(np.float32, copy=False)

    def encode(self, text: str, language: str) -> torch.Tensor:
        """Return the tokens of a text between start and stop, int64 of shape (tokens,), as the package reads it."""
        hp, named = self.model.t3.hp, {"language_id": language} if self.is_multilingual else {}
        tokens = self.model.tokenizer.text_to_tokens(_import_package().mtl_tts.punc_norm(text), **named)[0].long()
        start, stop = (tokens.new_tensor([end]) for end in (hp.start_text_token, hp.stop_text_token))
        return torch.cat([start, tokens, stop])

    @torch.inference_mode()
    def encode_audio(self, samples: np.ndarray, sampling_rate: int, max_tokens: int | None = None) -> torch.Tensor:
        """Return the audio tokens of a recording, int64 of shape (tokens,), 25 a second."""
        wave = torch.from_numpy(resample(samples, sampling_rate, TOKENIZER_RATE))
        return self.model.s3gen.tokenizer([wave], max_len=max_tokens)[0][0].clone()

    def condition(self, voice: Voice, exaggeration: float):
        """Return the package's `T3Cond` of a voice."""
        tensors = {name: voice.tensors[name].clone() for name in ("speaker_emb", "cond_prompt_speech_tokens")}
        condition = _import_package().tts.T3Cond(**tensors, emotion_adv=exaggeration * torch.ones(1, 1, 1))
        return condition.to(device=self.model.device)

    def _clone(self, references: list[Reference]) -> Voice:
        """Compute the voice of recordings, as the package's `prepare_conditionals` does with a file."""
        model, parts = self.model, {}
        for rate in (self.sampling_rate, TOKENIZER_RATE):
            parts[rate] = np.concatenate([resample(each.array, each.sampling_rate, rate) for each in references])
        with holding(self._speaking), torch.inference_mode():
            heard = model.s3gen.embed_ref(
                parts[self.sampling_rate][: model.DEC_COND_LEN], self.sampling_rate, device=model.device
            )
            speaker = model.ve.embeds_from_wavs([parts[TOKENIZER_RATE]], sample_rate=TOKENIZER_RATE).mean(axis=0)
        prompt = self.encode_audio(
            parts[TOKENIZER_RATE][: model.ENC_COND_LEN], TOKENIZER_RATE, model.t3.hp.speech_cond_prompt_len
        )
        tensors = {name: tensor for name, tensor in heard.items() if torch.is_tensor(tensor)}
        tensors |= {"speaker_emb": torch.from_numpy(speaker)[None], "cond_prompt_speech_tokens": prompt[None]}
        return Voice({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()})

    def _speak(self, text: torch.Tensor, voice: Voice, exaggeration: float, sampling: dict) -> np.ndarray:
        """Speak one piece of text, with and without guidance side by side, and mark it."""
        model = self.model
        try:
            tokens = model.t3.inference(
                t3_cond=self.condition(voice, exaggeration),
                text_tokens=text.expand(2, -1).to(model.device),
                **sampling,
            )[0]
        finally:  # each sentence leaves behind a module of the same weights, and hooks if the model is multilingual
            model.t3._modules.pop("patched_model", None)
            for layer in model.t3.tfmr.layers:
                layer.self_attn._forward_hooks.clear()
        package = _import_package()
        tokens = package.tts.drop_invalid_tokens(tokens)
        tokens = tokens[tokens < package.models.s3tokenizer.SPEECH_VOCAB_SIZE]
        if not len(tokens):
            return np.zeros(0, np.float32)
        names = ("prompt_token", "prompt_token_len", "prompt_feat", "embedding")
        reference = {name: voice.tensors[name].clone().to(model.device) for name in names}
        waveform, _ = model.s3gen.inference(speech_tokens=tokens, ref_dict={**reference, "prompt_feat_len": None})
        waveform = waveform.squeeze(0).float().cpu().numpy()
        return model.watermarker.apply_watermark(waveform, sample_rate=self.sampling_rate)


@functools.cache
def _import_package():
    """Import chatterbox, without its bars of progress.

    Raises:
        ImportError: it isn't installed, or what it needs isn't.
    """
    try:
        import chatterbox
        import perth
        from chatterbox.models.t3 import t3
    except ImportError as error:
        raise ImportError(
            f"Chatterbox needs its package, without the versions that it pins ({error}): {INSTALL}."
        ) from error
    if perth.PerthImplicitWatermarker is None:
        raise ImportError(
            f"resemble-perth can't make Chatterbox's watermark here: {INSTALL}, or repair resemble-perth."
        )
    t3.tqdm = lambda steps, **_: steps
    return chatterbox


def _state(module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
