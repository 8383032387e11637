"""Speak with XTTS, in the voice of a recording: coqui-tts's model and weights, and a faster way through them."""

import functools
import hashlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from .audio import Reference, load_reference, resample
from .cpu_precision import choose_precision, precision_of
from .cpu_threads import refuse_forked_process
from .hub_access import XTTS_ID, XTTS_LICENSE_URL
from .hub_cache import kept_on_disk
from .memo import Memo
from .text_sentences import split_text
from .tts_voices import SavedVoice, Voice, check_voice, make_voice, read_voices, write_voices
from .tts_xtts_checkpoint import (
    CONFIG,
    COQUI_SPEAKERS,
    COQUI_WEIGHTS,
    SPEAKERS,
    VOCABULARY,
    WEIGHTS,
    XTTS_REVISION,
    download,
    missing_file,
    quietly,
    read_model,
    read_speakers,
    write_checkpoint,
)
from .tts_xtts_gpt import Decoder, Sampling
from .tts_xtts_vocoder import Stream, Vocoder

CONDITIONING_RATE = 22_050  # Hz, what XTTS hears of a voice (coqui-tts, Xtts.get_conditioning_latents)
PAUSE_SECONDS = 0.2  # between the pieces of a text too long to say at once
MAX_VOICES = 64  # kept in memory, about 8 MB each with their keys and values
FIRST_CHUNK, CHUNK_GROWTH, LONGEST_CHUNK = 8, 1.5, 48  # audio tokens of a stream that wait for the vocoder
WHOLE_CHUNK = 128  # of what is waited for as a whole; more would take more memory
DEFAULT_CHAR_LIMIT = 250  # coqui-tts's own, for a language without one


