"""The command line of `hfpipe finetune` and `python -m finetune`."""

import dataclasses
import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_type_hints

import typer
from rich.markup import escape
from rich.table import Table

from hfpipe.cli.console import console, plain_errors, progress

from .options import HELP, Options, flag, read_yaml
from .voice import commands
from .voice.options import VoiceOptions, read_voice_yaml

app = typer.Typer(
    help="Fine-tune a Whisper, or a cloning voice, on a table of audio and text, evaluate it and export it.",
    epilog="Prefer `hfpipe finetune` to `python -m finetune`: another package on PyPI is called finetune, and Python "
    "looks for it in the current folder first.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
NOTES_FROM = "finetune"  # warnings of other libraries aren't printed
MODEL = Annotated[str, typer.Argument(help="A Whisper: folder, Hub id, size (base) or offline.")]
TABLE = Annotated[str, typer.Argument(help="CSV with columns audio,sentence, or org/name:config:split on the Hub.")]
LANGUAGE = Annotated[str, typer.Option(help="Language code of the recordings.")]
FULL = Annotated[bool, typer.Option("--full-window", help="Pad every recording to 30 s.")]
BATCH = Annotated[int, typer.Option(help="Rows per batch.", min=1)]
MAX_ROWS = Annotated[int | None, typer.Option(help="Use only the first rows, at most this many.", min=1)]


def whisper(context: typer.Context, config: str | None = None, **values) -> None:
    """Train a Whisper, evaluate it before and after, and save it to a folder that voice-qa loads."""
    with plain_errors(NOTES_FROM, how_to_resume="The same command with --resume goes on."):
        given = read_yaml(config) if config else {}
        given |= {name: value for name, value in values.items() if _was_given(context, name)}
        Options(**given)  # refuse invalid options before torch is imported
        from .train import train_whisper

        report = train_whisper(**given, say=_timed_printer())
        if report:
            _show_training(report, Path(given.get("out", Options.out)))


def voice(context: typer.Context, config: str | None = None, **values) -> None:
    """Train XTTS on recordings whose speakers agreed to it, and save it to a folder that `tts=` takes."""
    with plain_errors(NOTES_FROM, how_to_resume="The same command with --resume goes on."):
        given = read_voice_yaml(config) if config else {}
        given |= {name: value for name, value in values.items() if _was_given(context, name)}
        VoiceOptions(**given)  # refuse invalid options before torch is imported
        from .voice.train import train_voice

        report = train_voice(**given, say=_timed_printer())
        if report:
            _show_losses(report, Path(given.get("out", VoiceOptions.out)))


@app.command()
def merge(
    adapter: Annotated[Path, typer.Argument(help="What `voice` wrote: its folder, or the folder adapter in it.")],
    out: Annotated[Path, typer.Argument(help="Folder for the merged XTTS, which tts= takes.")],
    model: Annotated[
        str | None, typer.Option(help="The XTTS that the adapter was trained on; by default the one it names.")
    ] = None,
) -> None:
    """Merge a voice's LoRA adapter into its XTTS."""
    with plain_errors(NOTES_FROM):
        from .voice.merge import merge_voice

        written = merge_voice(adapter, out, model, say=_timed_printer())
        console.print(f"Written: {escape(str(written))}", highlight=False)


@app.command()
def check(
    table: TABLE,
    test: Annotated[str | None, typer.Argument(help="The test set, to look for leaks.")] = None,
    model: Annotated[str, typer.Option(help="The Whisper whose tokenizer counts the tokens.")] = Options.model,
    language: LANGUAGE = "es",
    drop_contradicted: Annotated[bool, typer.Option(help=HELP["drop_contradicted"])] = False,
    out: Annotated[Path | None, typer.Option(help="File for the report: .md or .json.")] = None,
) -> None:
    """Check every row before training, list those that can't be used, and count what the sets share."""
    with plain_errors(NOTES_FROM):
        if out and out.suffix not in (".md", ".json"):
            raise ValueError(f"--out is {str(out)!r}; valid is a file that ends in .md or .json.")
        from hfpipe.pipeline.logs import quiet_transformers

        from .check import refuse_leaks
        from .evaluate import check_table
        from .report import write_json, write_text

        with quiet_transformers():
            reports = check_table(table, test, model=model, language=language, hear=drop_contradicted)
        markdown = "\n".join(report.markdown() for report in reports)
        if out and out.suffix == ".json":
            write_json(out, [report.as_dict() for report in reports])
        elif out:
            write_text(out, markdown)
        print(markdown)
        if test:
            refuse_leaks(*reports)


@app.command()
def check_voice(
    table: Annotated[
        str, typer.Argument(help="Table of audio,text[,speaker,country], LJSpeech's, or wav + txt files.")
    ],
    test: Annotated[str | None, typer.Argument(help="The test set, to look for leaks.")] = None,
    consent: Annotated[str | None, typer.Option(help="Who agreed to a voice being made of these, and when.")] = None,
    language: LANGUAGE = "es",
    asr: Annotated[str, typer.Option(help="Whisper that reads the recordings back, or none.")] = Options.model,
    max_seconds: Annotated[float, typer.Option(help="Longest recording; XTTS takes 11.6 s.", min=0.5)] = 11.6,
    out: Annotated[Path | None, typer.Option(help="File for the report: .md or .json.")] = None,
    kept: Annotated[Path | None, typer.Option(help="File for the table of the usable rows: .csv.")] = None,
) -> None:
    """Check recordings before a voice is made of them: sound, silence, speakers, and whether the text is said."""
    with plain_errors(NOTES_FROM, how_to_resume="The same command goes on."):
        for name, file, endings in (("--out", out, (".md", ".json")), ("--kept", kept, (".csv",))):
            if file and file.suffix not in endings:
                raise ValueError(f"{name} is {str(file)!r}; valid is a file that ends in {' or '.join(endings)}.")
        from hfpipe.pipeline.logs import quiet_transformers

        from .check import count_shared_rows, refuse_leaks
        from .voice.check import check_voice as check_rows
        from .voice.check import load_ears
        from .voice.check_report import write_report, write_rows
        from .voice.consent import require_consent

        with quiet_transformers():
            ears = None if asr == "none" else load_ears(asr, language)
            sources = [table, test] if test else [table]
            reports = [check_rows(source, language=language, ears=ears, max_seconds=max_seconds) for source in sources]
        if test:
            reports[1].shared = count_shared_rows(reports[0].kept, reports[1].kept)
        if out:
            write_report(out, reports)
        if kept:
            write_rows(kept, reports[0].rows_kept)
        print("\n".join(report.markdown() for report in reports))
        if test:
            refuse_leaks(*reports)
        require_consent(consent)


@app.command()
def evaluate(
    model: MODEL,
    table: TABLE,
    language: LANGUAGE = "es",
    full_window: FULL = False,
    batch_size: BATCH = 8,
    max_rows: MAX_ROWS = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Evaluate a Whisper: word and character error rates with an interval, the worst utterances, and the speed."""
    with plain_errors(NOTES_FROM):
        from hfpipe.pipeline.logs import quiet_transformers

        from .evaluate import evaluate_whisper

        with quiet_transformers():
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Evaluate several Whispers on the same rows: size, speed and word error rate side by side."""
    with plain_errors(NOTES_FROM):
        *models, table = models_and_table
        if not models:
            raise ValueError(f"compare got only {table!r}; give the models and then the table: tiny base test.csv.")
        from hfpipe.pipeline.logs import quiet_transformers

        from .evaluate import compare_whispers

        with quiet_transformers():
            found = compare_whispers(
                models, table, language, full_window=full_window, batch_size=batch_size, max_rows=max_rows
            )
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        _show_scores(found)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Folder of a fine-tuned Whisper.")],
    out: Annotated[Path, typer.Argument(help="Folder for the CTranslate2 model.")],
    weights: Annotated[str, typer.Option(help="float32, float16, int8 or int8_float32.")] = "float32",
) -> None:
    """Export a Whisper to CTranslate2, for faster-whisper."""
    with plain_errors(NOTES_FROM):
        from .export import export_ct2

        console.print(f"Written: {escape(str(export_ct2(model, out, weights)))}", highlight=False)


def _add_training(command: Callable, kind: type) -> None:
    """Add a training to the command line: one parameter per field of its options, and `--config`."""
    signature = _options_as_parameters(kind)
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    app.command()(command)


def _options_as_parameters(kind: type) -> inspect.Signature:
    types = get_type_hints(kind)
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    described = Annotated[str | None, typer.Option(help="YAML file of these options; options given here override it.")]
    parameters.append(inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, annotation=described, default=None))
    for field in dataclasses.fields(kind):
        given = typer.Argument if field.name in ("train", "test") else typer.Option
        names = () if given is typer.Argument or types[field.name] is not bool else (flag(field.name),)
        option = given(*names, help=field.metadata["help"])
        annotation = Annotated[types[field.name], option]  # type: ignore[valid-type, name-defined]
        parameters.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=field.default)
        )
    return inspect.Signature(parameters)


