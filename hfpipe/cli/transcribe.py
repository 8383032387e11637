"""`hfpipe transcribe`: transcribe recordings of any length."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from .console import plain_errors, progress


def transcribe(
    files: Annotated[list[str], typer.Argument(help="Recordings of any length: wav, flac, ogg or mp3.")],
    output_format: Annotated[str, typer.Option("--format", help="txt, srt, vtt or json.")] = "txt",
    model: Annotated[str | None, typer.Option(help="A Whisper: folder or Hub id; 'offline' needs no Hub.")] = None,
    language: Annotated[str, typer.Option(help="Language code; 'auto' detects the language.")] = "es",
    out: Annotated[Path | None, typer.Option(help="Folder for the transcripts; by default beside each file.")] = None,
) -> None:
    """Transcribe recordings, one text file each. Run again, the same command resumes where it stopped."""
    with plain_errors(how_to_resume="The same command resumes where it stopped."):
        from .transcription import FORMATS, transcribe_files

        if output_format not in FORMATS:
            raise ValueError(f"--format is {output_format!r}; valid is {', '.join(FORMATS)}.")
        if out and out.exists() and not out.is_dir():
            raise ValueError(f"--out {out} is a file; give a folder.")
        from ..pipeline.logs import quiet_transformers
        from .models import load_transcriber

        failed = 0
        with quiet_transformers():
            asr = load_transcriber(model, None if language == "auto" else language)
            with Progress(*Progress.get_default_columns(), console=progress) as bars:
                bar = bars.add_task("", total=None)

                def show(name: str, done: float, total: float) -> None:
                    bars.update(bar, description=escape(name), completed=done, total=total)

                code = None if language == "auto" else language
                for file, target, error in transcribe_files(asr, files, output_format, out, code, show):
                    failed += error is not None
                    line = f"[red]Error:[/] {escape(f'{file}: {error}')}" if error else escape(f"{file} → {target}")
                    bars.print(line)
        if failed:
            raise ValueError(f"{failed} of {len(files)} files could not be transcribed; the others are written.")
