"""The command line: `python -m hfpipe ask QUESTION.wav`, `transcribe FILES…` and `check`."""

import contextlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

app = typer.Typer(
    help="A spoken question in, a spoken answer out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
console = Console()
progress = Console(stderr=True)
OFFLINE = "offline"
STAGES = {
    "asr": "heard (asr)",
    "llm_first_token": "until its first words (llm_first_token)",
    "llm": "thought (llm)",
    "tts": "spoke (tts)",
    "tts_base": "spoke in its own voice (tts_base)",
    "first_audio": "until the first sound",
    "total": "total",
}


@app.command()
def ask(
    audio: Annotated[str, typer.Argument(help="The spoken question: a wav, flac, ogg or mp3 file, or a URL.")],
    speaker_wav: Annotated[
        str | None,
        typer.Option(help="10 to 15 s of the voice to answer in. Its speaker must have agreed to be cloned."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"A voice-qa repo or a Whisper: folder or Hub id; '{OFFLINE}' needs no Hub."),
    ] = None,
    llm: Annotated[str | None, typer.Option(help="The model that answers: folder or Hub id.")] = None,
    tts: Annotated[str | None, typer.Option(help="The voice that speaks: folder or Hub id.")] = None,
    language: Annotated[str, typer.Option(help="The language's code; 'auto' detects it.")] = "es",
    compare: Annotated[bool, typer.Option("--compare", help="Also answer in the voice part's own voice.")] = False,
    out: Annotated[Path, typer.Option(help="The folder where answer.wav goes.")] = Path("."),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Answer a spoken question aloud: prints question, answer and times, and writes answer.wav."""
    with _plain_errors():
        from ..pipeline.audio import load_question, load_reference, write_wav

        if out.exists() and not out.is_dir():
            raise ValueError(f"--out {out} is a file; give a folder.")
        load_question(audio)  # what can't be answered is refused before the models load
        reference = load_reference(speaker_wav) if speaker_wav else None
        pipe, parts = _load(model, llm, tts)
        with _step("Answering"):
            result = pipe(
                audio, speaker_wav=reference, compare=compare, language=None if language == "auto" else language
            )
        out.mkdir(parents=True, exist_ok=True)
        for key, name in (("audio", "answer.wav"), ("audio_base", "answer_base.wav")):
            if key in result:
                write_wav(out / name, result[key], result["sampling_rate"])
                result[key] = str(out / name)
    if as_json:
        print(json.dumps({**result, **parts}, ensure_ascii=False, indent=2))
    else:
        _show(result)


@app.command()
def transcribe(
    files: Annotated[list[str], typer.Argument(help="Recordings of any length: wav, flac, ogg or mp3.")],
    form: Annotated[str, typer.Option("--format", help="txt, srt, vtt or json.")] = "txt",
    model: Annotated[str | None, typer.Option(help=f"A Whisper: folder or Hub id; '{OFFLINE}' needs no Hub.")] = None,
    language: Annotated[str, typer.Option(help="The language's code; 'auto' detects it.")] = "es",
    out: Annotated[Path | None, typer.Option(help="The folder for the texts; by default beside each file.")] = None,
) -> None:
    """Write down recordings: one file of text for each; the same command again goes on where it stopped."""
    with _plain_errors():
        from .transcription import FORMATS, transcribe_files

        if form not in FORMATS:
            raise ValueError(f"--format is {form!r}; valid is {', '.join(FORMATS)}.")
        if out and out.exists() and not out.is_dir():
            raise ValueError(f"--out {out} is a file; give a folder.")
        asr, failed = _load_asr(model), 0
        with Progress(*Progress.get_default_columns(), console=progress) as bars:
            bar = bars.add_task("", total=None)

            def show(name: str, done: float, total: float) -> None:
                bars.update(bar, description=escape(name), completed=done, total=total)

            detected = None if language == "auto" else language
            for file, target, error in transcribe_files(asr, files, form, out, detected, show):
                failed += error is not None
                bars.print(f"[red]Error:[/] {escape(f'{file}: {error}')}" if error else escape(f"{file} → {target}"))
        if failed:
            raise ValueError(f"{failed} of {len(files)} files could not be transcribed; the others are written.")


@app.command()
def check() -> None:
    """Say what this machine has and lacks for hfpipe, with remedies, and which models fit it."""
    from .machine import check_machine, models_that_fit

    table = Table("", "what", "found", "what to do", title="This machine")
    with _step("Looking at this machine"):
        findings = check_machine()
    for finding in findings:
        mark = {True: "[green]ok[/]", False: "[red]broken[/]", None: "[yellow]missing[/]"}[finding.ok]
        table.add_row(mark, finding.subject, escape(finding.found), "" if finding.ok else escape(finding.remedy))
    console.print(table)
    fitting = Table("argument", "model", "takes about", "", title="Models that fit, by what is free now")
    for argument, models in models_that_fit().items():
        for name, size, fits in models:
            fitting.add_row(argument, name, f"{size:.1f} GB", "[green]fits[/]" if fits else "[red]too large[/]")
    console.print(fitting)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _load(model: str | None, llm: str | None, tts: str | None):
    """Loads the pipeline, and gives it with the names of what was loaded."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if model is None and not _defaults_at_hand():
        progress.print(f"The Hub doesn't answer and the default models aren't cached: using --model {OFFLINE}.")
        model = OFFLINE
    if model == OFFLINE:
        from ..offline.repo import offline_repo

        with progress.status("Putting the offline models together, once: two or three minutes …"):
            model = offline_repo(progress=lambda step: progress.print(escape(step)))
    with _step("Loading the models"):
        from ..loading import load

        given = {name: value for name, value in {"llm": llm, "tts": tts}.items() if value is not None}
        pipe = load(model, **given)
    return pipe, {"model": pipe.model.config.name_or_path, **given}


def _load_asr(model: str | None):
    """Loads the stock speech recognition pipeline, around the default Whisper where none is named."""
    from transformers import pipeline
    from transformers.utils import logging

    from ..pipeline.hub_access import DEFAULT_WHISPER, check_reachable

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    revision = None
    if model is None and _defaults_at_hand():
        model, revision = DEFAULT_WHISPER
    if model in (None, OFFLINE):
        from ..offline.repo import offline_repo

        model = offline_repo(progress=lambda step: progress.print(escape(step)))
    check_reachable(model, revision, "model")
    with _step("Loading the model"):
        return pipeline("automatic-speech-recognition", model=model, revision=revision)


def _defaults_at_hand() -> bool:
    from ..pipeline.hub_access import DEFAULT_WHISPER, check_reachable

    try:
        check_reachable(*DEFAULT_WHISPER, "model")
    except OSError:
        return False
    return True


def _show(result: dict) -> None:
    console.print(f"[bold]Question:[/] {escape(result['question'])}", highlight=False)
    console.print(f"[bold]Answer:[/]   {escape(result['answer'])}", highlight=False)
    table = Table("stage", "seconds")
    table.columns[1].justify = "right"
    for stage, title in STAGES.items():
        if stage in result["timings"]:
            table.add_row(title, f"{result['timings'][stage]:.2f}")
    console.print(table)
    for key in ("audio", "audio_base"):
        if key in result:
            console.print(f"[bold]Written:[/]  {escape(result[key])}", highlight=False)


@contextlib.contextmanager
def _step(what: str):
    """Shows that something slow goes on, and how long it took."""
    start = time.perf_counter()
    with progress.status(f"{what} …"):
        yield
    progress.print(f"{what}: {time.perf_counter() - start:.1f} s")


@contextlib.contextmanager
def _plain_errors():
    """Prints a warning or an expected error as one plain line, without a traceback; an error exits with 1."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what libraries say to their programmers
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = lambda message, *rest: progress.print(f"[yellow]Note:[/] {escape(str(message))}")
            yield
    except (OSError, ValueError, TypeError, ImportError, MemoryError, RuntimeError) as error:
        progress.print(f"[red]Error:[/] {escape(str(error))}", highlight=False)
        sys.exit(1)
