"""Where the boxes of a layered drawing go, and which way the lines between them take.

The steps are those of Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures",
1981: ranks, then the order within each rank, then coordinates. Everything here runs from top to bottom; a drawing from
left to right exchanges x and y.
"""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]

GAP = 22.0  # between two boxes of a rank
LINE_GAP = 12.0  # between a line and its neighbours in a rank
RANK_GAP = 30.0
ORDER_SWEEPS = 16
PLACE_SWEEPS = 24


@dataclass(frozen=True)
class Link:
    """A line from a box to one of a higher index. Links from one box with one key share their way while they can."""

    source: int
    target: int
    key: str = ""


@dataclass
class Layout:
    """Centres of boxes, and the way of each link, as points: straight pieces and curves take turns, straight first."""

    centres: list[Point]
    ways: list[list[Point]]
    width: float
    height: float


@dataclass
class _Ranks:
    """Cells in ranks: boxes by their index, and behind them what keeps room for a line that passes a rank."""

    sizes: list[Point]
    rank: list[int]
    cells: list[list[int]]
    above: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    below: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    boxes: int = 0

    def is_line(self, cell: int) -> bool:
        return cell >= self.boxes

    def pull(self, cell: int, other: int, neighbours: int) -> float:
        """How much a cell wants to stand below or above a neighbour: of a box and a line, boxes heed the box."""
        if self.is_line(cell):
            return 4.0 if self.is_line(other) else 1.0
        return 1e-6 if self.is_line(other) and neighbours < 3 else 1.0


def arrange(sizes: Sequence[Point], links: Sequence[Link]) -> Layout:
    """Places boxes of these widths and heights, so that links run downwards, rarely cross, and are straight if long."""
    ranks, chains = _rank(sizes, links)
    _order(ranks)
    xs = _place(ranks)
    return _measure(ranks, chains, links, xs)


def _rank(sizes: Sequence[Point], links: Sequence[Link]) -> tuple[_Ranks, list[list[int]]]:
    """Each box below all it is linked from; for each link the cells that it passes, its two boxes among them."""
    count = len(sizes)
    rank = [0] * count
    targets: dict[int, list[int]] = defaultdict(list)
    has_source = set()
    for link in sorted(links, key=lambda link: link.target):
        rank[link.target] = max(rank[link.target], rank[link.source] + 1)
        targets[link.source].append(link.target)
        has_source.add(link.target)
    for box in reversed(range(count)):
        if box not in has_source and targets[box]:
            rank[box] = min(rank[target] for target in targets[box]) - 1
    ranks = _Ranks(list(sizes), rank, [[] for _ in range(max(rank, default=-1) + 1)], boxes=count)
    for box in range(count):
        ranks.cells[rank[box]].append(box)
    shared: dict[tuple[int, str, int], int] = {}
    joined: set[tuple[int, int]] = set()
    chains = []
    for link in links:
        chain = [link.source]
        for at in range(rank[link.source] + 1, rank[link.target]):
            key = (link.source, link.key, at)
            if key not in shared:
                shared[key] = len(ranks.sizes)
                ranks.sizes.append((0.0, 0.0))
                ranks.rank.append(at)
                ranks.cells[at].append(shared[key])
            chain.append(shared[key])
        chain.append(link.target)
        chains.append(chain)
        for a, b in itertools.pairwise(chain):
            if (a, b) not in joined:
                joined.add((a, b))
                ranks.below[a].append(b)
                ranks.above[b].append(a)
    return ranks, chains


