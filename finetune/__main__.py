"""The command line: `python -m finetune whisper TRAIN TEST`, `check`, `evaluate`, `compare` and `export`."""

import contextlib
import dataclasses
import inspect
import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated, get_type_hints

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import hfpipe  # noqa: F401  # before torch: it lets torch's waiting threads sleep

from .options import HELP, Options, flag, read_yaml

app = typer.Typer(
    help="Whisper learns your Spanish from a table of audio and text.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
console = Console()
progress = Console(stderr=True)
MODEL = Annotated[str, typer.Argument(help="A Whisper: a folder, a Hub id, a size (base) or offline.")]
TABLE = Annotated[str, typer.Argument(help="CSV of audio,sentence, or org/name:config:split of the Hub.")]
LANGUAGE = Annotated[str, typer.Option(help="Code of the language that is spoken.")]
FULL = Annotated[bool, typer.Option("--full-window", help="Hear everything in windows of 30 s.")]
BATCH = Annotated[int, typer.Option(help="Rows at once.", min=1)]
MAX_ROWS = Annotated[int | None, typer.Option(help="At most so many rows, from the first on.", min=1)]


def whisper(context: typer.Context, config: str | None = None, **values) -> None:
    """Train a Whisper, judge it before and after, and write it to a folder that voice-qa takes as it is."""
    with _plain_errors():
        given = read_yaml(config) if config else {}
        given |= {name: value for name, value in values.items() if _was_given(context, name)}
        Options(**given)  # what is wrong is said before anything heavy is imported
        from .train import train_whisper

        report = train_whisper(**given, say=_say())
        if report:
            _show_training(report, Path(given.get("out", Options.out)))


@app.command()
def check(
    table: TABLE,
    test: Annotated[str | None, typer.Argument(help="The test set, to see whether it leaks.")] = None,
    model: Annotated[str, typer.Option(help="The Whisper whose tokens are counted.")] = Options.model,
    language: LANGUAGE = "es",
    drop_contradicted: Annotated[bool, typer.Option(help=HELP["drop_contradicted"])] = False,
    out: Annotated[Path | None, typer.Option(help="A file for the report: .md or .json.")] = None,
) -> None:
    """Look at every row before training: what can't be used is counted and named."""
    with _plain_errors():
        if out and out.suffix not in (".md", ".json"):
            raise ValueError(f"--out is {str(out)!r}; valid is a file that ends in .md or .json.")
        from .evaluate import check_table

        reports = check_table(table, test, model=model, language=language, hear=drop_contradicted)
        from .report import write_json, write_text

        markdown = "\n".join(report.markdown() for report in reports)
        if out and out.suffix == ".json":
            write_json(out, [report.as_dict() for report in reports])
        elif out:
            write_text(out, markdown)
        print(markdown)
        from .check import refuse_leaks

        if test:
            refuse_leaks(*reports)


@app.command()
def evaluate(
    model: MODEL,
    table: TABLE,
    language: LANGUAGE = "es",
    full_window: FULL = False,
    batch_size: BATCH = 8,
    max_rows: MAX_ROWS = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Judge a Whisper: word and letter error rates, an interval, the worst utterances, the time it took."""
    with _plain_errors():
        from .evaluate import evaluate_whisper

        found = evaluate_whisper(
            model, table, language, full_window=full_window, batch_size=batch_size, max_rows=max_rows
        )
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        _show_scores([found])
        _show_worst(found)


@app.command()
def compare(
    models_and_table: Annotated[list[str], typer.Argument(help="MODEL MODEL … TABLE; tiny, base … are OpenAI's.")],
    language: LANGUAGE = "es",
    full_window: FULL = False,
    batch_size: BATCH = 8,
    max_rows: MAX_ROWS = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Judge several Whispers on the same rows: size, time and word error rate side by side."""
    with _plain_errors():
        *models, table = models_and_table
        if not models:
            raise ValueError(f"compare got only {table!r}; give the models and then the table: tiny base test.csv.")
        from .evaluate import compare_whispers

        found = compare_whispers(
            models, table, language, full_window=full_window, batch_size=batch_size, max_rows=max_rows
        )
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        _show_scores(found)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A folder that finetune wrote.")],
    out: Annotated[Path, typer.Argument(help="The folder for the model in CTranslate2's layout.")],
    weights: Annotated[str, typer.Option(help="Their type: float32, float16, int8 or int8_float32.")] = "float32",
) -> None:
    """Write a Whisper for faster-whisper."""
    with _plain_errors():
        from .export import export_ct2

        console.print(f"Written: {escape(str(export_ct2(model, out, weights)))}", highlight=False)


def _options_as_parameters() -> inspect.Signature:
    """Makes the command line of `whisper` of the fields of `Options`."""
    types = get_type_hints(Options)
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    described = Annotated[str | None, typer.Option(help="A YAML file of these options; those given here win.")]
    parameters.append(inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, annotation=described, default=None))
    for field in dataclasses.fields(Options):
        kind = typer.Argument if field.name in ("train", "test") else typer.Option
        names = () if kind is typer.Argument or types[field.name] is not bool else (flag(field.name),)
        annotation = Annotated[types[field.name], kind(*names, help=field.metadata["help"])]
        parameters.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=field.default)
        )
    return inspect.Signature(parameters)


