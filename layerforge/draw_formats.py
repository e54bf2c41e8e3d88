"""A drawing in the formats of pictures: Graphviz dot text, SVG, and by matplotlib PNG and PDF."""

from __future__ import annotations

import html
import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

from .draw_layout import Layout, Link, Point, arrange
from .errors import DefinitionError, did_you_mean

FONT = "DejaVu Sans"
FONTS = f"{FONT}, Verdana, Geneva, sans-serif"
INK, FAINT, LINE = "#1f2430", "#5b6270", "#8a909c"
NAME_SIZE, SIZE, DETAIL_SIZE, LABEL_SIZE = 12.0, 11.0, 10.0, 10.0
PADDING, MARGIN, CORNER = 10.0, 16.0, 6.0
DPI = 144
MOST_PIXELS = 30_000  # on a side; matplotlib ends at 65536

# Advance widths of DejaVu Sans in hundredths of its size, from " " to "~".
WIDTHS = [
    *(32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34),
    *(84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73, 68, 99),
    *(69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52),
    *(39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84),
]
BOLD = 1.13  # how much wider bold letters are


@dataclass
class Row:
    """A layer's part of a box."""

    name: str
    type: str
    details: str
    fill: str
    line: str


@dataclass
class Box:
    """A layer and those that work in place on its blob, or an output."""

    rows: list[Row]
    is_blob: bool = False


@dataclass
class Arrow:
    """A blob, from the box that holds it to one that reads it."""

    source: int
    target: int
    blob: str
    label: str = ""


@dataclass
class Drawing:
    """What a drawing shows, in no place yet."""

    name: str
    boxes: list[Box]
    arrows: list[Arrow]


def render(drawing: Drawing, rankdir: str, ext: str) -> bytes:
    """The bytes of a file of that format: dot, svg, png or pdf."""
    formats = {"dot": dot, "gv": dot, "svg": svg, "png": png, "pdf": pdf}
    if ext not in formats:
        raise DefinitionError(
            f'"{ext}" is no format of drawings: there are dot, svg, png and pdf.{did_you_mean(ext, formats)}'
        )
    return formats[ext](drawing, rankdir)


# Graphviz.


def dot(drawing: Drawing, rankdir: str) -> bytes:
    """Graphviz dot text: boxes are tables, a row each for the layer and those that work in place."""
    lines = [
        f"digraph {json.dumps(drawing.name or 'net', ensure_ascii=False)} {{",
        f'  rankdir={rankdir}; fontname="{FONT}"; ranksep=0.4; nodesep=0.3;',
        f'  node [fontname="{FONT}" fontsize=11 shape=plain];',
        f'  edge [fontname="{FONT}" fontsize=10 color="{LINE}" fontcolor="{FAINT}" arrowsize=0.7];',
    ]
    for i, box in enumerate(drawing.boxes):
        if box.is_blob:
            row = box.rows[0]
            name = json.dumps(row.name, ensure_ascii=False)
            lines.append(
                f'  n{i} [label={name} shape=box style="rounded,filled" fillcolor="{row.fill}" color="{row.line}"];'
            )
        else:
            lines.append(f"  n{i} [label=<{_table(box)}>];")
    for arrow in drawing.arrows:
        label = f" [label={json.dumps(arrow.label, ensure_ascii=False)}]" if arrow.label else ""
        lines.append(f"  n{arrow.source} -> n{arrow.target}{label};")
    return ("\n".join(lines) + "\n}\n").encode()


def _table(box: Box) -> str:
    rows = []
    for row in box.rows:
        text = f"<B>{html.escape(row.name)}</B>  {html.escape(row.type)}"
        if row.details:
            text += f'<BR/><FONT POINT-SIZE="10" COLOR="{FAINT}">{html.escape(row.details)}</FONT>'
        rows.append(f'<TR><TD BGCOLOR="{row.fill}" CELLPADDING="6">{text}</TD></TR>')
    line = box.rows[0].line
    return f'<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="0" COLOR="{line}">{"".join(rows)}</TABLE>'