def _order(ranks: _Ranks) -> None:
    """Sorts each rank by where its neighbours stand, down and up in turns; keeps the order with fewest crossings."""
    best = [list(cells) for cells in ranks.cells]
    fewest = _crossings(ranks)
    for sweep in range(ORDER_SWEEPS):
        if not fewest:
            break
        downwards = sweep % 2 == 0
        order = range(1, len(ranks.cells)) if downwards else range(len(ranks.cells) - 2, -1, -1)
        for at in order:
            near = ranks.cells[at - 1 if downwards else at + 1]
            position = {cell: i for i, cell in enumerate(near)}
            neighbours = ranks.above if downwards else ranks.below
            here = {cell: i for i, cell in enumerate(ranks.cells[at])}

            def centre(
                cell: int,
                position: dict[int, int] = position,
                neighbours: dict[int, list[int]] = neighbours,
                here: dict[int, int] = here,
            ) -> float:
                found = [position[other] for other in neighbours.get(cell, ())]
                return sum(found) / len(found) if found else float(here[cell])

            ranks.cells[at].sort(key=centre)
        crossings = _crossings(ranks)
        if crossings < fewest:
            fewest, best = crossings, [list(cells) for cells in ranks.cells]
    ranks.cells = best


def _crossings(ranks: _Ranks) -> int:
    total = 0
    for upper, lower in itertools.pairwise(ranks.cells):
        position = {cell: i for i, cell in enumerate(lower)}
        seen: list[int] = []
        for cell in upper:
            ends = sorted(position[other] for other in ranks.below.get(cell, ()))
            total += sum(len(seen) - bisect.bisect_right(seen, end) for end in ends)
            for end in ends:
                bisect.insort(seen, end)
    return total


def _place(ranks: _Ranks) -> list[float]:
    """x of every cell: each as near to the mean of its neighbours as the order and the gaps allow."""
    xs = [0.0] * len(ranks.sizes)
    apart = [[_distance(ranks, a, b) for a, b in itertools.pairwise(cells)] for cells in ranks.cells]
    for cells, gaps in zip(ranks.cells, apart, strict=True):
        at = 0.0
        for cell, gap in zip(cells, [0.0, *gaps], strict=True):
            at += gap
            xs[cell] = at
    for sweep in range(PLACE_SWEEPS):
        downwards = sweep % 2 == 1  # so that the last sweep hangs everything straight below what it comes from
        order = range(len(ranks.cells)) if downwards else range(len(ranks.cells) - 1, -1, -1)
        for at in order:
            cells = ranks.cells[at]
            wanted, weights = [], []
            for cell in cells:
                near = (ranks.above if downwards else ranks.below).get(cell, [])
                pulls = [ranks.pull(cell, other, len(near)) for other in near]
                total = sum(pulls)
                pulled = sum(pull * xs[other] for pull, other in zip(pulls, near, strict=True))
                wanted.append(pulled / total if total else xs[cell])
                # Boxes go first where both want one place; lines are made straight afterwards.
                weights.append((1e-4 if ranks.is_line(cell) else 1.0) * max(total, 0.1))
            for cell, x in zip(cells, _apart(wanted, weights, apart[at]), strict=True):
                xs[cell] = x
    _straighten(ranks, xs)
    return xs


