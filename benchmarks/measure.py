"""Shared by the benchmarks: interleaved timing, and reports as a table, JSON and a chart."""

import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

import hfpipe  # noqa: F401  before torch, so that its idle threads sleep instead of spinning

# isort: split
import torch

__all__ = ["Row", "interleaved", "median", "machine", "report"]

PACKAGES = ("torch", "transformers")


class Row(NamedTuple):
    """A quantity measured on both sides, in the same unit."""

    name: str
    ours: float
    peer: float
    unit: str

    @property
    def ratio(self) -> float:
        """Our value divided by the peer's."""
        return self.ours / self.peer if self.peer else float("nan")


def interleaved(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time each call `repeats` times, round-robin after a warm-up round, and return the seconds by name.

    On a shared machine the load varies over minutes; interleaving the calls lets it affect all of them alike.
    """
    for call in calls.values():
        call()
    seconds = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def machine() -> str:
    """Describe the machine: processor, cores, memory, load, and package versions."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    able = torch.cpu.get_capabilities()
    widest = next((each for each in ("amx_int8", "avx512_vnni", "avx512_f", "avx2") if able.get(each)), "")
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GB"
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return ", ".join(filter(None, (f"{name} {widest}".strip(), cores, memory, load, packages)))


def report(title: str, rows: list[Row], file: Path | None = None) -> None:
    """Print the rows as a table; if a file is given, write them as JSON, and a chart next to it."""
    table = Table(title=title, caption=machine(), title_justify="left", caption_justify="left")
    table.add_column("what")
    for heading in ("ours", "peer", "unit", "ratio"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    for row in rows:
        table.add_row(row.name, f"{row.ours:.3g}", f"{row.peer:.3g}", row.unit, f"{row.ratio:.2f}")
    Console(width=None if os.isatty(1) else 150).print(table)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([{**row._asdict(), "ratio": row.ratio} for row in rows], indent=1) + "\n")
        draw(title, rows, file.with_suffix(".png"))


def draw(title: str, rows: list[Row], file: Path) -> None:
    """Plot the ratio of each row as a bar, with a line at 1, where both sides are equal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.9 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    shown = rows[::-1]  # matplotlib starts at the bottom
    bars = axes.barh([row.name for row in shown], [row.ratio for row in shown], color="#3b6ea5")
    axes.bar_label(bars, [f"{row.ours:.3g} / {row.peer:.3g} {row.unit}" for row in shown], padding=3, fontsize=7)
    axes.axvline(1, color="#888888", linewidth=1)
    axes.margins(x=0.3)
    axes.set_xlabel("ours / peer", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=9)
    figure.savefig(file, dpi=100)
