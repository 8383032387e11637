"""`hfpipe transcribe`: transcribe recordings of any length."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from .console import plain_errors, progress
from .output import check_output


def transcribe(
    files: Annotated[list[str], typer.Argument(help="Recordings of any length, or URLs.")],
    output_format: Annotated[str, typer.Option("--format", help="txt, srt, vtt or json.")] = "txt",
    model: Annotated[str | None, typer.Option(help="A Whisper: folder or Hub id; 'offline' needs no Hub.")] = None,
    language: Annotated[str, typer.Option(help="Language code; 'auto' detects it, again and again.")] = "es",
    out: Annotated[Path | None, typer.Option(help="Folder for the transcripts; by default beside each file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace transcripts that exist.")] = False,
) -> None:
    """Transcribe recordings, one text file each. Run again, the same command resumes where it stopped."""
    with plain_errors(how_to_resume="The same command resumes where it stopped."):
        from ..transcription import FORMATS, describe_kept, targets, transcribe_files

        if output_format not in FORMATS:
            raise ValueError(f"--format is {output_format!r}; valid is {', '.join(FORMATS)}.")
        if out and os.path.isfile(out):
            raise ValueError(f"--out {out} is a file; give a folder.")
        texts = targets(files, output_format, out)
        kept = {file: text for file, text in texts.items() if os.path.isfile(text) and not overwrite}
        for file, text in texts.items():
            if file not in kept and (out or text.parent.is_dir()):
                check_output(text, "Give a folder as --out where you may write.")
        from ..pipeline.asr_whisper import language_code
        from ..pipeline.logs import quiet_transformers
        from .models import load_transcriber, resolve_transcriber

        code = None if language == "auto" else language_code(language)
        for file, text in kept.items():
            other = describe_kept(text, resolve_transcriber(model)[0], code) if text.suffix == ".json" else ""
            line = f"{file}: kept, {text} exists already{other}; --overwrite replaces it"
            progress.print(escape(line), highlight=False)
        if len(kept) == len(texts):
            return
        failed = 0
        with quiet_transformers():
            asr = load_transcriber(model, None if language == "auto" else language)
            with Progress(*Progress.get_default_columns(), console=progress) as bars:
                bar = bars.add_task("", total=None)

                def show(name: str, done: float, total: float) -> None:
                    bars.update(bar, description=escape(name), completed=done, total=total)

                for file, text, error in transcribe_files(
                    asr, list(texts), output_format, out, code, show, overwrite=overwrite
                ):
                    if file in kept:
                        continue
                    failed += error is not None
                    line = f"[red]Error:[/] {escape(f'{file}: {error}')}" if error else escape(f"{file} → {text}")
                    bars.print(line)
        if failed:
            raise ValueError(f"{failed} of {len(texts)} files could not be transcribed; the others are written.")