# What SVG and matplotlib draw: filled outlines and texts, in points from the upper left corner.

Command = tuple[str, tuple[Point, ...]]  # M, L, C and Z, as in SVG


@dataclass
class Outline:
    commands: list[Command]
    fill: str = "none"
    line: str = "none"
    thickness: float = 1.0


@dataclass
class Text:
    at: Point  # of the baseline: its begin, or its middle where it is centred
    text: str
    size: float
    colour: str = INK
    bold: bool = False
    centred: bool = False
    halo: bool = False  # a white rim, where a text lies on a line


@dataclass
class Picture:
    width: float
    height: float
    outlines: list[Outline]
    texts: list[Text]


def text_width(text: str, size: float, bold: bool = False) -> float:
    """How wide a text will be; letters beyond ASCII count as wide ones."""
    hundredths = sum(WIDTHS[ord(c) - 32] if 32 <= ord(c) < 127 else 100 if ord(c) > 0x2E7F else 84 for c in text)
    return hundredths / 100 * size * (BOLD if bold else 1.0)


def _row_size(row: Row, first: bool, is_blob: bool) -> Point:
    wide = text_width(row.name, NAME_SIZE, not is_blob) + (7 + text_width(row.type, SIZE) if row.type else 0)
    if row.details and first:
        return max(wide, text_width(row.details, DETAIL_SIZE)) + 2 * PADDING, 40.0
    if row.details:
        wide += 9 + text_width(row.details, DETAIL_SIZE)
    return wide + 2 * PADDING, 26.0 if first or is_blob else 22.0


def picture(drawing: Drawing, rankdir: str) -> Picture:
    """Everything in its place."""
    heights = [[_row_size(row, i == 0, box.is_blob)[1] for i, row in enumerate(box.rows)] for box in drawing.boxes]
    widths = [max(_row_size(row, i == 0, box.is_blob)[0] for i, row in enumerate(box.rows)) for box in drawing.boxes]
    sizes = [(width, sum(rows)) for width, rows in zip(widths, heights, strict=True)]
    sideways = rankdir in ("LR", "RL")
    links = [Link(arrow.source, arrow.target, arrow.blob) for arrow in drawing.arrows]
    layout = arrange([(h, w) if sideways else (w, h) for w, h in sizes], links)
    turned = _turn(layout, rankdir)
    made = Picture(turned.width + 2 * MARGIN, turned.height + 2 * MARGIN, [], [])
    labelled: set[tuple[int, str]] = set()
    for arrow, way in zip(drawing.arrows, turned.ways, strict=True):
        _draw_arrow(made, way, sideways)
        if arrow.label and (arrow.source, arrow.label) not in labelled:
            labelled.add((arrow.source, arrow.label))
            (x0, y0), (x1, y1) = way[1:3]
            at = ((x0 + x1) / 2, (y0 + y1) / 2 + LABEL_SIZE * 0.35)
            made.texts.append(Text(at, arrow.label, LABEL_SIZE, FAINT, centred=True, halo=True))
    for box, centre, size, rows in zip(drawing.boxes, turned.centres, sizes, heights, strict=True):
        _draw_box(made, box, (centre[0] - size[0] / 2, centre[1] - size[1] / 2), size[0], rows)
    return made


def _turn(layout: Layout, rankdir: str) -> Layout:
    """A layout that runs downwards in another direction, with a margin around."""
    sideways, back = rankdir in ("LR", "RL"), rankdir in ("BT", "RL")

    def turn(point: Point) -> Point:
        x, y = point
        y = layout.height - y if back else y
        return (y + MARGIN, x + MARGIN) if sideways else (x + MARGIN, y + MARGIN)

    width, height = (layout.height, layout.width) if sideways else (layout.width, layout.height)
    return Layout([turn(p) for p in layout.centres], [[turn(p) for p in way] for way in layout.ways], width, height)


