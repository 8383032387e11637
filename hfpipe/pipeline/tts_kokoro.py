"""Speak with Kokoro-82M, offline and on the CPU, in a voice of its own or in the nearest blend of its voices."""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import threading
import warnings
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors.numpy import load_file, save_file

from .audio import load_reference
from .audio_speaker import embed_speaker
from .cpu_precision import warn_of_precision
from .cpu_threads import refuse_forked_process, run_onnx
from .engine_cancel import current_token, raise_if_cancelled
from .files import write_text
from .hub_cache import cache_folder
from .memo import Memo
from .text_locale import base_language
from .text_names import respell
from .tts_kokoro_phonemes import espeak_accent, phonemize, split_phonemes, start_espeak
from .tts_voices import SavedVoice, check_voice, make_voice, read_voices, write_voices

CONFIG, MODEL, VOICES, EMBEDDINGS = "config.json", "model.onnx", "voices.safetensors", "embeddings.safetensors"
THREADS = 2
MAX_BLENDS = 64  # of recordings, kept in memory
PAUSE = 0.2  # seconds between two pieces of a long text
SPEEDS = (0.5, 2.0)
SENTENCES = (  # spoken to hear what a voice is like
    "El viejo Wamba pidió zumo de kiwi y una jarra de agua fresca.",
    "Mañana por la tarde llegará el barco con noticias de Guinea.",
)
MAX_BLENDED = 4  # voices: of more, a blend sounds less like the speaker and more like the average voice


