"""Measure where the limits of the check of a voice's rows lie, on real and on synthetic Spanish.

    python benchmarks/voice_check.py --data /tmp/es_mx   # the folder that benchmarks/es_mx.py wrote

Clean: 60 recordings of a real voice (es-MX, 16 kHz) and 40 of ten synthetic ones. Damaged: the synthetic ones with
noise, with music (chords), clipped, with another's voice after their own, and with another row's text. For each
measure, percentiles of both and the share that the limit drops.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # or finetune.py beside this file would shadow the package

import hfpipe  # noqa: E402, I001  # before torch: it makes idle threads sleep
import jiwer  # noqa: E402
import numpy as np  # noqa: E402
from measure import machine  # noqa: E402
from voices import SENTENCES  # noqa: E402

from finetune.data import read_rows  # noqa: E402
from finetune.normalize import normalizer, strip_accents  # noqa: E402
from finetune.voice import check_report as limits  # noqa: E402
from finetune.voice.check import letters_per_second  # noqa: E402
from finetune.voice.sound import measure_sound  # noqa: E402
from finetune.whisper import load_whisper, transcribe  # noqa: E402
from hfpipe.pipeline.audio import SAMPLING_RATE, load_audio, resample  # noqa: E402
from hfpipe.pipeline.tts_kokoro import Kokoro  # noqa: E402

VOICES = 10
REAL = 60
LONGEST = 11.6  # s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that benchmarks/es_mx.py wrote")
    args = parser.parse_args()
    print(machine())
    clips = [(row.sentence, *load_audio(row.audio)) for row in read_rows(args.data / "train.csv")]
    clips = [clip for clip in clips if 2 < len(clip[1]) / clip[2] < LONGEST][:REAL]
    real = [(text, measure_sound(samples, rate)) for text, samples, rate in clips]
    spoken = speak()
    synthetic = [(text, measure_sound(wave, SAMPLING_RATE)) for _, text, wave in spoken]
    rng = np.random.default_rng(0)
    show_sound(real, synthetic, spoken, rng)
    show_voices(real, synthetic, spoken)
    show_texts([*((text, resample(wave, rate, SAMPLING_RATE)) for text, wave, rate in clips)], "real")
    show_texts([(text, wave) for _, text, wave in spoken], "synthetic")
    for name, rows in (("real", real), ("synthetic", synthetic)):
        rates = [letters_per_second(text, sound) for text, sound in rows]
        show(f"letters a second of speech, {name}", rates, limits.MAX_LETTERS_PER_SECOND, above=True)
        show(f"letters a second of speech, {name}", rates, limits.MIN_LETTERS_PER_SECOND)


def speak() -> list[tuple[str, str, np.ndarray]]:
    """Return four recordings of two sentences for each of the voices: voice, text, and float32 at 16 kHz."""
    kokoro = Kokoro.from_pretrained(Path(hfpipe.offline_repo(print), "tts"))
    voices = kokoro.speakers[:: max(1, len(kokoro.speakers) // VOICES)][:VOICES]
    rows = []
    for i, voice in enumerate(voices):
        for j in range(4):
            text = f"{SENTENCES['es'][(i + j) % 10]} {SENTENCES['es'][(i + j + 5) % 10]}"
            rows.append((voice, text, resample(kokoro(text, speaker=voice), kokoro.sampling_rate, SAMPLING_RATE)))
    return rows


def show_sound(real, synthetic, spoken, rng) -> None:
    """Print DNSMOS's scores of clean speech, and of speech with noise, with music and clipped."""
    for name, rows in (("real", real), ("synthetic", synthetic)):
        show(f"background, {name}", [sound.opinion.background for _, sound in rows], limits.MIN_BACKGROUND)
        show(f"overall, {name}", [sound.opinion.overall for _, sound in rows], limits.MIN_OVERALL)
        show(f"clipped share, {name}", [sound.clipped for _, sound in rows], limits.MAX_CLIPPED, above=True)
    waves = [wave for _, _, wave in spoken][::4]
    for snr in (30, 20, 15, 10):
        noisy = [mix(wave, rng.standard_normal(len(wave)), snr) for wave in waves]
        musical = [mix(wave, chords(len(wave)), snr) for wave in waves]
        for name, damaged in (("noise", noisy), ("music", musical)):
            scores = [measure_sound(wave, SAMPLING_RATE).opinion for wave in damaged]
            show(f"background, {name} {snr} dB below", [score.background for score in scores], limits.MIN_BACKGROUND)
            show(f"overall, {name} {snr} dB below", [score.overall for score in scores], limits.MIN_OVERALL)
    for gain in (2, 8):
        loud = [np.clip(gain * wave / np.abs(wave).max(), -1, 1).astype("f4") for wave in waves]
        sounds = [measure_sound(wave, SAMPLING_RATE) for wave in loud]
        show(
            f"clipped share, {gain} times too loud",
            [sound.clipped for sound in sounds],
            limits.MAX_CLIPPED,
            above=True,
        )
        show(f"overall, {gain} times too loud", [sound.opinion.overall for sound in sounds], limits.MIN_OVERALL)


