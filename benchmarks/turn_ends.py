"""Measure how turns end: interruptions in pauses to think, against the delay after the last word.

    python benchmarks/turn_ends.py             # sentences that Kokoro speaks, in Spanish and English
    python benchmarks/turn_ends.py --data DIR  # and real Mexican Spanish, from es_mx.py
    python benchmarks/turn_ends.py --dev       # the sentences and voices that the settings were chosen on

The sentences are spoken whole and then cut where "…" or a filler in brackets stands, and silence of 0.4 to 1.5 s is
put there, on both sides of the filler. Real recordings are cut between two words that Whisper hears. A turn that ends
in such a pause is an interruption. The delay is counted from the last sound to the end of the turn, in audio, without
the milliseconds that computing takes.
"""

import argparse
import csv
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np
from measure import Row, interleaved, median, report
from rich.console import Console
from rich.table import Table

import hfpipe
from hfpipe.pipeline.audio import SAMPLING_RATE, load_audio, resample
from hfpipe.pipeline.audio_vad import find_speech
from hfpipe.pipeline.cpu_threads import limit_threads
from hfpipe.pipeline.live_endpointer import FRAME, Endpointer
from hfpipe.pipeline.tts_kokoro import Kokoro
from hfpipe.transcription import transcribe_chunks

SENTENCES = {
    "es": {
        "dev": (
            "Quiero (eh) saber cuál es la capital de Francia.",
            "Mi número es seis cero dos, … cuatro cinco uno, … ocho nueve.",
            "Pon una alarma para (este) las siete de la mañana.",
            "Necesito comprar leche, … huevos … y un poco de pan.",
            "Me gustaría reservar una mesa para … cuatro personas el … viernes por la noche.",
            "¿Sabes si el tren que va a … Sevilla sale con retraso?",
            "Ayer fui al médico y me dijo que … tenía que descansar más.",
            "Estoy buscando un hotel que (eh) esté cerca de la playa.",
            "Mi dirección es calle Mayor, … número quince, … tercer piso.",
            "Lo que pasa es que … no encuentro mis llaves.",
            "¿Qué hora es?",
            "Sí, por favor.",
            "Muchas gracias por tu ayuda.",
            "¿Cuántos habitantes tiene México?",
            "Cuéntame un chiste.",
            "No, eso no es lo que quería.",
        ),
        "test": (
            "Quisiera (este) preguntar por el horario de la biblioteca.",
            "Mi teléfono es nueve uno cinco, … tres tres dos, … cero seis.",
            "Recuérdame que mañana tengo que (eh) llamar a mi hermana.",
            "Para la fiesta hacen falta vasos, … platos … y servilletas.",
            "Quiero cambiar mi vuelo del … martes al … jueves por la tarde.",
            "¿Me puedes decir cuánto cuesta … el billete de ida y vuelta?",
            "El problema es que mi ordenador … hace un ruido muy raro.",
            "Busco una receta de (eh) sopa de verduras para seis.",
            "Mi correo es ana punto gómez, … arroba ejemplo, … punto com.",
            "Si mañana llueve, … no iremos al campo.",
            "¿Qué tiempo hace hoy?",
            "No, gracias.",
            "Apaga la luz del salón.",
            "¿Quién escribió el Quijote?",
            "Está bien, hasta mañana.",
            "Me llamo Carlos y vivo en Lima.",
        ),
    },
    "en": {
        "dev": (
            "I would like to (um) know what the capital of France is.",
            "My number is six oh two, … four five one, … eight nine.",
            "Set an alarm for (uh) seven in the morning.",
            "I need to buy milk, … eggs … and some bread.",
            "Could you book a table for … four people on … Friday night?",
            "Do you know if the train to … London is late?",
            "Yesterday the doctor told me that … I should rest more.",
            "I am looking for a hotel that (um) is close to the beach.",
            "My address is twelve Park Street, … apartment five, … second floor.",
            "The thing is that … I can't find my keys.",
            "What time is it?",
            "Yes, please.",
            "Thank you very much for your help.",
            "How many people live in Mexico?",
            "Tell me a joke.",
            "No, that is not what I wanted.",
        ),
        "test": (
            "I wanted to (uh) ask when the library opens.",
            "My phone is nine one five, … three three two, … oh six.",
            "Remind me that tomorrow I have to (um) call my sister.",
            "For the party we need cups, … plates … and napkins.",
            "I want to change my flight from … Tuesday to … Thursday afternoon.",
            "Can you tell me how much … a return ticket is?",
            "The problem is that my computer … makes a strange noise.",
            "I need a recipe for (um) vegetable soup for six.",
            "My email is anna dot smith, … at example, … dot com.",
            "If it rains tomorrow, … we will stay at home.",
            "What is the weather like today?",
            "No, thanks.",
            "Turn off the light in the kitchen.",
            "Who wrote Hamlet?",
            "All right, see you tomorrow.",
            "My name is Charles and I live in Leeds.",
        ),
    },
}
VOICES = {
    "es": {"dev": ("em_alex", "pf_dora"), "test": ("ef_dora", "em_santa")},
    "en": {"dev": ("af_bella", "am_michael"), "test": ("bf_emma", "am_fenrir")},
}
MARK = re.compile(r"\s*(?:…|\((\w+)\))\s*")
PAUSES = (0.4, 1.5)  # seconds
LEAD, TAIL = 0.5, 10.0  # seconds of silence before the first word and after the last
NOISE = 1e-3  # standard deviation of a quiet room's noise, -60 dB
RECORDINGS, CUTS = 30, 2  # at most so many real ones, and ways to cut each
LONGEST_RECORDING, FEWEST_WORDS = 9.0, 5  # seconds, and words
SILENCES = (0.1, 0.2, 0.4, 0.8, 1.5)  # seconds after which the detector is asked
ALONE = (0.2, 0.3, 0.5, 0.7, 1.0, 1.2, 1.5, 2.0)  # pauses, in seconds
WITH_DETECTOR = (2.0, 4.0, 8.0)
HOP = SAMPLING_RATE // 100


