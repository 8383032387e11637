"""Speak held-out sentences during a training, and read them back with Whisper."""

import copy
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel

from hfpipe.pipeline.audio import SAMPLING_RATE, resample, write_wav
from hfpipe.pipeline.tts_xtts_gpt import Decoder, Sampling
from hfpipe.pipeline.tts_xtts_vocoder import Vocoder

from ..normalize import normalizer
from ..score import count_words, total
from ..whisper import load_whisper, transcribe
from .batches import REFERENCE_SAMPLES, Clip, ClipDataset
from .codes import SAMPLING_RATE as REFERENCE_RATE
from .codes import read_waveform
from .options import VoiceOptions

SPARE = 2  # times as many audio codes as the recording of the sentence has, before speaking is cut


class ReadBack:
    """Speaks sentences in the voices of their speakers, and transcribes what is heard.

    Args:
        xtts: coqui's `Xtts`, whose vocoder and speaker encoder are used.
        model: the language model that is being trained.
        mel: computes the spectrogram of a reference.
        clips: whose sentences are spoken; the voice is heard from another clip of the speaker.
        options: how many are spoken, in which language, and the Whisper.

    Raises:
        OSError, ValueError: the Whisper can't be loaded.
    """

    def __init__(self, xtts, model, mel, clips: list[Clip], options: VoiceOptions):
        self.model, self.language, self.folder = model, options.language, Path(options.out, "read_back")
        self.whisper, self.processor = load_whisper(options.asr)
        self.vocoder, self.rate = Vocoder(xtts.hifigan_decoder), xtts.config.audio.output_sample_rate
        self.clips, self.references, self.embeddings = [], [], []
        dataset = ClipDataset.for_evaluation(clips)
        first = max(0, (len(dataset) - options.read_back) // 2)  # sentences of usual length
        for clip, reference, _ in (dataset[i] for i in range(first, min(first + options.read_back, len(dataset)))):
            waveform = read_waveform(reference.audio)[None, : REFERENCE_SAMPLES[1]]
            self.clips.append(clip)
            self.references.append(mel(waveform))
            self.embeddings.append(xtts.get_speaker_embedding(waveform, REFERENCE_RATE))

    def __call__(self, step: int) -> float:
        """Write what is spoken to `step-N/`, and return the normalized word error rate in percent."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            waveforms = self.speak()
        folder = self.folder / f"step-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, waveform in enumerate(waveforms):
            write_wav(folder / f"{number:02}.wav", waveform, self.rate)
        heard = transcribe(
            self.whisper,
            self.processor,
            [resample(waveform, self.rate, SAMPLING_RATE) for waveform in waveforms],
            self.language if self.whisper.generation_config.is_multilingual else None,
        )
        normalize = normalizer(self.language)
        pairs = zip(self.clips, heard, strict=True)
        return total([count_words(normalize(clip.sentence), normalize(text)) for clip, text in pairs]).rate

    @torch.inference_mode()
    def speak(self) -> list[np.ndarray]:
        """Return the waveforms of the sentences, float32 at the output rate, spoken in one batch."""
        gpt = merged_copy(self.model)
        device = next(gpt.parameters()).device
        decoder = Decoder(gpt, "float32" if device.type == "cpu" else "bfloat16", device)
        voices = [decoder.read_voice(gpt.get_style_emb(mel.to(device)).transpose(1, 2)) for mel in self.references]
        texts = [clip.text for clip in self.clips]
        limit = SPARE * max(len(clip.codes) for clip in self.clips)
        steps = list(decoder.generate(texts, voices, Sampling(), max_new_tokens=limit))
        latents, tokens = (torch.stack([step[part] for step in steps], dim=1).cpu() for part in (0, 1))
        waveforms = []
        for said, drawn, embedding in zip(latents, tokens, self.embeddings, strict=True):
            stops = (drawn == decoder.stop_audio).nonzero()
            said = said[: int(stops[0]) + 1] if len(stops) else said
            waveforms.append(self.vocoder(said, embedding).clamp(-1, 1).numpy())
        return waveforms


def merged_copy(model):
    """Return a float32 copy of coqui's `GPT` with the LoRA matrices merged; the model stays as it is."""
    copied = copy.deepcopy(model).float()
    if isinstance(copied, PeftModel):
        copied = copied.merge_and_unload()
    return copied.gpt.eval()
