"""`hfpipe ask`: answer one spoken question."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from .console import console, plain_errors, print_json, step
from .output import check_output

STAGES = {
    "asr": "speech recognition (asr)",
    "llm_first_token": "first token of the answer (llm_first_token)",
    "llm": "answer (llm)",
    "tts": "speech (tts)",
    "tts_base": "speech in the default voice (tts_base)",
    "first_audio": "first audio",
    "total": "total",
}


def ask(
    audio: Annotated[str, typer.Argument(help="The spoken question: an audio file or a URL.")],
    speaker_wav: Annotated[
        str | None,
        typer.Option(help="10 to 15 s of the voice to answer in. Its speaker must have agreed to be cloned."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A voice-qa repo or a Whisper: folder or Hub id; 'offline' needs no Hub."),
    ] = None,
    llm: Annotated[str | None, typer.Option(help="The language model: folder or Hub id.")] = None,
    tts: Annotated[str | None, typer.Option(help="The text-to-speech model: folder or Hub id.")] = None,
    language: Annotated[str, typer.Option(help="Language code; 'auto' detects the language.")] = "es",
    compare: Annotated[bool, typer.Option("--compare", help="Also answer in the model's default voice.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for answer.wav.")] = Path("."),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Answer a spoken question: print question, answer and timings, and write answer.wav."""
    with plain_errors():
        from ..pipeline.audio import load_question, load_reference, write_wav

        if os.path.isfile(out):
            raise ValueError(f"--out {out} is a file; give a folder.")
        names = {"audio": "answer.wav", "audio_base": "answer_base.wav"}
        for name in names.values() if compare else ("answer.wav",):
            check_output(out / name, "Give another folder as --out.")
        load_question(audio)  # refuse unusable audio before the models load
        reference = load_reference(speaker_wav) if speaker_wav else None
        from ..pipeline.logs import quiet_transformers
        from .models import load_voice_qa

        with quiet_transformers():
            pipe, sources = load_voice_qa(model, llm, tts)
            with step("Answering"):
                result = pipe(
                    audio, speaker_wav=reference, compare=compare, language=None if language == "auto" else language
                )
        out.mkdir(parents=True, exist_ok=True)
        for key, name in names.items():
            if key in result:
                write_wav(out / name, result[key], result["sampling_rate"])
                result[key] = str(out / name)
        if as_json:
            print_json({**result, **sources})
        else:
            _show(result)


def _show(result: dict) -> None:
    console.print(f"[bold]Question:[/] {escape(result['question'])}", highlight=False)
    console.print(f"[bold]Answer:[/]   {escape(result['answer'])}", highlight=False)
    table = Table("stage", "seconds")
    table.columns[1].justify = "right"
    for stage, title in STAGES.items():
        if stage in result["timings"]:
            table.add_row(title, f"{result['timings'][stage]:.2f}")
    console.print(table, soft_wrap=False)
    for key in ("audio", "audio_base"):
        if key in result:
            console.print(f"[bold]Written:[/]  {escape(result[key])}", highlight=False)