class Clip(NamedTuple):
    """Pieces of one sentence, float32 (samples,) at 16 kHz, and the pause after each in samples."""

    pieces: list[np.ndarray]
    pauses: list[int]


class Outcome(NamedTuple):
    """Interruptions by pause, and the seconds from the end of each sentence to the end of its turn."""

    interruptions: float
    delays: np.ndarray


def speak(kokoro: Kokoro, language: str, split: str) -> Iterator[list[np.ndarray]]:
    """Yield the pieces of each sentence, by each voice; a filler is spoken on its own."""

    def say(text: str, voice: str) -> np.ndarray:
        wave = resample(kokoro(text, language=language, speaker=voice), kokoro.sampling_rate, SAMPLING_RATE)
        loud = np.flatnonzero(np.abs(wave) > 10 * NOISE)
        return wave[loud[0] : loud[-1] + 1]

    for voice in VOICES[language][split]:
        for sentence in SENTENCES[language][split]:
            texts, fillers = MARK.split(sentence)[::2], MARK.split(sentence)[1::2]
            whole = say(" ".join(texts), voice)
            beginnings = [say(" ".join(texts[:count]), voice) for count in range(1, len(texts))]
            pieces = np.split(whole, [find_end(beginning, whole) for beginning in beginnings])
            spoken = [pieces[0]]
            for filler, piece in zip(fillers, pieces[1:], strict=True):
                spoken += ([say(f"{filler}…", voice)] if filler else []) + [piece]
            yield spoken


def find_end(beginning: np.ndarray, whole: np.ndarray) -> int:
    """Return where in a sentence its beginning ends, which the same voice has spoken: by dynamic time warping."""
    spectra = [
        librosa.power_to_db(
            librosa.feature.melspectrogram(y=wave, sr=SAMPLING_RATE, n_fft=400, hop_length=HOP, n_mels=40)
        )
        for wave in (beginning, whole)
    ]
    costs = librosa.sequence.dtw(*spectra, backtrack=False)[-1]
    return quietest(whole, int(np.argmin(costs / (spectra[0].shape[1] + np.arange(len(costs))))) * HOP)