def _straighten(ranks: _Ranks, xs: list[float]) -> None:
    """Moves each long line to one x, as near to where it is as its neighbours on both sides allow."""
    beside: dict[int, tuple[int | None, int | None]] = {}
    for cells in ranks.cells:
        for left, cell, right in zip([None, *cells[:-1]], cells, [*cells[1:], None], strict=True):
            beside[cell] = left, right
    for start in range(ranks.boxes, len(xs)):
        if any(ranks.is_line(cell) for cell in ranks.above[start]):
            continue
        run = [start]
        while ranks.is_line(ranks.below[run[-1]][0]):
            run.append(ranks.below[run[-1]][0])
        least, most = -float("inf"), float("inf")
        for cell in run:
            left, right = beside[cell]
            least = max(least, xs[left] + _distance(ranks, left, cell)) if left is not None else least
            most = min(most, xs[right] - _distance(ranks, cell, right)) if right is not None else most
        if least <= most:
            middle = sorted(xs[cell] for cell in run)[len(run) // 2]
            for cell in run:
                xs[cell] = min(max(middle, least), most)


def _distance(ranks: _Ranks, a: int, b: int) -> float:
    gap = LINE_GAP if ranks.is_line(a) or ranks.is_line(b) else GAP
    return (ranks.sizes[a][0] + ranks.sizes[b][0]) / 2 + gap


def _apart(wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The x nearest to ``wanted`` (weighted least squares) with at least these gaps between neighbours.

    Less the sum of the gaps before it, each x may not be less than the one before: isotonic regression, by pooling
    neighbours that are in the wrong order.

    >>> _apart([0, 0], [1, 1], [2])
    [-1.0, 1.0]
    """
    shifts = [0.0]
    for gap in gaps:
        shifts.append(shifts[-1] + gap)
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for want, weight, shift in zip(wanted, weights, shifts, strict=True):
        pools.append((want - shift, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, heavy, members), (other, light, more) = pools[-2:]
            pools[-2:] = [((mean * heavy + other * light) / (heavy + light), heavy + light, members + more)]
    means = [mean for mean, _, members in pools for _ in range(members)]
    return [mean + shift for mean, shift in zip(means, shifts, strict=True)]


def _measure(ranks: _Ranks, chains: list[list[int]], links: Sequence[Link], xs: list[float]) -> Layout:
    """Heights of ranks, ways of links, and everything moved so that the drawing begins at (0, 0)."""
    if not xs:
        return Layout([], [], 0.0, 0.0)
    left = min(x - ranks.sizes[cell][0] / 2 for cell, x in enumerate(xs))
    right = max(x + ranks.sizes[cell][0] / 2 for cell, x in enumerate(xs))
    xs = [x - left for x in xs]
    tops, bottoms, y = [], [], 0.0
    for cells in ranks.cells:
        tops.append(y)
        y += max(ranks.sizes[cell][1] for cell in cells)
        bottoms.append(y)
        slant = max((abs(xs[a] - xs[b]) for a in cells for b in ranks.below.get(a, ())), default=0.0)
        y += RANK_GAP + min(0.06 * slant, RANK_GAP)
    centres = [(xs[box], (tops[ranks.rank[box]] + bottoms[ranks.rank[box]]) / 2) for box in range(ranks.boxes)]
    leaving, arriving = _ports(ranks, chains, links, xs)
    ways = []
    for link, chain in zip(links, chains, strict=True):
        a, b = link.source, link.target
        way = [
            (xs[a] + leaving[a, link.key], centres[a][1] + ranks.sizes[a][1] / 2),
            (xs[a] + leaving[a, link.key], bottoms[ranks.rank[a]]),
        ]
        for cell in chain[1:-1]:
            way += [(xs[cell], tops[ranks.rank[cell]]), (xs[cell], bottoms[ranks.rank[cell]])]
        way += [
            (xs[b] + arriving[chain[-2], b, link.key], tops[ranks.rank[b]]),
            (xs[b] + arriving[chain[-2], b, link.key], centres[b][1] - ranks.sizes[b][1] / 2),
        ]
        ways.append(way)
    return Layout(centres, ways, right - left, bottoms[-1])


def _ports(
    ranks: _Ranks, chains: list[list[int]], links: Sequence[Link], xs: list[float]
) -> tuple[dict[tuple[int, str], float], dict[tuple[int, int, str], float]]:
    """Where along its side a line leaves or reaches a box, from the middle, in the order of the lines' other ends."""
    out: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    into: dict[int, dict[tuple[int, str], float]] = defaultdict(dict)
    for link, chain in zip(links, chains, strict=True):
        out[link.source][link.key].append(xs[chain[1]])
        into[link.target][chain[-2], link.key] = xs[chain[-2]]
    leaving: dict[tuple[int, str], float] = {}
    arriving: dict[tuple[int, int, str], float] = {}
    for box, ways in out.items():
        order = sorted(ways, key=lambda key: sum(ways[key]) / len(ways[key]))
        for key, offset in zip(order, _spread(len(order), ranks.sizes[box][0]), strict=True):
            leaving[box, key] = offset
    for box, ends in into.items():
        first = sorted(ends, key=lambda end: ends[end])
        for (cell, key), offset in zip(first, _spread(len(first), ranks.sizes[box][0]), strict=True):
            arriving[cell, box, key] = offset
    return leaving, arriving


def _spread(count: int, width: float) -> list[float]:
    step = min(20.0, 0.7 * width / max(count, 1))
    return [(i - (count - 1) / 2) * step for i in range(count)]
