"""Benchmark XTTS against coqui-tts with the same weights: python benchmarks/xtts.py [--json FILE]

The weights are random, of XTTS v2's full size, and are created once (1.9 GB in hfpipe's cache); the speed doesn't
depend on their values. The stop token is suppressed, so that both sides generate as many audio tokens and samples.
"""

import argparse
import json
import time
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
from measure import Row, interleaved, median, report
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from hfpipe.pipeline.cpu_precision import resolve_precision
from hfpipe.pipeline.hub_cache import cache_folder
from hfpipe.pipeline.tts_xtts import XTTS
from hfpipe.pipeline.tts_xtts_checkpoint import CONFIG, COQUI_SPEAKERS, COQUI_WEIGHTS, VOCABULARY, quietly
from hfpipe.pipeline.tts_xtts_gpt import Sampling, _Batch

TEXT = "La capital de Francia es París, y tiene algo más de dos millones de habitantes."
TOKENS = 60  # audio tokens: 2.78 s
VOCABULARY_SIZE = 6681  # of XTTS v2
PIECES = 80  # vocabulary size with which TEXT has 41 tokens, as with XTTS v2's own tokenizer
CURVE_SECONDS = (5, 10, 20, 40, 60)


def make_checkpoint() -> Path:
    """Return the folder of a checkpoint of XTTS v2's size with seeded random weights, creating it if necessary."""
    from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig
    from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
    from TTS.tts.models.xtts import Xtts

    folder = cache_folder() / "benchmarks" / "xtts-random-weights"
    if (folder / CONFIG).is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    special = ["[STOP]", "[UNK]", "[SPACE]", "[es]", "[en]", "[START]"]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = list("abcdefghijklmnopqrstuvwxyzáéíóúñü¿?!.,;:-'")
    pieces = {"vocab_size": PIECES, "special_tokens": special, "initial_alphabet": letters}
    tokenizer.train_from_iterator([TEXT.lower()], trainers.BpeTrainer(show_progress=False, **pieces))
    tokenizer.add_tokens([f"<{number}>" for number in range(VOCABULARY_SIZE - tokenizer.get_vocab_size())])
    tokenizer.save(str(folder / VOCABULARY))
    torch.manual_seed(0)
    audio = {"gpt_num_audio_tokens": 1026, "gpt_start_audio_token": 1024, "gpt_stop_audio_token": 1025}
    model = Xtts(XttsConfig(model_args=XttsArgs(gpt_use_perceiver_resampler=True, **audio), languages=["en", "es"]))
    model.tokenizer = VoiceBpeTokenizer(vocab_file=folder / VOCABULARY)
    model.init_models()
    torch.save({"model": model.state_dict()}, folder / COQUI_WEIGHTS)
    voice = {"gpt_cond_latent": torch.randn(1, 32, 1024) * 0.1, "speaker_embedding": torch.randn(1, 512, 1) * 0.1}
    torch.save({"Ana": voice}, folder / COQUI_SPEAKERS)
    model.config.save_json(str(folder / CONFIG))  # last, as the mark of a complete checkpoint
    return folder


def load_coqui(folder: Path):
    """Load the checkpoint with coqui-tts."""
    from TTS.tts.configs.xtts_config import XttsConfig
    from TTS.tts.models.xtts import Xtts

    config = XttsConfig()
    config.load_json(str(folder / CONFIG))
    model = Xtts.init_from_config(config)
    model.load_checkpoint(config, checkpoint_dir=str(folder), eval=True, use_deepspeed=False)
    return model


def first_chunk(stream) -> float:
    """Return the seconds until the first chunk of a stream, and close the stream."""
    start = time.perf_counter()
    next(iter(stream))
    seconds = time.perf_counter() - start
    stream.close()
    return seconds


def speech_rows(ours: XTTS, api, folder: Path, repeats: int) -> list[Row]:
    """Time a sentence in memory and to a file, its first audio, and two voices against one."""
    coqui, file = api.synthesizer.tts_model, folder / "spoken.wav"
    voice = ours.resolve_voice(speaker="Ana").tensors
    exact = {"min_new_tokens": TOKENS, "max_new_tokens": TOKENS}
    sounds = {
        "ours": lambda: ours(TEXT, "es", **exact),
        "coqui": lambda: coqui.inference(TEXT, "es", **voice, **exact)["wav"],
        "both": lambda: ours.compare(TEXT, "es", speaker="Ana", **exact),
    }
    files = {
        "our file": lambda: soundfile.write(file, ours(TEXT, "es", **exact), ours.sampling_rate),
        "coqui's file": lambda: api.tts_to_file(
            TEXT, speaker="Ana", language="es", file_path=str(file), split_sentences=False, **exact
        ),
    }
    assert len(sounds["ours"]()) == len(sounds["coqui"]())
    streams = {
        "our first": lambda: first_chunk(ours.stream(TEXT, "es", **exact)),
        "coqui's first": lambda: first_chunk(coqui.inference_stream(TEXT, "es", **voice, **exact)),
    }
    seconds = interleaved({**sounds, **streams, **files}, repeats)
    whole, peer, both = (median(seconds[name]) for name in sounds)
    length = len(sounds["ours"]()) / ours.sampling_rate
    return [
        Row("XTTS, whole sentence: time against coqui `inference`", whole, peer, "s"),
        Row("XTTS real-time factor", whole / length, peer / length, "s per s of sound"),
        Row("XTTS first audio against `inference_stream`", *(median(seconds[name]) for name in streams), "s"),
        Row("XTTS, a sentence to a file: time against `tts_to_file`", *(median(seconds[name]) for name in files), "s"),
        Row("cloned + base together against cloned alone", both, whole, "s"),
    ]


