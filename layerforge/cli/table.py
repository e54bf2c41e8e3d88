"""Tables as text."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], foot: Sequence[Sequence[str]] = (), left: int = 1) -> str:
    """Columns as wide as they need to be; the first ``left`` of them begin on the left, the others end on the right.

    >>> print(table(["layer", "ms"], [["conv1", "1.25"], ["fc6", "10.50"]], [["sum", "11.75"]]))
    layer     ms
    ------------
    conv1   1.25
    fc6    10.50
    ------------
    sum    11.75
    """
    every = [head, *rows, *foot]
    widths = [max(len(row[i]) for row in every) for i in range(len(head))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    lines = [line(head), rule, *map(line, rows)]
    if foot:
        lines += [rule, *map(line, foot)]
    return "\n".join(lines)


def scaled(number: float, unit: str = "") -> str:
    """A number in thousands, millions, ...: three significant digits.

    >>> scaled(431080), scaled(1_140_000_000, "B"), scaled(20)
    ('431 k', '1.14 GB', '20')
    """
    prefixes = ["", "k", "M", "G", "T", "P"]
    step = 0
    while abs(number) >= 999.5 and step < len(prefixes) - 1:
        number /= 1000
        step += 1
    text = f"{number:.3g}" if step or not float(number).is_integer() else f"{number:.0f}"
    return f"{text} {prefixes[step]}{unit}".strip()


def memory(count: float) -> str:
    """Bytes in KiB, MiB, GiB.

    >>> memory(1536), memory(243_860_896)
    ('1.5 KiB', '232.6 MiB')
    """
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    step = 0
    while abs(count) >= 1024 and step < len(units) - 1:
        count /= 1024
        step += 1
    return f"{count:.1f} {units[step]}" if step else f"{count:.0f} B"