def quietest(wave: np.ndarray, near: int) -> int:
    """Return where within 60 ms of a sample it is most quiet."""
    starts = range(max(0, near - 6 * HOP), min(len(wave) - HOP, near + 6 * HOP), HOP // 2)
    return min(starts, key=lambda start: float(np.square(wave[start : start + HOP]).sum())) + HOP // 2


def cut_recordings(asr, folder: Path, split: str) -> Iterator[list[np.ndarray]]:
    """Yield two pieces of recordings of a whole sentence without a pause, cut between two of its inner words."""
    draw, left = random.Random(split), RECORDINGS
    with (folder / f"{'train' if split == 'dev' else 'test'}.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if re.fullmatch(r"[¿¡A-ZÁÉÍÓÚ].*[\w][.?!]", row["sentence"])]
    for row in draw.sample(rows, len(rows)):
        wave, _ = load_audio(folder / row["audio"], SAMPLING_RATE)
        stretches = find_speech(wave, min_silence_duration_ms=250)
        if len(stretches) != 1 or len(wave) > LONGEST_RECORDING * SAMPLING_RATE:
            continue
        wave = wave[stretches[0]["start"] : stretches[0]["end"]]
        [words] = transcribe_chunks(asr, wave, [(0, len(wave))], "es", by_word=True)
        if len(words) < FEWEST_WORDS:
            continue
        inner = zip(words[1:-2], words[2:-1], strict=True)
        starts = [word["start"] for before, word in inner if before["text"][-1] not in ".,;:?!"]
        for start in draw.sample(starts, min(CUTS, len(starts))):
            yield np.split(wave, [quietest(wave, round(start * SAMPLING_RATE))])
        left -= bool(starts)
        if not left:
            return


def silence(samples: int, draw: np.random.Generator) -> np.ndarray:
    return draw.normal(0, NOISE, samples).astype(np.float32)


def add_pauses(sentences: Iterator[list[np.ndarray]]) -> list[Clip]:
    draw = np.random.default_rng(0)
    return [Clip(each, [round(draw.uniform(*PAUSES) * SAMPLING_RATE) for _ in each[:-1]]) for each in sentences]


def listen(clips: list[Clip], new_endpointer: Callable[[], Endpointer]) -> Outcome:
    """Let an endpointer hear each clip as it would a microphone."""
    interruptions, delays = 0, []
    endpointer = new_endpointer()
    for number, (pieces, pauses) in enumerate(clips):
        draw = np.random.default_rng(number)
        parts = [silence(int(LEAD * SAMPLING_RATE), draw)]
        for piece, pause in zip(pieces, [*pauses, 0], strict=True):
            parts += [piece, silence(pause, draw)]
        end = sum(map(len, parts))
        audio = np.concatenate([*parts, silence(int(TAIL * SAMPLING_RATE), draw)])
        endpointer.reset()
        for heard in range(FRAME, len(audio), FRAME):
            ended = [turn for turn in endpointer.push(audio[heard - FRAME : heard]) if turn.type == "turn_ended"]
            if ended and heard > end:
                delays.append((heard - end) / SAMPLING_RATE)
                break
            interruptions += len(ended)
    return Outcome(interruptions / sum(len(clip.pauses) for clip in clips), np.array(delays))


def separate(clips: list[Clip], detector: hfpipe.SmartTurn, seconds: float) -> float:
    """Return how often an end sounds more complete than a pause, when asked after some silence: the area under ROC."""
    ends, pauses = [], []
    for number, clip in enumerate(clips):
        draw = np.random.default_rng(number)
        heard = silence(int(0.3 * SAMPLING_RATE), draw)
        for piece, pause in zip(clip.pieces, [*clip.pauses, None], strict=True):
            heard = np.concatenate([heard, piece])
            asked = detector(np.concatenate([heard, silence(int(seconds * SAMPLING_RATE), draw)]))
            (ends if pause is None else pauses).append(asked)
            heard = np.concatenate([heard, silence(pause or 0, draw)])
    return float(np.mean(np.array(ends)[:, None] > np.array(pauses)))


def compare(name: str, clips: list[Clip], detector: hfpipe.SmartTurn) -> tuple[Table, list[Row]]:
    """Return the outcomes of pauses alone and of the turn detector as a table, and both at equal delay as rows."""
    pauses, words = sum(len(clip.pauses) for clip in clips), len(clips)
    table = Table(title=f"{name}: {words} sentences with {pauses} pauses", title_justify="left")
    for heading in ("a turn ends", "interruptions by pause", "mean delay", "95 % within"):
        table.add_column(heading, justify="left" if heading == "a turn ends" else "right")

    def add(label: str, outcome: Outcome) -> tuple[float, float]:
        mean = float(np.mean(outcome.delays))
        late = np.quantile(outcome.delays, 0.95)
        table.add_row(label, f"{outcome.interruptions:.0%}", f"{mean:.2f} s", f"{late:.2f} s")
        return outcome.interruptions, mean

    alone = [add(f"after {pause} s", listen(clips, lambda p=pause: Endpointer(pause=p))) for pause in ALONE]
    rates, means = zip(*alone, strict=True)
    rows = []
    for pause in WITH_DETECTOR:
        outcome = listen(clips, lambda p=pause: Endpointer(pause=p, turn_detector=detector))
        rate, mean = add(f"by Smart Turn, at the latest after {pause:.0f} s", outcome)
        peer = float(np.interp(mean, means, rates))
        rows.append(Row(f"{name}: interruptions at a mean delay of {mean:.2f} s", 100 * rate, 100 * peer, "%"))
        peer = float(np.interp(rate, rates[::-1], means[::-1]))
        rows.append(Row(f"{name}: mean delay at {rate:.0%} interruptions", mean, peer, "s"))
    return table, rows


def main() -> None:
    """Make the clips, and print the outcomes, when best to ask, and how long a question takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", nargs="*", choices=SENTENCES, default=list(SENTENCES), help="of Kokoro")
    parser.add_argument("--data", type=Path, help="the folder of es_mx.py")
    parser.add_argument("--dev", action="store_true", help="what the settings were chosen on, instead of the rest")
    parser.add_argument("--json", type=Path, help="write the rows, and a chart beside them")
    arguments = parser.parse_args()
    split = "dev" if arguments.dev else "test"
    folder, detector, console = hfpipe.offline_repo(), hfpipe.smart_turn(print), Console(width=110)
    kokoro = Kokoro.from_pretrained(f"{folder}/tts")
    clips = {f"{language}, Kokoro": add_pauses(speak(kokoro, language, split)) for language in arguments.languages}
    if arguments.data:
        asr = hfpipe.load_asr(folder)
        clips["es-MX, real"] = add_pauses(cut_recordings(asr, arguments.data, split))
    rows = []
    when = Table(title="An end sounds more complete than a pause, by the silence when asked", title_justify="left")
    for heading in ("", *(f"{seconds} s" for seconds in SILENCES)):
        when.add_column(heading, justify="right" if heading else "left")
    with limit_threads(1):
        for name, each in clips.items():
            table, compared = compare(name, each, detector)
            console.print(table)
            rows += compared
            when.add_row(name, *(f"{separate(each, detector, seconds):.0%}" for seconds in SILENCES))
    console.print(when)
    turn = np.concatenate(next(iter(clips.values()))[0].pieces)
    [seconds] = interleaved({"asked": lambda: detector(turn)}, 20).values()
    print(f"a question takes {1000 * median(seconds):.0f} ms on one core")
    report("Turn ends: Smart Turn against pauses alone", rows, arguments.json)


if __name__ == "__main__":
    main()