def voice_row(ours: XTTS, folder: Path, repeats: int) -> Row:
    """Time the conditioning on a reference voice, the first time and again."""
    reference = folder / "voice.wav"
    rng = np.random.default_rng(time.time_ns())  # different each time, so that it isn't in the disk cache
    speech, rate = soundfile.read(Path(__file__).parent.parent / "examples" / "voz.wav")
    soundfile.write(reference, speech + rng.normal(0, 1e-4, speech.shape), rate)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        ours.resolve_voice(str(reference))
        times.append(time.perf_counter() - start)
    return Row(
        "second call with the same `speaker_wav`: conditioning time", median(times[1:]) * 1e3, times[0] * 1e3, "ms"
    )


def load_row(folder: Path, repeats: int) -> Row:
    """Time loading the checkpoint for the second time."""
    XTTS.from_pretrained(folder)
    seconds = interleaved({"ours": lambda: XTTS.from_pretrained(folder), "coqui": lambda: load_coqui(folder)}, repeats)
    name = "load of the checkpoint, second time, against coqui's"
    return Row(name, median(seconds["ours"]), median(seconds["coqui"]), "s")


def states_of(xtts: XTTS, voice, text, tokens) -> torch.Tensor:
    """Return the latents (tokens, channels) of a prompt followed by given audio tokens (teacher forcing)."""
    prefix = xtts._read_prefix(voice)
    batch = _Batch(xtts._decoder, 1, prefix.shape[3] + len(text) + 3 + len(tokens), Sampling())
    batch.begin([xtts._decoder._embed_text(text)], [prefix], len(tokens))
    states = [batch.latents.clone()]
    for token in tokens[:-1]:
        batch.tokens.fill_(token)
        batch.advance()
        states.append(batch.latents.clone())
    return torch.cat(states)


def compare_precisions(ours: XTTS, exact: XTTS) -> str:
    """Describe the difference between a precision and float32, given the same audio tokens."""
    voice = exact.resolve_voice()
    embedding = voice.tensors["speaker_embedding"]
    [text], *_ = exact._prepare(TEXT, "es", {})
    torch.manual_seed(0)
    steps = exact._decoder.generate([text], [exact._read_prefix(voice)], Sampling(), TOKENS, TOKENS)
    tokens = torch.cat([drawn for _, drawn, _ in steps])
    likeliest, mels = [], []
    for each in (ours, exact):
        with torch.inference_mode():
            states = states_of(each, voice, text, tokens)
            likeliest.append(each._decoder.head(states).argmax(dim=-1))
        sound = each._vocoder(states, embedding).numpy()
        mels.append(librosa.power_to_db(librosa.feature.melspectrogram(y=sound, sr=each.sampling_rate)))
    same, distance = (likeliest[0] == likeliest[1]).float().mean(), np.abs(mels[0] - mels[1]).mean()
    return f"on float32's tokens: the likeliest next is the same in {same:.0%}, log-mel distance {distance:.2f} dB"


def curve(ours: XTTS) -> list[tuple[float, float, float]]:
    """Return (duration, synthesis time, time to first audio) in seconds for answers of increasing length."""
    points = []
    for wanted in CURVE_SECONDS:
        tokens = round(wanted * 22_050 / 1024)
        text = " ".join([TEXT] * round(tokens / TOKENS))
        tokens = round(tokens / len(ours._prepare(text, "es", {})[0]))  # of each chunk of the text
        exact = {"min_new_tokens": tokens, "max_new_tokens": tokens}
        start, first, samples = time.perf_counter(), None, 0
        for sound in ours.stream(text, "es", **exact):
            first = first or time.perf_counter() - start
            samples += len(sound)
        points.append((samples / ours.sampling_rate, time.perf_counter() - start, first))
    return points


def main() -> None:
    """Run the benchmark, and print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="output file for the rows; a chart is written next to it")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", default="auto", help="of our side: auto, float32, int8, mixed or bfloat16")
    arguments = parser.parse_args()
    folder = make_checkpoint()
    with quietly():
        from TTS.api import TTS

        rows = [load_row(folder, max(2, arguments.repeats // 2))]
        ours = XTTS.from_pretrained(folder, precision=arguments.precision)
        api = TTS(model_path=str(folder), config_path=str(folder / CONFIG), progress_bar=False)
        rows = speech_rows(ours, api, folder, arguments.repeats) + [voice_row(ours, folder, arguments.repeats), *rows]
        del api
        points = curve(ours)
        precision = resolve_precision(arguments.precision, "cpu")
        nearness = compare_precisions(ours, XTTS.from_pretrained(folder, precision="float32"))
    report(f"XTTS, {precision}, against coqui-tts float32", rows, arguments.json)
    print(precision, nearness)
    for length, seconds, first in points:
        print(f"{length:5.1f} s of answer: {seconds:6.1f} s, first audio after {first:.2f} s")
    if arguments.json:
        arguments.json.with_suffix(".curve.json").write_text(json.dumps(points))


if __name__ == "__main__":
    main()
