"""`hfpipe check`: report what this machine has and lacks."""

import typer
from rich.markup import escape
from rich.table import Table

from .console import console, step


def check() -> None:
    """Check this machine: what is installed, what is missing and how to get it, and which models fit."""
    from .machine import check_machine, models_that_fit

    table = Table("", "what", "found", "what to do", title="This machine")
    with step("Checking this machine"):
        findings = check_machine()
    for finding in findings:
        mark = {True: "[green]ok[/]", False: "[red]broken[/]", None: "[yellow]missing[/]"}[finding.ok]
        table.add_row(mark, finding.subject, escape(finding.found), "" if finding.ok else escape(finding.remedy))
    console.print(table, soft_wrap=False)
    fitting = Table("argument", "model", "needs about", "", title="Models that fit in the memory that is free now")
    for argument, models in models_that_fit().items():
        for name, size, fits in models:
            fitting.add_row(argument, name, f"{size:.1f} GB", "[green]fits[/]" if fits else "[red]too large[/]")
    console.print(fitting, soft_wrap=False)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)