whisper.__signature__ = _options_as_parameters()
whisper.__annotations__ = {name: p.annotation for name, p in whisper.__signature__.parameters.items()}
app.command()(whisper)


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def _say():
    """Makes a function that prints a stage and the seconds since the first."""
    start = time.perf_counter()
    return lambda text: progress.print(f"[{time.perf_counter() - start:6.1f} s] {text}", markup=False, highlight=False)


def _show_training(report: dict, out: Path) -> None:
    from .report import verdict

    _show_scores([{"model": side, **report[side]["test"]} for side in ("before", "after")])
    console.print(verdict(report).replace("**", ""), highlight=False)
    for name, gain in report["gain"].items():
        if name != "test":
            console.print(f"{name}: {-gain['points']:+.1f} points of word error rate", highlight=False)
    console.print(f"Written: {escape(str(out))} (report.md, README.md, data.md)", highlight=False)


def _show_scores(found: list[dict]) -> None:
    table = Table("model", "parameters", "WER %", "95 %", "raw", "CER %", "S/D/I", "s", "RTF")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in found:
        low, high = one["wer_interval"]
        edits = "/".join(str(one[name]) for name in ("substitutions", "deletions", "insertions"))
        table.add_row(
            escape(str(one["model"])),
            f"{one['parameters'] / 1e6:.0f} M" if "parameters" in one else "",
            f"{one['wer']:.1f}",
            f"{low:.1f}–{high:.1f}",
            f"{one['wer_raw']:.1f}",
            f"{one['cer']:.1f}",
            edits,
            f"{one['seconds']:.1f}",
            f"{one['rtf']:.2f}",
        )
    console.print(table)


def _show_worst(found: dict) -> None:
    table = Table("audio", "said", "heard", "errors", title="The worst utterances")
    for worst in found["worst"]:
        name = Path(str(worst["audio"])).name
        table.add_row(escape(name), escape(worst["sentence"]), escape(worst["heard"]), str(worst["errors"]))
    console.print(table)
    dropped = found["data"]["dropped"]
    if dropped:
        console.print("Dropped: " + ", ".join(f"{count} {kind}" for kind, count in dropped.items()), highlight=False)


@contextlib.contextmanager
def _plain_errors():
    """Prints a warning or an expected error as one plain line, without a traceback; an error exits with 1."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what libraries say to their programmers
            warnings.filterwarnings("always", category=UserWarning, module="finetune")
            warnings.showwarning = lambda message, *rest: progress.print(f"[yellow]Note:[/] {escape(str(message))}")
            logging.getLogger("transformers").setLevel(logging.ERROR)
            yield
    except (OSError, ValueError, TypeError, ImportError, MemoryError, RuntimeError) as error:
        progress.print(f"[red]Error:[/] {escape(str(error))}", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        progress.print("Interrupted. The same command with --resume goes on.", highlight=False)
        sys.exit(130)


if __name__ == "__main__":
    app(prog_name="python -m finetune")