def _draw_arrow(made: Picture, way: Sequence[Point], sideways: bool) -> None:
    length, half = 8.0, 3.2
    before, tip = way[-2], way[-1]
    axis = 0 if sideways else 1
    step = length if tip[axis] > way[0][axis] else -length
    foot = (tip[0] - step, tip[1]) if sideways else (tip[0], tip[1] - step)
    points = [*way[:-2], before, foot]
    commands: list[Command] = [("M", (points[0],))]
    for i, (a, b) in enumerate(itertools.pairwise(points)):
        if i % 2 == 0:
            if i < len(points) - 2 or (b[axis] - a[axis]) * step > 0:
                commands.append(("L", (b,)))
            continue
        if i == len(points) - 3 and (foot[axis] - b[axis]) * step < 0:
            b = foot  # the head begins before the last straight piece
        middle = (a[axis] + b[axis]) / 2
        bend = ((middle, a[1]), (middle, b[1])) if sideways else ((a[0], middle), (b[0], middle))
        commands.append(("C", (*bend, b)))
    made.outlines.append(Outline(commands, line=LINE, thickness=1.3))
    sides = [(foot[0], foot[1] + d) if sideways else (foot[0] + d, foot[1]) for d in (-half, half)]
    made.outlines.append(Outline([("M", (tip,)), ("L", (sides[0],)), ("L", (sides[1],)), ("Z", ())], fill=LINE))


def _draw_box(made: Picture, box: Box, corner: Point, width: float, heights: Sequence[float]) -> None:
    x, y = corner
    last = len(heights) - 1
    for i, (row, height) in enumerate(zip(box.rows, heights, strict=True)):
        radius = height / 2 if box.is_blob else CORNER
        top, bottom = (radius if i == 0 else 0.0), (radius if i == last else 0.0)
        made.outlines.append(Outline(_rounded(x, y, width, height, top, bottom), fill=row.fill))
        _write(made, box, row, (x, y), width, height)
        y += height
    radius = heights[0] / 2 if box.is_blob else CORNER
    frame = _rounded(x, corner[1], width, sum(heights), radius, radius)
    made.outlines.append(Outline(frame, line=box.rows[0].line, thickness=1.2))


def _write(made: Picture, box: Box, row: Row, corner: Point, width: float, height: float) -> None:
    x, y = corner
    if box.is_blob:
        middle = (x + width / 2, y + height / 2 + NAME_SIZE * 0.36)
        made.texts.append(Text(middle, row.name, NAME_SIZE, centred=True))
        return
    two_lines = height == 40.0
    base = y + (17.0 if two_lines else height / 2 + NAME_SIZE * 0.36)
    made.texts.append(Text((x + PADDING, base), row.name, NAME_SIZE, bold=True))
    after = x + PADDING + text_width(row.name, NAME_SIZE, True) + 7
    made.texts.append(Text((after, base), row.type, SIZE))
    if row.details:
        aside = after + text_width(row.type, SIZE) + 9
        at = (x + PADDING, y + 32.0) if two_lines else (aside, base)
        made.texts.append(Text(at, row.details, DETAIL_SIZE, FAINT))


def _rounded(x: float, y: float, width: float, height: float, top: float, bottom: float) -> list[Command]:
    """A rectangle whose upper and lower corners are rounded by these radii, clockwise."""
    bend = 0.4477  # 1 less 4/3 (sqrt(2) - 1): where the control points of a quarter of a circle lie
    right, low = x + width, y + height
    commands: list[Command] = [("M", ((x + top, y),)), ("L", ((right - top, y),))]
    if top:
        commands.append(("C", ((right - bend * top, y), (right, y + bend * top), (right, y + top))))
    commands.append(("L", ((right, low - bottom),)))
    if bottom:
        commands.append(("C", ((right, low - bend * bottom), (right - bend * bottom, low), (right - bottom, low))))
    commands.append(("L", ((x + bottom, low),)))
    if bottom:
        commands.append(("C", ((x + bend * bottom, low), (x, low - bend * bottom), (x, low - bottom))))
    commands.append(("L", ((x, y + top),)))
    if top:
        commands.append(("C", ((x, y + bend * top), (x + bend * top, y), (x + top, y))))
    commands.append(("Z", ()))
    return commands


