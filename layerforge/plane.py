"""Who lies where: the data of all blobs of a net, or the diffs of all, with places that blobs have in turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import memory
from .blob import View


class Plane:
    """The data of all blobs, or the diffs of all: who lies where.

    Blobs that are one piece of memory (see `layerforge.node`) go by the name of their root.
    """

    def __init__(self, kind: str, views: Mapping[str, View], roots: Mapping[str, str], device: Any, dtype: Any):
        self.kind = kind
        self.views = views
        self.roots = roots
        self.device = device
        self.dtype = dtype
        self.reuse = False
        self.kept: set[str] = set()  # roots that somebody wants to look at
        self.own: dict[str, Any] = {}  # root -> memory of its own
        self.shared: dict[str, int] = {}  # root -> offset in the arena
        self.scratch: list[int] = []  # offset in the arena, by node
        self.guests: list[int] = []  # the same, of what else lies there
        self.arena: Any = None

    def sizes(self) -> dict[str, int]:
        """Root -> elements that the largest of its blobs needs."""
        sizes: dict[str, int] = {}
        for name, view in self.views.items():
            root = self.roots[name]
            sizes[root] = max(sizes.get(root, 0), view.count)
        return sizes

    def take(
        self,
        needed: Iterable[str],
        pinned: Iterable[str],
        used: Mapping[str, tuple[int, int]],
        scratch: Sequence[memory.Interval],
        again: Mapping[str, Sequence[tuple[int, int]]] | None = None,
        places: Mapping[str, str] | None = None,
        guests: Sequence[memory.Interval] = (),
    ) -> None:
        """Takes memory for the roots that are ``needed``: of their own for those that are ``pinned`` or kept, in the
        arena for the others, which are ``used`` from one step to another, and for ``scratch`` and ``guests``. Without
        reuse, those of ``again`` alone lie in the arena, from one step to another and again. ``places``: root ->
        another, whose place it takes where they are of one size. Memory grows and never shrinks."""
        sizes = self.sizes()
        needed = set(needed) | self.kept
        own = needed & (self.kept | set(pinned)) if self.reuse else needed - (set(again or ()) - self.kept)
        for root in own:
            if root not in self.own or self.own[root].size < sizes[root]:
                self.own[root] = self.device.zeros((sizes[root],), self.dtype)
        rest = sorted(needed - own)
        spans: dict[str, Sequence[tuple[int, int]]] = {root: [steps] for root, steps in used.items()}
        spans = dict(again) if again else spans
        leaders = {} if again else self._leaders(rest, used, sizes, places or {})
        for root, leader in leaders.items():
            spans[leader] = [(min(spans[leader][0][0], used[root][0]), max(spans[leader][0][1], used[root][1]))]
        leading = [root for root in rest if root not in leaders]
        lying = [
            memory.Interval(sizes[root], *first, tuple(more)) for root in leading for first, *more in [spans[root]]
        ]
        offsets, total = memory.plan([*scratch, *guests, *lying])
        self.scratch, offsets = offsets[: len(scratch)], offsets[len(scratch) :]
        self.guests, offsets = offsets[: len(guests)], offsets[len(guests) :]
        self.shared = dict(zip(leading, offsets, strict=True))
        self.shared |= {root: self.shared[leader] for root, leader in leaders.items()}
        if total and (self.arena is None or self.arena.size < total):
            self.arena = None  # let go of it first
            self.arena = self.device.zeros((total,), self.dtype)
        self.bind(self.views.values())

    @staticmethod
    def _leaders(
        rest: Sequence[str],
        used: Mapping[str, tuple[int, int]],
        sizes: Mapping[str, int],
        places: Mapping[str, str],
    ) -> dict[str, str]:
        """Root -> the first of those whose place it takes, one after the other."""
        leaders: dict[str, str] = {}
        there = set(rest)
        for root, place in sorted(places.items(), key=lambda pair: used.get(pair[0], (0, 0))):
            if root in there and place in there and root != place and sizes[root] == sizes[place]:
                leaders[root] = leaders.get(place, place)
        return leaders

    def bind(self, views: Iterable[View]) -> None:
        """Points views at their memory, as far as they have any."""
        for view in views:
            root = self.roots[view.name]
            if root in self.shared:
                start = self.shared[root]
                flat = self.arena[start : start + view.count]
            elif root in self.own:
                flat = self.own[root][: view.count]
            else:
                continue
            setattr(view, self.kind, flat.reshape(view.shape))

    def keep(self, root: str) -> None:
        """Gives a root memory of its own, zeros, unless it has it."""
        self.kept.add(root)
        if root in self.shared:
            del self.shared[root]
            self.own.pop(root, None)
        if root not in self.own:
            self.own[root] = self.device.zeros((self.sizes()[root],), self.dtype)
            self.bind(view for name, view in self.views.items() if self.roots[name] == root)

    def grow(self, root: str) -> None:
        """Follows the shapes of a root's blobs, where it has memory of its own."""
        if root in self.own:
            size = self.sizes()[root]
            if self.own[root].size < size:
                self.own[root] = self.device.zeros((size,), self.dtype)
            self.bind(view for name, view in self.views.items() if self.roots[name] == root)

    def keep_all(self) -> list[str]:
        """Ends reuse: gives all memory of their own. Returns the roots that had none."""
        lost, sizes = list(self.shared), self.sizes()
        self.reuse = False
        for root in lost:
            self.own[root] = self.device.zeros((sizes[root],), self.dtype)
        self.shared.clear()
        self.scratch = []
        self.arena = None
        self.bind(self.views.values())
        return lost

    def bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.own.values()) + (0 if self.arena is None else self.arena.nbytes)
