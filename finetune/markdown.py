"""Build Markdown tables for the reports."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence], right: Sequence[str] = ()) -> list[str]:
    """Return the lines of a Markdown table, with its cells escaped.

    Args:
        header: names of the columns; a name may be empty.
        rows: cells, converted with `str`.
        right: the columns to align right.
    """
    lines = [header, *rows]
    table = ["| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines]
    table.insert(1, "|" + "|".join("---:" if name in right else "---" for name in header) + "|")
    return table


def _escape(cell) -> str:
    return str(cell).replace("|", "\\|").replace("\n", " ")
