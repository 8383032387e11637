"""`hfpipe speak`: speak many lines, a file each, or subtitles as a dubbed track."""

import contextlib
import importlib
import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from .console import console, plain_errors, progress
from .output import check_output


def speak(
    texts: Annotated[Path, typer.Argument(help="What to say: .txt (a line each), .csv, .tsv, .jsonl or .srt.")],
    speaker_wav: Annotated[
        str | None,
        typer.Option(help="10 to 15 s of the voice to speak with. Its speaker must have agreed to be cloned."),
    ] = None,
    speaker: Annotated[str | None, typer.Option(help="Instead, the name of a voice that the model has.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the sounds and manifest.jsonl.")] = Path("out"),
    model: Annotated[
        str | None, typer.Option(help="A voice-qa repo, for its voice: folder or Hub id; 'offline' needs no Hub.")
    ] = None,
    tts: Annotated[str | None, typer.Option(help="Instead, a text-to-speech model: folder or Hub id.")] = None,
    language: Annotated[str, typer.Option(help="Language code; with a region ('es-MX'), read as there.")] = "es",
    batch_size: Annotated[int, typer.Option(help="The most lines at once.", min=1)] = 8,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the voice, NAME=VALUE: speed=1.1, temperature=0.6. May repeat.")
    ] = None,
    read_back: Annotated[
        bool, typer.Option("--read-back", help="Hear each sound with the repo's Whisper, and count its word errors.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Speak again what is done already.")] = False,
) -> None:
    """Speak many lines, a WAV each; subtitles also as one dubbed track. Run again, the same command resumes."""
    with plain_errors(how_to_resume="The same command resumes where it stopped."):
        from ..spoken_lines import read_lines

        lines = read_lines(texts)
        options = _read_options(option or [])
        if os.path.isfile(out):
            raise ValueError(f"--out {out} is a file; give a folder.")
        check_output(out / "manifest.jsonl", "Give a folder as --out where you may write.")
        if read_back:
            importlib.import_module("hfpipe.read_back")  # refused before the models load if jiwer is missing
        from ..pipeline.audio import load_reference
        from ..pipeline.logs import quiet_transformers

        reference = load_reference(speaker_wav) if speaker_wav else None  # refused before the models load
        with quiet_transformers():
            from .models import load_speech, load_transcriber

            voice, source = load_speech(model, tts)
            asr = load_transcriber(model, language) if read_back else None
            voices = {"language": language, "speaker_wav": reference, "speaker": speaker}
            how = {"model": source, "batch_size": batch_size, "asr": asr, "overwrite": overwrite}
            rows = _speak_all(voice, lines, out, **voices, **how, **options)
        if texts.suffix.lower() == ".srt":
            _dub(rows, out, out / f"{texts.stem}.wav")
        _summarize(rows, out)


def _speak_all(voice, lines, out: Path, **options) -> list[dict]:
    """Speak the lines with a progress bar; return the rows."""
    from ..synthesis import speak_lines

    rows = []
    with Progress(*Progress.get_default_columns(), console=progress) as bars:
        bar = bars.add_task("Speaking", total=None)
        begun = []

        def begin(count: int) -> None:
            begun.append(len(rows))
            bars.update(bar, total=count)
            if kept := sum("error" not in row for row in rows):
                bars.print(f"{kept} of {len(lines)} lines were done already.", highlight=False)

        for row in speak_lines(voice, lines, out, on_begin=begin, **options):
            rows.append(row)
            bars.advance(bar, len(begun))
            if "error" in row:
                bars.print(f"[red]Error:[/] line {row['line']}: {escape(row['error'])}", highlight=False)
    return rows


def _dub(rows: list[dict], out: Path, track: Path) -> None:
    """Write the dubbed track of the cues that were spoken, and say which needed more time than they have."""
    from ..dubbing import dub

    cues = [row for row in rows if "error" not in row]
    if not cues:
        return
    for cue in dub(cues, out, track):
        if cue["overran"]:
            text = f"line {cue['line']}: {cue['overran']:.1f} s too long, even at {cue['speed']:.2f} times the speed"
            progress.print(f"[yellow]Note:[/] {escape(text)}; it goes on over the next cue.", highlight=False)
        elif cue["speed"] > 1:
            progress.print(f"line {cue['line']}: at {cue['speed']:.2f} times the speed", highlight=False)
    console.print(f"[bold]Written:[/] {escape(str(track))}", highlight=False)


def _summarize(rows: list[dict], out: Path) -> None:
    """Print what was spoken; raise ValueError if a line couldn't be."""
    spoken = [row for row in rows if "error" not in row]
    seconds, took = (sum(row[name] for row in spoken) for name in ("seconds", "took"))
    if spoken:
        line = f"{len(spoken)} lines, {seconds:.1f} s of sound, spoken in {took:.1f} s (RTF {took / seconds:.2f})"
        heard = [row["wer"] for row in spoken if "wer" in row]
        line += f", read back with {sum(heard) / len(heard):.1f} % word errors on average" if heard else ""
        console.print(f"{line}.", highlight=False)
    console.print(f"[bold]Written:[/] {escape(str(out / 'manifest.jsonl'))}", highlight=False)
    if len(spoken) < len(rows):
        raise ValueError(
            f"{len(rows) - len(spoken)} of {len(rows)} lines could not be spoken; the others are written."
        )


def _read_options(given: list[str]) -> dict:
    """Return options of a voice, their values as numbers or booleans where they are such."""
    options = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--option is {each!r}; valid is NAME=VALUE, such as speed=1.1.")
        options[name] = value
        with contextlib.suppress(ValueError):
            options[name] = json.loads(value)
    return options