class XTTS:
    """Speak text in the voice of a recording, or in one of the checkpoint's own.

    Attributes:
        sampling_rate: Hz of the waveforms, 24000 for XTTS v2.
        languages: ISO 639-1 codes; `"zh"` is what coqui calls `"zh-cn"`, and both are understood.
        clones: True: a `speaker_wav` is really imitated.
        saved_voices: the `SavedVoice`s that `save_voice` made, by name.
    """

    clones = True
    requirements = ("coqui-tts", "six", "torchaudio", "torchcodec")  # from PyPI, for a repo's requirements.txt

    def __init__(
        self, model, speakers: dict, source: str | None = None, precision: str = "auto", device="cpu", dtype=None
    ):
        self.model = model
        self.sampling_rate = model.config.audio.output_sample_rate
        self.languages = tuple(language.split("-")[0] for language in model.config.languages)
        self.saved_voices: dict[str, SavedVoice] = {}
        self._saving = threading.Lock()
        self._voices: Memo[Voice] = Memo(MAX_VOICES)  # by the recordings' content
        self._speakers = {name: Voice(dict(tensors)) for name, tensors in speakers.items()}
        self._source = source  # "id@revision" of weights that come from the Hub
        self._precision, self._dtype = precision, dtype
        self.to(device)

    @classmethod
    def from_pretrained(
        cls, name_or_path, revision=None, token=None, device=None, dtype=None, precision="auto"
    ) -> "XTTS":
        """Load an XTTS checkpoint from a folder in coqui's layout, or from the Hub.

        A first download asks for the acceptance of the weights' license, the Coqui Public Model License.

        Args:
            name_or_path: a folder with config.json, model.safetensors or model.pth, vocab.json and perhaps
                speakers_xtts.safetensors or speakers_xtts.pth, or a Hub id with these.
            revision: commit, branch or tag; `coqui/XTTS-v2` is pinned to one commit by default.
            token: for a private repo on the Hub.
            device: where to compute; the CPU by default.
            dtype, precision: in which the language model computes, see `choose_precision`.

        Raises:
            FileNotFoundError: a file is missing. ValueError: a file is damaged, or holds more than weights.
            PermissionError: the license wasn't accepted. OSError: the Hub can't be reached or has no such repo.
            ImportError: coqui-tts isn't installed.
        """
        folder, source = Path(name_or_path), None
        if not folder.is_dir():
            revision = revision or (XTTS_REVISION if str(name_or_path) == XTTS_ID else None)
            folder, source = download(str(name_or_path), revision, token), f"{name_or_path}@{revision or 'main'}"
        if missing := missing_file(folder):
            raise FileNotFoundError(
                f"there is no {missing} in {folder}; an XTTS folder holds {CONFIG}, {WEIGHTS} (or {COQUI_WEIGHTS}) "
                f"and {VOCABULARY}, and {SPEAKERS} (or {COQUI_SPEAKERS}) for voices of its own. Copy it beside the "
                "others, or give another folder."
            )
        with quietly():
            model = read_model(folder)
        part = cls(model, read_speakers(folder), source, precision, device or "cpu", dtype)
        part.read_voices(folder)
        return part

    def save_pretrained(self, folder) -> None:
        """Write config.json, vocab.json, the weights and the voices, as safetensors, for `from_pretrained`.

        Raises:
            ValueError: these are Coqui's own weights, under a license that hfpipe points at instead of copying.
        """
        if self._source is not None and self._source.startswith(f"{XTTS_ID}@"):
            raise ValueError(
                f"the weights of {XTTS_ID} stay where they are: their license, {XTTS_LICENSE_URL}, goes with them. "
                f'Keep the reference "{self._source}" instead of a copy; weights loaded from a folder are written.'
            )
        write_checkpoint(self.model, {name: voice.tensors for name, voice in self._speakers.items()}, Path(folder))
        self.write_voices(folder)

    def write_voices(self, folder) -> None:
        """Write the saved voices, and nothing else, into a folder."""
        write_voices(self.saved_voices, Path(folder))

    def read_voices(self, folder) -> None:
        """Add the voices that `write_voices` wrote into a folder.

        Raises:
            ValueError: a file is damaged, or another model's.
        """
        args = self.model.args
        shapes = {
            "gpt_cond_latent": (1, None, args.gpt_n_model_channels),
            "speaker_embedding": (1, args.d_vector_dim, 1),
        }
        with self._saving:
            self.saved_voices = self.saved_voices | read_voices(Path(folder), shapes)

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names to give as `speaker=`: the checkpoint's own voices, the default first, and then the saved ones."""
        return (*self._speakers, *self.saved_voices)

    def save_voice(self, name: str, speaker_wav, consent_by: str | None = None, consent_on=None) -> SavedVoice:
        """Save the voice of a recording under a name, for `speaker=name`; saving the pipeline saves it too.

        What is kept is what XTTS computed of the recording, about 130 kB, and not the recording.

        Args:
            name: letters, digits, spaces, dots and hyphens, at most 64.
            speaker_wav: 10 to 15 s of speech by somebody who agreed to be cloned; several recordings in a list.
            consent_by: who agreed; None is the speaker, by the name that the voice has.
            consent_on: the day on which they agreed; None is today.

        Raises:
            ValueError: the name is unfit or taken, no consent, or a reference that `load_reference` refuses.
        """
        tensors = self.resolve_voice(speaker_wav).tensors
        with self._saving:
            voice = make_voice(name, tensors, self.speakers, consent_by, consent_on)
            self.saved_voices = self.saved_voices | {name: voice}
        return voice

    def resolve_voice(self, speaker_wav=None, speaker: str | None = None) -> Voice:
        """Return the voice of recordings, or of a name; without either, the checkpoint's first.

        What is computed of recordings is kept, in memory and on disk, under their content.

        Raises:
            ValueError: no such speaker, no voice at all, both given, or a reference that `load_reference` refuses.
        """
        check_voice(speaker_wav, speaker, self)
        if speaker_wav is not None:
            return self._clone(load_reference(speaker_wav))
        if speaker is None and not self._speakers:
            raise ValueError(
                f"this XTTS has no voice of its own (no {SPEAKERS} in its folder); give speaker_wav, a recording of "
                f"10 to 15 s of the voice to speak with, or one of its saved voices as speaker: {self.speakers}."
            )
        name = self.speakers[0] if speaker is None else speaker
        return self.saved_voices[name] if name in self.saved_voices else self._speakers[name]

    def to(self, device) -> "XTTS":
        """Move what speaks to a torch device, and return itself.

        Coqui's model stays on the CPU, where it hears reference voices; what speaks is made from it.
        """
        device = torch.device(device)
        precision = choose_precision(self._precision, self._dtype, device) or precision_of(self._dtype, device)
        dtype = torch.float32 if device.type == "cpu" else getattr(torch, precision)
        self._decoder = Decoder(self.model.gpt, precision, device)
        self._vocoder = Vocoder(self.model.hifigan_decoder, device, dtype)
        self._prefixes: Memo[torch.Tensor] = Memo(MAX_VOICES)  # by the voice's content
        return self

    def __call__(
        self,
        text: str,
        language: str = "es",
        speaker_wav=None,
        *,
        speaker: str | None = None,
        voice: Voice | None = None,
        **options,
    ) -> np.ndarray:
        """Speak `text`, and return the waveform, float32 of shape (samples,) in [-1, 1] at `sampling_rate` Hz.

        A text longer than XTTS can say at once is cut where a sentence, a clause or a word ends; nothing is left out.

        Args:
            text: what to say, in `language`.
            language: one of `languages`.
            speaker_wav: the voice: what `load_audio` takes, a list of them by one speaker, or `Reference`s.
            speaker: instead of `speaker_wav`, one of `speakers`; by default the first.
            voice: instead of both, what `resolve_voice` returned.
            options: how to speak. `temperature`, `repetition_penalty`, `top_k`, `top_p`: how audio tokens are drawn,
                by default as the checkpoint's config.json says; `do_sample=False` takes the likeliest. `speed`: 1 is
                natural, 2 twice as fast. `max_new_tokens`, `min_new_tokens`: the most and fewest audio tokens of each
                piece of text (about 21 a second); by default 605, coqui's own limit, and 0.

        Raises:
            ValueError: no text, no such language or speaker, no voice at all, a reference that `load_reference`
                refuses, a speed that isn't positive. TypeError: no such option.
        """
        voice = voice or self.resolve_voice(speaker_wav, speaker)
        return self.speak_batch([text], language, [voice], **options)[0]

    def compare(self, text: str, language: str = "es", speaker_wav=None, *, speaker=None, voice=None, **options):
        """Speak `text` in the voice asked for and in the checkpoint's own at once; return two waveforms."""
        voices = [voice or self.resolve_voice(speaker_wav, speaker), self.resolve_voice()]
        return self.speak_batch([text, text], language, voices, **options)

    def stream(
        self, text: str, language: str = "es", speaker_wav=None, *, speaker=None, voice=None, **options
    ) -> Iterator[np.ndarray]:
        """Speak `text` as a call does, and yield the sound in chunks, each made when it is asked for.

        Yields:
            float32 waveforms, the first of about a sixth of a second; together they are what a call gives. A
            player takes the next one while it plays one; `pipe.stream` makes them ahead.
        """
        voices = [voice or self.resolve_voice(speaker_wav, speaker)]
        pieces, sampling, speed, limits = self._prepare(text, language, options)
        for number, piece in enumerate(pieces):
            if number:
                yield np.zeros(int(PAUSE_SECONDS * self.sampling_rate), np.float32)
            for [sound] in self._speak([piece], voices, sampling, speed, limits, FIRST_CHUNK):
                if len(sound):
                    yield sound.clamp(-1, 1).numpy()

    def speak_batch(self, texts: list[str], language: str, voices: list[Voice], **options) -> list[np.ndarray]:
        """Speak several texts in one batch, which costs less than one after the other.

        Every step of the language model reads its weights once for all texts. Texts of about the same length suit each
        other: the steps go on until the last one is said.

        Args:
            texts: what to say, in `language`.
            voices: what `resolve_voice` returned, for each text.
            options: as for a call.

        Returns:
            The waveform of each text, as a call returns it.
        """
        prepared = [self._prepare(text, language, dict(options)) for text in texts]
        _, sampling, speed, limits = prepared[0]
        pause = torch.zeros(int(PAUSE_SECONDS * self.sampling_rate))
        spoken: list[list[torch.Tensor]] = [[] for _ in texts]
        for pieces in itertools.zip_longest(*(pieces for pieces, *_ in prepared)):
            rows = [row for row, piece in enumerate(pieces) if piece is not None]
            for row in rows:
                spoken[row].append(pause)
            batch = [pieces[row] for row in rows], [voices[row] for row in rows]
            for sounds in self._speak(*batch, sampling, speed, limits, WHOLE_CHUNK):
                for row, sound in zip(rows, sounds, strict=True):
                    spoken[row].append(sound)
        return [torch.cat(parts[1:]).clamp(-1, 1).numpy() for parts in spoken]

    def _speak(self, pieces, voices, sampling, speed, limits, chunk_size: int) -> Iterator[list[torch.Tensor]]:
        """Speak the token ids of each row in its voice, and yield their sound as it is made, some samples at a time.

        The language model and the vocoder take turns, each with all cores: side by side on two cores they took as long
        for a sentence, and half as long again for its first sound.
        """
        refuse_forked_process()
        prefixes = [self._read_prefix(voice) for voice in voices]
        streams = [Stream(self._vocoder, voice.tensors["speaker_embedding"], speed) for voice in voices]
        steps = self._decoder.generate(pieces, prefixes, sampling, **limits)
        stop = self._decoder.stop_audio
        for chunk, is_last in _chunks(steps, chunk_size):
            latents, tokens = (torch.stack(each, dim=1) for each in zip(*chunk, strict=True))
            sounds = []
            for stream, said, drawn in zip(streams, latents, tokens, strict=True):
                stops = (drawn == stop).nonzero()  # coqui-tts, too, speaks the latents that stop was drawn from
                said = said[: int(stops[0]) + 1] if len(stops) else said
                sounds.append(stream.push(said, is_last or len(stops) > 0))
            yield sounds

    def _prepare(self, text: str, language: str, options: dict):
        """Return the token ids of each piece of a text, how to sample, the speed, and the limits of `generate`."""
        speed = options.pop("speed", 1.0)
        limits = {name: options.pop(name) for name in ("max_new_tokens", "min_new_tokens") if name in options}
        language = self._check(text, language, speed)
        names = ("temperature", "repetition_penalty", "top_k", "top_p")
        given = {name: value for name, value in options.items() if value is not None}
        sampling = Sampling(**{name: self.model.config[name] for name in names} | given)
        pieces = split_text(text, lambda part: self._fits(part, language), language)
        tokenizer, short = self.model.tokenizer, language.split("-")[0]
        tokens = [torch.tensor(tokenizer.encode(piece.strip().lower(), lang=short)) for piece in pieces]
        return tokens, sampling, speed, limits

    def _check(self, text: str, language: str, speed: float) -> str:
        """Return coqui's name of the language; raise ValueError for what can't be said."""
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
        """Return whether XTTS can say a text at once: by its characters, and by its tokens, since numbers grow."""
        tokenizer = self.model.tokenizer
        if len(text) > tokenizer.char_limits.get(language.split("-")[0], DEFAULT_CHAR_LIMIT):
            return False
        try:
            return len(tokenizer.encode(text.lower(), lang=language)) < self.model.args.gpt_max_text_tokens
        except OverflowError:  # a number that num2words has no words for, such as one of thirty digits
            return False

    def _clone(self, references: list[Reference]) -> Voice:
        """Compute the voice of recordings, or take the one that was kept under their content."""
        digest = hashlib.sha256("".join([self._checkpoint_key, *(each.sha256 for each in references)]).encode())
        key, names = digest.hexdigest(), ("gpt_cond_latent", "speaker_embedding")

        def condition() -> dict[str, torch.Tensor]:
            return dict(zip(names, self._condition(references), strict=True))

        return self._voices.get(key, lambda: Voice(kept_on_disk(f"voices/xtts-{key}", condition)))

    def _read_prefix(self, voice: Voice) -> torch.Tensor:
        """Return the keys and values of a voice's latents, kept for its next sentence in memory and on disk."""
        key = hashlib.sha256(f"{voice.sha256} {self._gpt_key} {self._decoder.precision}".encode()).hexdigest()

        def read() -> torch.Tensor:
            latents = voice.tensors["gpt_cond_latent"]
            kept = kept_on_disk(
                f"voices/xtts-prefix-{key}", lambda: {"prefix": self._decoder.read_voice(latents).cpu()}
            )
            return kept["prefix"].to(self._decoder.device)

        return self._prefixes.get(key, read)

    @functools.cached_property
    def _gpt_key(self) -> str:
        """A hash of the language model by the beginning of each of its tensors: hashing them whole takes a second."""
        digest = hashlib.sha256()
        for tensor in self.model.gpt.state_dict().values():
            digest.update(tensor.flatten()[:1024].numpy().tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def _checkpoint_key(self) -> str:
        """A hash of the checkpoint by the last layers that condition on a voice, and by how much of it they take."""
        config, model = self.model.config, self.model
        layers = [*model.hifigan_decoder.speaker_encoder.fc.parameters(), *model.gpt.conditioning_encoder.parameters()]
        digest = hashlib.sha256(b"".join(layer.detach().numpy().tobytes() for layer in (layers[0], layers[-1])))
        lengths = (config.max_ref_len, config.sound_norm_refs, config.gpt_cond_len, config.gpt_cond_chunk_len)
        return digest.hexdigest() + str(lengths)

    def _condition(self, references: list[Reference]) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the conditioning of a voice, as `Xtts.get_conditioning_latents` of coqui-tts 0.28 does from files.

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


def _chunks(steps: Iterator, size: float) -> Iterator[tuple[list, bool]]:
    """Group steps into chunks of pairs of latents and tokens; yield each with whether it is the last.

    They grow, since each costs the vocoder some frames more than it holds.
    """
    chunk = []
    for latents, tokens, is_last in steps:
        chunk.append((latents, tokens))
        if is_last or len(chunk) >= size:
            yield chunk, is_last
            size, chunk = max(size, min(size * CHUNK_GROWTH, LONGEST_CHUNK)), []
