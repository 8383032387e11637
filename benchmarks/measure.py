"""Time ours and a peer's in turns, and print, write and draw how they compare."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

median = statistics.median


class Row(NamedTuple):
    """One comparison: ours and the peer's, in a unit; their ratio is ours / peer."""

    name: str
    ours: float
    peer: float
    unit: str


def interleaved(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Times each function in turn, `repeats` rounds after one that isn't counted: seconds by name.

    In turns, because a shared machine's speed moves by a third within minutes, and then moves for all.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def machine() -> str:
    """Names the machine: its processor, cores, memory, and how busy it is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = psutil.virtual_memory().total / 1e9
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GB; load {os.getloadavg()[0]:.1f}"


def report(title: str, rows: list[Row], file: Path | None = None) -> None:
    """Prints rows as a table, and writes them to a JSON file with a picture (.png) beside it."""
    table = Table("", "ours", "peer", "ratio", "unit", title=f"{title}\n{machine()}")
    for row in rows:
        table.add_row(row.name, f"{row.ours:.3g}", f"{row.peer:.3g}", f"{row.ours / row.peer:.3g}", row.unit)
    Console().print(table)
    if file is None:
        return
    written = [{**row._asdict(), "ratio": row.ours / row.peer} for row in rows]
    file.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    draw(title, rows, file.with_suffix(".png"))


def draw(title: str, rows: list[Row], file: Path) -> None:
    """Draws each row's ratio as a bar, the peer's being 1.

    Raises:
        ImportError: matplotlib isn't installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the picture needs matplotlib: pip install 'hfpipe[finetune]' or matplotlib.") from error
    figure = Figure(figsize=(8, 0.6 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    ratios = [row.ours / row.peer for row in rows][::-1]
    axes.barh([row.name for row in rows][::-1], ratios, color="#4477aa")
    axes.axvline(1, color="#888888", linestyle="--")
    axes.set_xlabel("ours / peer")
    axes.set_title(f"{title}\n{machine()}", fontsize=9)
    figure.savefig(file, dpi=100)