# SVG.


def svg(drawing: Drawing, rankdir: str) -> bytes:
    """An SVG file; its texts are texts, and can be searched."""
    made = picture(drawing, rankdir)
    size = f'width="{made.width:.0f}" height="{made.height:.0f}" viewBox="0 0 {made.width:.1f} {made.height:.1f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONTS}">',
        f"<title>{html.escape(drawing.name or 'net')}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for outline in made.outlines:
        path = " ".join(f"{letter}{' '.join(f'{x:.1f},{y:.1f}' for x, y in at)}" for letter, at in outline.commands)
        stroke = f' stroke="{outline.line}" stroke-width="{outline.thickness}"' if outline.line != "none" else ""
        lines.append(f'<path d="{path}" fill="{outline.fill}"{stroke}/>')
    for text in made.texts:
        style = ' font-weight="bold"' if text.bold else ""
        style += ' text-anchor="middle"' if text.centred else ""
        style += ' stroke="white" stroke-width="3" paint-order="stroke"' if text.halo else ""
        place = f'x="{text.at[0]:.1f}" y="{text.at[1]:.1f}"'
        words = html.escape(text.text)
        lines.append(f'<text {place} font-size="{text.size:g}" fill="{text.colour}"{style}>{words}</text>')
    return ("\n".join(lines) + "\n</svg>\n").encode()


# PNG and PDF, by matplotlib.


def png(drawing: Drawing, rankdir: str) -> bytes:
    return _by_matplotlib(drawing, rankdir, "png")


def pdf(drawing: Drawing, rankdir: str) -> bytes:
    return _by_matplotlib(drawing, rankdir, "pdf")


def _by_matplotlib(drawing: Drawing, rankdir: str, ext: str) -> bytes:
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path
        from matplotlib.patheffects import withStroke
    except ImportError:
        raise DefinitionError(
            f"{ext.upper()} is drawn by matplotlib, which is not installed. Run: pip install 'layerforge[plot]'."
            f" Or write an .svg or a .dot file, which need nothing"
        ) from None
    made = picture(drawing, rankdir)
    codes = {"M": Path.MOVETO, "L": Path.LINETO, "C": Path.CURVE4, "Z": Path.CLOSEPOLY}
    figure = Figure(figsize=(made.width / 72, made.height / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, made.width)
    axes.set_ylim(made.height, 0)
    axes.axis("off")
    for outline in made.outlines:
        points = [point for letter, at in outline.commands for point in (at or [(0.0, 0.0)])]
        steps = [codes[letter] for letter, at in outline.commands for _ in (at or [None])]
        axes.add_patch(
            PathPatch(Path(points, steps), fc=outline.fill, ec=outline.line, lw=outline.thickness, clip_on=False)
        )
    for text in made.texts:
        shown = axes.text(
            *text.at,
            text.text,
            fontsize=text.size,
            family=FONT,
            color=text.colour,
            weight="bold" if text.bold else "normal",
            ha="center" if text.centred else "left",
            va="baseline",
            parse_math=False,
        )
        if text.halo:
            shown.set_path_effects([withStroke(linewidth=3, foreground="white")])
    out = io.BytesIO()
    dpi = min(DPI, MOST_PIXELS * 72 / max(made.width, made.height))
    figure.savefig(out, format=ext, dpi=dpi, metadata={"CreationDate": None} if ext == "pdf" else None)
    return out.getvalue()