def show_voices(real, synthetic, spoken) -> None:
    """Print the similarity of the halves of one voice and of two, and of a recording to the rest of its speaker."""
    for name, rows in (("real", real), ("synthetic", synthetic)):
        show(f"halves, one voice, {name}", [sound.halves for _, sound in rows if sound.halves], limits.MIN_HALVES)
    waves = [wave for _, _, wave in spoken]
    two = [np.concatenate([a[: len(a) // 2], b[len(b) // 2 :]]) for a, b in zip(waves, waves[4:], strict=False)]
    show("halves, two voices", [measure_sound(wave, SAMPLING_RATE).halves for wave in two], limits.MIN_HALVES)
    voices = np.array([sound.voice for _, sound in synthetic])
    names = np.array([voice for voice, _, _ in spoken])
    same, other = [], []
    for i, voice in enumerate(voices):
        for name in dict.fromkeys(names):
            mates = (names == name) & (np.arange(len(names)) != i)
            center = voices[mates].mean(axis=0)
            (same if name == names[i] else other).append(float(voice @ center / np.linalg.norm(center)))
    show("to its speaker's other recordings, synthetic", same, limits.MIN_VOICE)
    show("to another speaker's recordings, synthetic", other, limits.MIN_VOICE)
    voices = np.array([sound.voice for _, sound in real if sound.voice])
    center = voices.sum(axis=0) - voices
    alike = (voices * center).sum(axis=1) / np.linalg.norm(center, axis=1)
    show("to its speaker's other recordings, real", alike.tolist(), limits.MIN_VOICE)


def show_texts(rows: list[tuple[str, np.ndarray]], name: str) -> None:
    """Print the character error rates of Whisper base against each recording's text, and against the next one's."""
    whisper, processor = load_whisper("offline")
    heard = transcribe(whisper, processor, [wave for _, wave in rows], "es")

    def normalize(text: str) -> str:
        return strip_accents(normalizer("es")(text))

    texts = [normalize(text) for text, _ in rows]
    right = [jiwer.cer(text, normalize(words)) for text, words in zip(texts, heard, strict=True)]
    half = len(texts) // 2  # neighbors often share words
    wrong = [jiwer.cer(text, normalize(words)) for text, words in zip(texts[half:], heard, strict=False)]
    show(f"character error rate, own text, {name}", right, limits.MAX_CER, above=True)
    show(f"character error rate, another text, {name}", wrong, limits.MAX_CER, above=True)


def show(name: str, values: list[float], limit: float, above: bool = False) -> None:
    """Print percentiles, and the share of the values that the limit drops."""
    low, middle, high = np.percentile(values, (5, 50, 95))
    dropped = np.mean([value > limit if above else value < limit for value in values])
    sign = ">" if above else "<"
    print(
        f"{name}: 5 % {low:.2f}, median {middle:.2f}, 95 % {high:.2f} ({len(values)}); {sign} {limit}: {dropped:.0%}"
    )


def mix(speech: np.ndarray, other: np.ndarray, snr: float) -> np.ndarray:
    """Return speech with something else, `snr` dB below it."""
    gain = np.sqrt(np.mean(speech**2) / np.mean(other**2) / 10 ** (snr / 10))
    return np.clip(speech + gain * other, -1, 1).astype(np.float32)


def chords(count: int) -> np.ndarray:
    """Return music: four major chords with overtones, a second each, over and over."""
    times = np.arange(count) / SAMPLING_RATE
    music = np.zeros(count)
    for i, root in enumerate((220.0, 174.6, 261.6, 196.0)):  # Hz
        for ratio in (1, 1.26, 1.5, 2):
            for overtone in (1, 2, 3):
                music += (times % 4 // 1 == i) * np.sin(2 * np.pi * root * ratio * overtone * times) / overtone
    return music


if __name__ == "__main__":
    main()