class Kokoro:
    """Turn text into speech at 24 kHz with an ONNX Kokoro-82M and espeak-ng; a text-to-speech part of voice-qa.

    It does not clone (`clones` is False). With a `speaker_wav` it speaks in the blend of its own voices that is
    nearest to the speaker, as resemblyzer's encoder hears it: of a like pitch and timbre, still somebody else.

    Attributes:
        sampling_rate: Hz of the speech.
        languages: ISO 639-1 codes that it speaks.
        regions: True: a call takes a language with its region.
        voices: style tables by name, float32 (510, 1, 256), a row for each number of tokens.
        embeddings: resemblyzer's float32 (256,) by voice; empty until `embed_voices` has filled it.
        saved_voices: the `SavedVoice`s that `save_voice` made, by name.
    """

    clones = False
    regions = True
    # from PyPI, for a repo's requirements.txt; setuptools for its version, which resemblyzer depends on
    requirements = ("espeakng-loader", "onnxruntime", "phonemizer-fork", "resemblyzer", "scipy", "setuptools")

    def __init__(self, folder, config: dict, voices: dict[str, np.ndarray], embeddings: dict[str, np.ndarray]):
        self.folder = Path(folder)
        self.config = config
        self.voices = voices
        self.embeddings = embeddings
        self.saved_voices: dict[str, SavedVoice] = {}
        self.sampling_rate: int = config["sampling_rate"]
        self.languages: tuple[str, ...] = tuple(config["languages"])
        self._session = _open_session(self.folder / MODEL)
        for espeak_language in config["languages"].values():
            start_espeak(espeak_language)
        self._saving, self._embedding = threading.Lock(), threading.Lock()
        self._blends: Memo[dict[str, float]] = Memo(MAX_BLENDS)  # by the recordings' and the voices' content

    @classmethod
    def from_pretrained(
        cls, name_or_path, revision=None, token=None, device=None, dtype=None, precision="auto"
    ) -> "Kokoro":
        """Load a folder that `save_pretrained` wrote, or such a repo on the Hub.

        Args:
            name_or_path: a folder, or "org/name" on the Hub, at `revision`, with `token`.
            device, dtype, precision: accepted as every part does: the weights are int8 and run on the CPU, and another
                precision is warned of.

        Raises:
            FileNotFoundError: no such folder, or a file is missing in it.
            ValueError: its config.json is another model's.
            ImportError: onnxruntime is missing.
        """
        warn_of_precision("Kokoro", precision, "int8")
        folder = Path(name_or_path)
        if not folder.is_dir():
            if str(name_or_path).count("/") != 1:
                raise FileNotFoundError(f"there is no folder {name_or_path}; give one, or a repo such as 'org/name'.")
            folder = Path(snapshot_download(str(name_or_path), revision=revision, token=token))
        for name in (CONFIG, MODEL, VOICES):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} has no {name}; a Kokoro folder has {CONFIG}, {MODEL} and {VOICES}.")
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config.get("model_type") != "kokoro":
            raise ValueError(f"{folder} holds a {config.get('model_type')!r}; valid is 'kokoro'. Give its folder.")
        embeddings = load_file(folder / EMBEDDINGS) if (folder / EMBEDDINGS).is_file() else {}
        part = cls(folder, config, load_file(folder / VOICES), embeddings)
        part.read_voices(folder)
        return part

    def save_pretrained(self, folder) -> None:
        """Write the part as a flat folder that `from_pretrained` loads again."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / MODEL).exists() or not os.path.samefile(folder / MODEL, self.folder / MODEL):
            shutil.copyfile(self.folder / MODEL, folder / MODEL)
        (folder / CONFIG).write_text(json.dumps(self.config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        save_file(self.voices, folder / VOICES)
        if self.embeddings:
            save_file(self.embeddings, folder / EMBEDDINGS)
        self.write_voices(folder)

    def write_voices(self, folder) -> None:
        """Write the saved voices, and nothing else, into a folder."""
        write_voices(self.saved_voices, Path(folder))

    def read_voices(self, folder) -> None:
        """Add the voices that `write_voices` wrote into a folder; raise ValueError if a file is damaged."""
        with self._saving:
            found = read_voices(Path(folder), {"style": next(iter(self.voices.values())).shape})
            self.saved_voices = self.saved_voices | found

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names to give as `speaker=`: the model's own voices, and then the saved ones."""
        return (*self.voices, *self.saved_voices)

    def save_voice(self, name: str, speaker_wav, consent_by: str | None = None, consent_on=None) -> SavedVoice:
        """Save the blend nearest to a recording's voice under a name, for `speaker=name`; not the recording.

        Args:
            name: letters, digits, spaces, dots and hyphens, at most 64.
            speaker_wav: 10 to 15 s of speech by somebody who agreed to it; several recordings in a list.
            consent_by: who agreed; None is the speaker, by the name that the voice has.
            consent_on: the day on which they agreed; None is today.

        Raises:
            ValueError: the name is unfit or taken, no consent, or a reference that `load_reference` refuses.
        """
        style = torch.from_numpy(np.ascontiguousarray(self._style(self.find_voice(speaker_wav))))
        with self._saving:
            voice = make_voice(name, {"style": style}, self.speakers, consent_by, consent_on)
            self.saved_voices = self.saved_voices | {name: voice}
        return voice

    def resolve_voice(self, speaker_wav=None, speaker: str | dict[str, float] | None = None) -> np.ndarray | None:
        """Return the style table, float32 (510, 1, 256), of the blend nearest to recordings, or of a speaker.

        Args:
            speaker_wav: recordings, as `load_reference` takes them.
            speaker: a name in `speakers`, or a blend {name: weight} of `voices`.

        Returns:
            The style table, or None if neither was given: then the language of each text decides, see
            `default_speaker`.

        Raises:
            ValueError: both were given, no such voice, or what `load_reference` raises.
        """
        if speaker_wav is not None or isinstance(speaker, str):
            check_voice(speaker_wav, speaker, self)
        if speaker_wav is not None:
            warnings.warn(
                "Kokoro can't clone: it speaks in the blend of its own voices that is nearest to speaker_wav, an "
                "approximation. For cloning give another tts, such as coqui/XTTS-v2.",
                stacklevel=2,
            )
            speaker = self.find_voice(speaker_wav)
        return None if speaker is None else self._style(speaker)

    def default_speaker(self, language: str) -> str:
        """Return the name of the voice that speaks a language where none is asked for.

        Args:
            language: ISO 639-1, with a region or not. A language without a voice of its own has the model's one.
        """
        return self.config.get("default_voices", {}).get(base_language(language), self.config["voice"])

    def to(self, device) -> "Kokoro":
        """Return itself, unmoved: the int8 operators run on the CPU, faster than speech."""
        return self

    def __call__(self, text, language="es", speaker_wav=None, speaker=None, speed=1.0, voice=None) -> np.ndarray:
        """Speak `text`, and return a float32 waveform of shape (samples,) in [-1, 1] at `sampling_rate` Hz.

        Args:
            text: what to say; past 510 symbols of speech it is said in pieces, cut at sentences, clauses or words.
            language: ISO 639-1, one of `languages`, with a region or not: "es", "es-MX".
            speaker_wav, speaker: the voice, see `resolve_voice`; without either, the `default_speaker`.
            speed: 1.0 is the voice's own, 2.0 twice as fast.
            voice: instead of `speaker_wav` and `speaker`, what `resolve_voice` returned.

        Raises:
            ValueError: no text, or an unknown language, voice or speed; also all that `load_reference` raises.
            ImportError: espeakng-loader, phonemizer-fork, or with a `speaker_wav` resemblyzer, is missing.
        """
        refuse_forked_process()
        if base_language(language) not in self.languages:
            raise ValueError(f"language {language!r} is not spoken by Kokoro; valid are {', '.join(self.languages)}.")
        if not SPEEDS[0] <= speed <= SPEEDS[1]:
            raise ValueError(f"speed is {speed!r}; valid is {SPEEDS[0]} to {SPEEDS[1]}, and 1.0 is natural.")
        pieces = split_phonemes(self.phonemize(text, language))
        style = self.resolve_voice(speaker_wav, speaker) if voice is None else voice
        if style is None:
            style = self._style(self.default_speaker(language))
        pause = np.zeros(round(PAUSE * self.sampling_rate), np.float32)
        spoken = [wave for piece in pieces for wave in (self._speak(piece, style, speed), pause)]
        return np.concatenate(spoken[:-1])

    def phonemize(self, text: str, language: str = "es") -> str:
        """Convert `text` to the phonemes that the model knows, punctuation included.

        Raises:
            ValueError: nothing in `text` can be said.
        """
        accent = espeak_accent(language, self.config["languages"][base_language(language)])
        return phonemize(respell(text, language), accent, self.config["vocab"])

    def embed_voices(self) -> None:
        """Speak with each voice, and keep resemblyzer's embedding of it in `embeddings`; some 2 s a voice."""
        embeddings = {}
        for name in self.voices:
            spoken = [self(sentence, speaker=name) for sentence in SENTENCES]
            embeddings[name] = embed_speaker([(wave, self.sampling_rate) for wave in spoken])
        self.embeddings = embeddings

    def find_voice(self, speaker_wav) -> dict[str, float]:
        """Find the blend of voices whose resemblyzer embedding is nearest to that of a recording.

        The weights solve a non-negative least-squares fit of the recording's embedding by the voices', and then one by
        the four voices that weigh most in it. The weights are kept, in memory and in `cache_folder()/"voices"`, under
        the content of the recording and of the voices.

        Args:
            speaker_wav: recordings of one speaker, as `load_reference` takes them.

        Returns:
            Weights by voice, which sum to 1; give them as `speaker`.
        """
        references = load_reference(speaker_wav)
        with self._embedding:
            if not self.embeddings:
                self.embed_voices()
        key = hashlib.sha256("".join([self._voices_hash, *(r.sha256 for r in references)]).encode()).hexdigest()

        def read_or_search() -> dict[str, float]:
            file = cache_folder() / "voices" / f"{key}.json"
            try:
                weights = {name: float(weight) for name, weight in json.loads(file.read_text()).items()}
                self._check_blend(weights)
            except (OSError, ValueError, AttributeError, TypeError):  # none yet, or spoiled
                weights = self._search(embed_speaker(references))
                with contextlib.suppress(OSError):  # a cache that can't be written is done without
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_text(file, json.dumps(weights))
            return weights

        return self._blends.get(key, read_or_search)

    def _search(self, target: np.ndarray) -> dict[str, float]:
        try:
            from scipy.optimize import nnls
        except ImportError as error:
            raise ImportError(_needs("scipy")) from error
        weights = dict(zip(self.embeddings, nnls(np.stack([*self.embeddings.values()]).T, target)[0], strict=True))
        names = sorted(weights, key=weights.__getitem__, reverse=True)[:MAX_BLENDED]
        shares = nnls(np.stack([self.embeddings[name] for name in names]).T, target)[0]
        shares = shares / shares.sum()
        return {name: round(float(share), 4) for name, share in zip(names, shares, strict=True) if share >= 5e-5}

    def _style(self, speaker: str | dict[str, float]) -> np.ndarray:
        """Return a speaker's style table, or the weighted mean of several, float32 (510, 1, 256)."""
        if isinstance(speaker, str) and speaker in self.saved_voices:
            return self.saved_voices[speaker].tensors["style"].numpy()
        weights = {speaker: 1.0} if isinstance(speaker, str) else speaker
        self._check_blend(weights)
        total = sum(weights.values())
        return np.sum([self.voices[name] * np.float32(weight / total) for name, weight in weights.items()], axis=0)

    def _check_blend(self, weights: dict[str, float]) -> None:
        unknown = [name for name in weights if name not in self.voices]
        if unknown:
            raise ValueError(
                f"there is no speaker {', '.join(map(repr, unknown))}; valid are {', '.join(self.speakers)}."
            )
        if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise ValueError(f"the voice blend is {weights}; valid weights are 0 or more and not all 0.")

    def _speak(self, symbols: str, style: np.ndarray, speed: float) -> np.ndarray:
        tokens = [self.config["vocab"][symbol] for symbol in symbols]
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": style[len(tokens) - 1],
            "speed": np.array([speed], np.float32),
        }
        return np.clip(self._run(inputs)[0].reshape(-1), -1.0, 1.0).astype(np.float32, copy=False)

    def _run(self, inputs: dict) -> list[np.ndarray]:
        """Run the model; cancelling the current token ends it."""
        token = current_token()
        if token is None:
            return run_onnx(self._session, inputs)
        try:  # of an import outside of it transformers takes the package for one that every reader needs
            from onnxruntime import RunOptions
        except ImportError as error:
            raise ImportError(_needs("onnxruntime")) from error
        raise_if_cancelled()
        options = RunOptions()
        with token.on_cancel(lambda: setattr(options, "terminate", True)):
            try:
                return run_onnx(self._session, inputs, options)
            except Exception:  # onnxruntime's own, when it was terminated
                raise_if_cancelled()
                raise

    @functools.cached_property
    def _voices_hash(self) -> str:
        digest = hashlib.sha256()
        for table in (self.voices, self.embeddings):
            for name in sorted(table):
                digest.update(name.encode() + table[name].tobytes())
        return digest.hexdigest()


def _needs(package: str) -> str:
    return f"Kokoro needs {package}: pip install 'hfpipe[offline]'"


def _open_session(file: Path):
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(_needs("onnxruntime")) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(THREADS, os.cpu_count() or 1)
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # waiting threads leave the cores to others
    able = torch.cpu.get_capabilities()
    if not (able.get("avx512_vnni") or able.get("avx_vnni")):
        # Without VNNI, sums of products of uint8 and int8 overflow, and this makes onnxruntime use uint8 weights. It
        # isn't set for every processor: onnxruntime would obey with VNNI too, and take 1.6 times as long
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3  # errors; it warns of its own optimisations
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