_add_training(whisper, Options)
_add_training(voice, VoiceOptions)


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def _timed_printer() -> Callable[[str], None]:
    """Return a function that prints a line with the seconds since this call."""
    start = time.perf_counter()
    return lambda text: progress.print(f"[{time.perf_counter() - start:6.1f} s] {text}", markup=False, highlight=False)


def _show_training(report: dict, out: Path) -> None:
    from .report import verdict

    _show_scores([{"model": side, **report[side]["test"]} for side in ("before", "after")])
    console.print(verdict(report).replace("**", ""), highlight=False)
    for name, gain in report["gain"].items():
        if name != "test":
            console.print(f"{name}: {-gain['points']:+.1f} points of word error rate", highlight=False)
    from .check import explain_shared

    for name, shared in report["shared"].items():
        console.print(f"{name}: {explain_shared(shared)}", highlight=False)
    console.print(f"Written: {escape(str(out))} (report.md, README.md, data.md)", highlight=False)


def _show_losses(report: dict, out: Path) -> None:
    table = Table("held out", "audio loss before", "after", "text loss before", "after")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, after in report["after"].items():
        before = report["before"][name]
        parts = ("audio_loss", "text_loss")
        table.add_row(name, *(f"{side[part]:.3f}" for part in parts for side in (before, after)))
    if report["after"]:
        console.print(table, soft_wrap=False)
    console.print(f"Written: {escape(str(out))} (README.md, report.json)", highlight=False)


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
    console.print(table, soft_wrap=False)


def _show_worst(found: dict) -> None:
    table = Table("audio", "said", "heard", "errors", title="Worst utterances")
    for worst in found["worst"]:
        name = Path(str(worst["audio"])).name
        table.add_row(escape(name), escape(worst["sentence"]), escape(worst["heard"]), str(worst["errors"]))
    console.print(table, soft_wrap=False)
    for note, count in found["data"]["notes"].items():
        console.print(escape(f"{note[0].upper()}{note[1:]} ({count} rows)."), highlight=False)
    dropped = found["data"]["dropped"]
    if dropped:
        console.print("Dropped: " + ", ".join(f"{count} {kind}" for kind, count in dropped.items()), highlight=False)


for _command in commands.COMMANDS:
    app.command()(_command)

if __name__ == "__main__":
    app(prog_name="python -m finetune")
