"""The `hfpipe` command. Nothing that imports torch is imported here, so that `--help` is fast."""

from typing import Annotated

import typer

from .. import __version__
from .ask import ask
from .check import check
from .finetune import finetune
from .serve import serve
from .speak import speak
from .transcribe import transcribe

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"hfpipe {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Ask a question aloud and hear the answer: speech recognition, a language model and text to speech."""


app.command()(ask)
app.command()(transcribe)
app.command()(speak)
app.command()(serve)
app.command()(check)
# finetune parses its own arguments, --help included.
app.command(
    add_help_option=False,
    context_settings={
        "allow_extra_args": True,
        "allow_interspersed_args": False,
        "ignore_unknown_options": True,
    },
)(finetune)
