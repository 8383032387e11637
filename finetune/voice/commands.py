"""The commands of `hfpipe finetune` that judge voices."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hfpipe.cli.console import console, plain_errors, progress

NOTES_FROM = "finetune"  # warnings of other libraries aren't printed


def judge_voice(
    model: Annotated[
        str, typer.Argument(help="A voice: folder, Hub id, voice-qa repo, offline, or column:NAME of recordings.")
    ],
    test: Annotated[Path, typer.Argument(help="CSV with the columns audio,text[,speaker,country], or such a folder.")],
    out: Annotated[Path, typer.Option(help="New folder for the report and the recordings.")],
    base: Annotated[str | None, typer.Option(help="Another voice to compare with, such as the untrained one.")] = None,
    language: Annotated[str, typer.Option(help="Language code of the texts.")] = "es",
    whisper: Annotated[
        str, typer.Option(help="The Whisper that reads back: folder, Hub id, size or offline.")
    ] = "openai/whisper-base",
    speaker: Annotated[
        str | None, typer.Option(help="A voice of the model's own, instead of imitating the speakers.")
    ] = None,
    max_rows: Annotated[int | None, typer.Option(help="Use only the first rows, at most this many.", min=1)] = None,
) -> None:
    """Judge a voice on recordings of speakers who agreed to be imitated: errors, likeness, quality and speed."""
    with plain_errors(NOTES_FROM):
        from hfpipe.pipeline.logs import quiet_transformers

        from .judge import judge_voice
        from .judgement_report import verdicts

        with quiet_transformers():
            result = judge_voice(
                model,
                test,
                out,
                base=base,
                language=language,
                whisper=whisper,
                speaker=speaker,
                max_rows=max_rows,
                say=lambda text: progress.print(text, markup=False, highlight=False),
            )
        for name, goal in result["goals"].items():
            value = "not measured" if goal["value"] is None else f"{goal['value']:.3g}"
            console.print(f"{name} {goal['goal']}: {value}, {goal['reached']}", highlight=False)
        for sentence in verdicts(result):
            console.print(escape(sentence.replace("**", "")), highlight=False)
        console.print(f"Written: {escape(str(out))} (judgement.md, .json, .html)", highlight=False)


def listening_test(
    a: Annotated[Path, typer.Argument(help="Folder of recordings.")],
    b: Annotated[Path, typer.Argument(help="Folder of recordings with the same names, to compare with.")],
    out: Annotated[Path, typer.Option(help="New folder for the page, the key and the answers.")],
    seed: Annotated[int | None, typer.Option(help="Of the hidden names; by default they differ each time.")] = None,
) -> None:
    """Make a page on which listeners compare two voices blindly; put page/ on any web space."""
    with plain_errors(NOTES_FROM):
        from .listening import make_listening_test

        key = make_listening_test(a, b, out, seed)
        console.print(f"Written: {escape(str(out))}: page/index.html asks {len(key['items'])} questions.")
        console.print("Keep key.json, and put the listeners' files into answers/.")


def listening_results(
    folder: Annotated[Path, typer.Argument(help="What listening-test wrote, with the listeners' files in answers/.")],
) -> None:
    """Analyze the answers to a listening test: opinions and preferences with intervals, and who didn't listen."""
    with plain_errors(NOTES_FROM):
        from .listening_results import analyze_listening, results_markdown

        print(results_markdown(analyze_listening(folder)))
        console.print(f"Written: {escape(str(folder))} (results.md, results.json)", highlight=False)


COMMANDS = (judge_voice, listening_test, listening_results)
