"""The memory of a net's blobs: of its own for each, or one place for many in turn.

With reuse, blobs that are never needed at the same time share an arena: data in TEST, where nothing is needed twice,
and diffs while backward runs. The layers' scratch lies there too, and some of what they keep from forward to backward,
see `layerforge.lending`. What is read or written from outside keeps memory of its own: sources, outputs, losses.

Nobody can tell the difference. A net reuses memory for as long as it only runs whole passes. When a user looks at a
blob whose memory went to another, or starts a pass in the middle, the net keeps everything from then on: each blob gets
memory of its own, and the last pass is repeated, on the same inputs with the same random numbers, so that every blob
holds what that pass gave it. (A copy of the inputs is kept for this.) If the weights have changed since, or a forward
pass went by since that backward, it cannot be repeated: its values are gone and read as NaN until the next pass.
Changes that are made by hand, in the arrays of parameters or of blobs, are not seen: look before you change them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import engines, fusion, layout, lending, memory, order
from . import recompute as recomputing
from .arena import Parameters
from .blob import View
from .kernels import get_threads
from .logs import FOR_PARSERS
from .node import Node, share_data, share_diffs
from .plane import Plane

log = logging.getLogger("layerforge.net")

GONE = object()


class Storage:
    """The memory of a net's blobs, of what its layers keep from forward to backward, and of their scratch."""

    def __init__(
        self,
        nodes: Sequence[Node],
        views: Mapping[str, View],
        parameters: Parameters,
        *,
        inputs: Sequence[str],
        outputs: Sequence[str],
        reuse_data: bool,
        reuse_diff: bool,
        fuse: bool,
        blocks: bool = True,
        recompute: bool | None = None,
        device: Any,
        dtype: Any,
    ):
        self.nodes = nodes
        self.views = views
        self.parameters = parameters
        self.inputs = [views[name] for name in inputs]
        self.outputs = [views[name] for name in outputs]
        self.device = device
        self.dtype = dtype
        self.data = Plane("data", views, share_data(nodes), device, dtype)
        self.diff = Plane("diff", views, share_diffs(nodes), device, dtype)
        self.data.reuse = reuse_data and not self._sources_change()
        self.diff.reuse = reuse_diff and not any(node.dynamic and node.bottom for node in nodes)
        # Data computed again for the backward pass: None for none, those of layers that say so, or of cheap ones too.
        self._recompute = None if self.data.reuse or any(node.dynamic for node in nodes) else recompute
        self.pieces: list[recomputing.Piece] = []
        self.with_diffs = False
        self.fuse = fuse and not any(node.dynamic for node in nodes)
        self.fused: list[fusion.Group] = []  # layers that compute those behind them
        self.below: list[fusion.Below] = []  # and the backward pass of those before them
        self._telltale: set[str] = set()  # blobs that showed so when they were joined, and maybe no longer do
        self._wait = not self.data.reuse  # whether they may leave values to who reads them
        self._apart: set[str] = set()  # blobs whose layers stay apart, because somebody looked
        self.blocks = blocks and not any(node.dynamic for node in nodes)
        self.groups: list[set[str]] = []  # blobs that lie in blocks of channels
        self._gains_by_whole: bool | None = None  # whether a block is rather to be all channels of an image
        self._engines_told = False
        self._seen: set[str] = set()  # blobs that must lie plain, because somebody looked
        self.scratch: Any = None
        self._looked_at: set[str] = set()  # roots of data
        self._lent: list[fusion.Group] = []  # what these keep lies among the diffs
        self._spent = False  # and is no longer there
        self._refilled = self._overwritten_losses()
        # Of the last whole pass: what it began with, as copies, and the moment at which it could be repeated. None:
        # there was none. GONE: it did not end.
        self._began_with: dict[str, list[tuple[View, Any]]] = {"data": [], "diff": []}
        self._moment: dict[str, Any] = {"data": None, "diff": None}
        self._passes = 0

    def _sources_change(self) -> bool:
        """Whether a forward pass could not be repeated: shapes or the tops of sources change while it runs."""
        roots = self.data.roots
        sources = {roots[view.name] for node in self.nodes if not node.bottom for view in node.top}
        return any(node.dynamic or any(roots[view.name] in sources for view in node.in_place()) for node in self.nodes)

    def _written_diffs(self) -> set[str]:
        """The roots whose diffs backward writes."""
        roots = self.diff.roots
        return {roots[v.name] for node in self.nodes if node.runs_backward for v in node.bottom if v.needs_diff}

    def _overwritten_losses(self) -> list[tuple[View, float]]:
        """The losses whose diff, their weight, is overwritten in each backward pass by what works on them in place."""
        roots, written = self.diff.roots, self._written_diffs()
        return [loss for node in self.nodes for loss in node.losses if roots[loss[0].name] in written]

    # Taking it.

    def allocate(self) -> None:
        """Plans for the shapes as they are, and takes the memory, or what is missing of it."""
        self.threads = get_threads()  # layers ask for scratch for so many
        self._moment = {"data": None, "diff": None}
        for node in self.nodes:
            node.layer.let_go()
        self._lay_out()
        self._join()
        self._log_engines()
        self._take_data()
        if self.with_diffs:
            self._take_diffs()
        self._take_state()
        self._take_scratch()

    def _lay_out(self) -> None:
        """Decides in which order the values of each blob lie."""
        plain = {view.name for view in (*self.inputs, *self.outputs)} | self._seen
        plain.update(view.name for node in self.nodes for view, _ in node.losses)
        block, whole = engines.block(self.device.name, self.dtype), self.device.channels_last
        self.groups = layout.plan(self.nodes, self.views, plain, block, whole) if self.blocks else []
        blocked = set().union(*self.groups)
        if self._gains_by_whole is None:  # once: what is in memory lies as it lies
            self._gains_by_whole = self.data.reuse and sum(node.layer.gain_by_whole() for node in self.nodes) > 0
        if block > 1 and self._gains_by_whole:
            groups = layout.plan(self.nodes, self.views, plain, block, whole=True)
            whole = blocked == set().union(*groups)
        for view in self.views.values():
            view.block = (view.shape[1] if whole else block) if view.name in blocked else 1
        self._tell_layers()

    def _join(self, below: bool = True) -> None:
        """Decides which layers compute others; ``below``: also those before them, whom forward must know of."""
        for group in self.fused:
            group.part()
        self._part_below(self.below)
        roots = (self.data.roots, self.diff.roots)
        plan = fusion.plan(self.nodes, roots, self._apart, repeatable=self.data.reuse, wait=self._wait)
        self.fused = plan if self.fuse else []
        below = below and self.fuse and not self.data.reuse
        self.below = fusion.plan_below(self.nodes, roots, plan) if below else []
        self._telltale = set().union(*(group.seen for group in self.fused))
        for group in self.fused:
            group.join()
        for each in self.below:
            each.join()

    def part(self, name: str | None = None) -> None:
        """Lets each layer compute what is its own, for good: those that make this blob, or all."""
        if name is not None and name not in self._telltale:
            return
        parted = [group for group in self.fused if name is None or name in group.seen]
        self.fuse = self.fuse and name is not None
        if name is None:
            self._part_below(self.below)
        self._part(parted)

    def _part_below(self, parted: Sequence[fusion.Below]) -> None:
        self.below = [below for below in self.below if below not in parted]
        for below in parted:
            below.part()

    def _part(self, groups: Sequence[fusion.Group]) -> None:
        self._settle([group for group in self._lent if group in groups])
        self.fused = [group for group in self.fused if group not in groups]
        self._apart |= {group.blob for group in groups}
        for group in groups:
            group.part()
        for below in self.below:  # which may be parts of groups, too
            below.join()
        if groups:
            self._take_state()
        for group in groups:  # where memory was passed on, the pass will be repeated instead
            kept = group.first.runs_backward or group.waited or group.moves
            if self._passes and kept and not self.data.shared:
                group.make_up()

    def _stop_waiting(self) -> None:
        """Ends that values are left to those who read them: the pass cannot be repeated any more for who asks."""
        waiting = [group for group in self.fused if group.reader is not None and not group.learns]
        for group in waiting:
            group.leave_reader()
            group.join()
            if self._passes and not self.data.shared:
                group.first.forward(group.first.bottom, group.first.top)

    def _tell_layers(self) -> None:
        for node in self.nodes:
            node.layer.block = (_block(node.bottom), _block(node.top))

    def _log_engines(self) -> None:
        """Says once by which engine each convolution is computed."""
        chosen: dict[str, list[str]] = {}
        for node in () if self._engines_told else self.nodes:
            if hasattr(node.layer, "engine"):
                chosen.setdefault(node.layer.engine.name, []).append(node.layer.name)
        for name, layers in chosen.items():
            log.info("Engine %s computes %s", name, ", ".join(layers), extra=FOR_PARSERS)
        self._engines_told = True

    def _lay_plain(self, groups: Sequence[set[str]]) -> None:
        """Puts the values of these groups of blobs into plain order, for good."""
        touched = set().union(*groups)
        self._part_below([below for below in self.below if touched & below.blocked])
        self._part([group for group in self.fused if touched & group.blocked])
        for group in groups:
            self.groups.remove(group)
            self._seen |= group
            views = [self.views[name] for name in group]
            for plane in (self.data, self.diff):
                for root, view in {plane.roots[view.name]: view for view in views}.items():
                    if root in plane.own:  # what lies in the arena is written again before anybody reads it
                        order.to_plain(plane.own[root][: view.count], view.shape, view.block)
            for node in self.nodes:
                if node.layer.blocks == "alike" and any(view.name in group for view in (*node.bottom, *node.top)):
                    layout.state_to_plain(node)
            for view in views:
                view.block = 1
        if groups:
            self._tell_layers()
            self.data.scratch, self.diff.scratch = [], []  # it grows with what is reordered in it
            self._take_scratch()

    def _take_data(self) -> None:
        roots = self.data.roots
        names = {view.name for view in self.outputs}
        for node in self.nodes:
            names.update(view.name for view in (() if node.bottom else node.top))
            names.update(view.name for view, _ in node.losses)
        pinned = {roots[name] for name in names}
        self.pieces = []
        if self._recompute is not None:
            joined = [node for group in self.fused for node in group.nodes()]
            kept = pinned | self.data.kept
            strange = [*self.inputs, *(view for group in self.fused for view in group.strange)]
            self.pieces = recomputing.plan(self.nodes, roots, kept, joined, strange, self._recompute)
        # What waits is computed where it is read, from its bottoms and in its scratch.
        waiting = [(group.first, group.reader.first) for group in self.fused if group.reader is not None]
        moving = [group for group in self.fused if group.moves]
        further = {id(by): node.bottom for node, by in waiting} | {id(g.first): (g.result,) for g in moving}
        index = {id(node): i for i, node in enumerate(self.nodes)}
        last = {index[id(node)]: index[id(by)] for node, by in waiting}
        used = self._used(self.data, list(enumerate(self.nodes)), further)
        places = self._sums_in_place(used) if self.data.reuse else {}
        places |= {roots[group.result.name]: roots[group.blob] for group in moving}
        self.data.take(
            set(roots.values()),
            pinned,
            used,
            [memory.Interval(size, i, last.get(i, i)) for i, size in enumerate(self._scratch_sizes())]
            if self.data.reuse
            else [],
            {piece.root: piece.spans(len(self.nodes)) for piece in self.pieces},
            places,
        )
        self._began_with["data"] = self._copies(self.data, self.inputs) if self.data.reuse else []

    def _sums_in_place(self, used: Mapping[str, tuple[int, int]]) -> dict[str, str]:
        """Root -> another, whose place it may take: of sums that are computed by adding to what lies there, which is
        ``used`` for the last time."""
        places, roots = {}, self.data.roots
        for group in self.fused:
            if group.reader is None or group.learns:
                continue
            reader, index = group.reader.first, group.index
            if len(reader.bottom) != 2 or not group.first.layer.adds_in_place(reader.layer.joined.slope):
                continue
            term, made = roots[reader.bottom[1 - index].name], roots[group.reader.result.name]
            read = {roots[view.name] for view in group.first.bottom}  # all the while
            if used[term][1] == used[made][0] and term not in read:
                places[made] = term
        return places

    def _take_diffs(self) -> None:
        """Memory for the diffs that backward reads or writes, and those of outputs. What nobody writes is zero."""
        roots, written, steps = self.diff.roots, self._written_diffs(), self._steps_of_backward()
        needed = {view.name for view in self.outputs}
        pinned = set(needed)
        for node in self.nodes:
            pinned.update(view.name for view in (() if node.bottom else node.top))
            pinned.update(view.name for view, _ in node.losses)
        for _, node in steps:
            needed.update(view.name for view in node.bottom if view.needs_diff)
            # A copy whose reader has no gradient adds nothing to the sum.
            needed.update(view.name for view in node.top if view.needs_diff or node.layer.type != "Split")
        further: dict[int, list[View]] = {}
        for group in self.fused:
            for by, views in ((group.first, group.reads), (group.maker, group.maker_reads)):
                further.setdefault(id(by), []).extend(views)
        for group in self._lent:
            lending.let_go(group)
        self._lent = self._may_lend() if self.diff.reuse else []
        used = self._used(self.diff, steps, further)
        self.diff.take(
            {roots[name] for name in needed},
            {roots[name] for name in pinned} | (set(roots.values()) - written),
            used,
            self._scratch_of_backward(steps) if self.diff.reuse else [],
            places=self._sums_of_copies(steps, used),
            guests=lending.stays(self._lent, steps, -len(self.nodes)),
        )
        for group, start in zip(self._lent, self.diff.guests, strict=True):
            lending.put(group, self.diff.arena[start:])
        losses = [loss for node in self.nodes for loss in node.losses]
        unwritten = [view for view, _ in losses if view.diff is not None and roots[view.name] not in written]
        given = {view.name: view for view in (*self.outputs, *unwritten)}
        self._began_with["diff"] = self._copies(self.diff, list(given.values()))
        self._weigh(losses)

    def _steps_of_backward(self) -> list[tuple[int, Node]]:
        """The nodes whose backward passes run, in that order and numbered so; forward passes have the steps below 0,
        the last one -1."""
        return list(enumerate(node for node in reversed(self.nodes) if node.runs_backward))

    def _sums_of_copies(self, steps: Sequence[tuple[int, Node]], used: Mapping[str, tuple[int, int]]) -> dict[str, str]:
        """Root -> another, whose place it may take: the sum over the diffs of copies, which is written where the first
        of these is read for the last time."""
        by = {id(group.copier): group.first for group in self.fused if group.copier is not None}
        step = {id(node): i for i, node in steps}
        places, roots = {}, self.diff.roots
        for i, node in steps:
            copies = [roots[view.name] for view in node.top if view.needs_diff]
            if node.layer.adds_diffs and fusion.speaks_for(node.layer, "adds_diffs") and copies:
                made, last = roots[node.bottom[0].name], step[id(by.get(id(node), node))]
                if used[copies[0]][1] == last and used[made][0] == i:
                    places[made] = copies[0]
        return places

    def _may_lend(self) -> list[fusion.Group]:
        """The groups that keep things among the diffs."""
        inputs = {self.data.roots[view.name] for view in self.inputs}
        return [] if self.pieces else lending.plan(self.nodes, self.fused, self.data.roots, inputs | self._looked_at)

    def _settle(self, groups: Sequence[fusion.Group]) -> None:
        """Gives what these keep memory of its own again."""
        for group in groups:
            lending.put(group, lending.kept(group).copy().reshape(-1))
            self._lent.remove(group)
        if self._spent:
            lending.feed(groups)

    @staticmethod
    def _used(
        plane: Plane, steps: Sequence[tuple[int, Node]], further: Mapping[int, Sequence[View]] | None = None
    ) -> dict[str, tuple[int, int]]:
        """Root -> the first and the last of these steps in which a node reads or writes it. ``further``: what the node
        of that id reads beside its own blobs."""
        used: dict[str, tuple[int, int]] = {}
        for i, node in steps:
            for view in (*node.bottom, *node.top, *(further or {}).get(id(node), ())):
                root = plane.roots[view.name]
                used[root] = (used.get(root, (i, i))[0], i)
        return used

    def _scratch_sizes(self) -> list[int]:
        return [node.layer.scratch_size(*node.layer.bottom_shapes) for node in self.nodes]

    def _scratch_of_backward(self, steps: Sequence[tuple[int, Node]]) -> list[memory.Interval]:
        """When each node's scratch is needed, counted as diffs are. Nodes whose forward passes run again need it then,
        too."""
        step = {id(node): i for i, node in steps}
        again: dict[int, tuple[tuple[int, int], ...]] = {id(node): ((i, i),) for i, node in steps}
        for piece in self.pieces:
            if piece.backward is not None:
                then = step[id(self.nodes[piece.backward[0]])]
                again |= {id(node): (*again.get(id(node), ()), (then, then)) for node in piece.makers}
        return [
            memory.Interval(size, i, i, again.get(id(node), ()))
            for i, (node, size) in enumerate(zip(self.nodes, self._scratch_sizes(), strict=True), -len(self.nodes))
        ]

    def _copies(self, plane: Plane, views: Sequence[View]) -> list[tuple[View, Any]]:
        """Room for copies of these views, if passes may have to be repeated."""
        return [(view, self.device.empty(view.shape, self.dtype)) for view in views] if plane.shared else []

    @staticmethod
    def _weigh(losses: Iterable[tuple[View, float]]) -> None:
        for view, weight in losses:
            if view.diff is not None:
                view.diff[...] = weight

    def _take_state(self) -> None:
        absorbed = {id(node) for group in self.fused for node in group.others}
        lent = {id(group.first) for group in self._lent}
        for node in self.nodes:
            layer = node.layer
            if id(node) in absorbed:
                layer.state.clear()
                continue
            for name, (shape, dtype) in layer.state_shapes(*layer.bottom_shapes).items():
                old = layer.state.get(name)
                if name == lending.KEPT and id(node) in lent:
                    continue
                if old is None or old.shape != tuple(shape):
                    layer.state[name] = self.device.zeros(tuple(shape), dtype)

    def _take_scratch(self) -> None:
        """Gives every layer its scratch: in an arena where there is one, or else the same place for all."""
        for node in self.nodes:
            node.layer.let_go()
        sizes = self._scratch_sizes()
        shared = self.data.scratch or self.diff.scratch
        arena = self.data.arena if self.data.scratch else self.diff.arena
        if not shared or arena is None:
            arena, shared = self.scratch, [0] * len(sizes)
            if arena is None or arena.size < max(sizes, default=0):
                arena = self.device.empty((max(sizes, default=0),), self.dtype)
            self.scratch = arena
        else:
            self.scratch = None
        for node, size, start in zip(self.nodes, sizes, shared, strict=True):
            node.layer.scratch = arena[start : start + size]

    def need_diffs(self) -> None:
        """Takes the memory that backward needs, the first time."""
        if not self.with_diffs:
            self.with_diffs = True
            if self.diff.reuse:  # the scratch will lie among the diffs
                self.scratch = None
                for node in self.nodes:
                    node.layer.scratch = None
                for group in self._may_lend():  # and what these keep
                    lending.let_go(group)
                self.device.free_memory()
            self._take_diffs()
            self._take_scratch()
            self._spent = bool(self._lent)

    # Passes.

    def begin_forward(self, whole: bool) -> None:
        """Is told of a forward pass before it runs, and whether it runs through all layers."""
        if not whole:
            self.part()
        self._passes += 1
        self._begin("data", whole)
        self._spent = False

    def end_forward(self) -> None:
        """Is told that it ended well."""
        if self.data.shared:
            self._moment["data"] = self._now("data")

    def begin_backward(self, whole: bool) -> None:
        """Is told of a backward pass before it runs. It reads what forward left: all of that is kept from now on."""
        if not whole:
            self.part()
        if self.data.reuse or (self.pieces and not whole):
            self._keep_all("data")
        if any(group.first.runs_backward and not group.learns for group in self.fused):
            self._learn()
        self.need_diffs()
        self._begin("diff", whole)
        if self._spent:
            lending.feed(self._lent)
        self._spent = bool(self._lent)
        self._tell_who_is_seen()

    @property
    def settled(self) -> bool:
        """Whether a backward pass will find all that it needs: it can be begun before its forward pass has run."""
        learns = all(group.learns for group in self.fused if group.first.runs_backward)
        return self.with_diffs and learns and not self.data.reuse and not self.pieces

    def starts(self, kind: str) -> bool:
        """Whether `start` has anything to do."""
        return bool(self._began_with[kind]) or (kind == "diff" and bool(self._refilled))

    def starts_beside(self) -> bool:
        """Whether a backward pass leaves alone what it begins with, so that `start` may run beside it."""
        began = {self.diff.roots[view.name] for view, _ in self._began_with["diff"]}
        return not (self._refilled or began & self._written_diffs())

    def start(self, kind: str) -> None:
        """The first step of a pass, forward ("data") or backward ("diff"): sets up the arrays that it begins with."""
        plane = self.data if kind == "data" else self.diff
        if plane.shared:
            for view, copy in self._began_with[kind]:
                copy[...] = getattr(view, kind)
        if kind == "diff":
            self._weigh(self._refilled)

    def copies(self) -> list[Any]:
        """The arrays that `start` writes to."""
        return [copy for pairs in self._began_with.values() for _, copy in pairs]

    def _learn(self) -> None:
        """Before the first backward pass after forward passes that kept nothing for it."""
        kept_nothing = self.fused
        self._join(below=False)
        self._take_state()
        for group in kept_nothing:
            group.make_up()

    def _tell_who_is_seen(self) -> None:
        for group in self.fused:
            layer, roots, shared = group.first.layer, self.diff.roots, self.diff.shared
            layer.diff_is_seen = roots[group.blob] not in shared
            layer.leaves_gradient = group.leaves_gradient and roots[group.first.bottom[0].name] in shared

    def end_backward(self) -> None:
        """Is told that it ended well."""
        if self.diff.shared:
            self._moment["diff"] = self._now("diff")

    def before_backward(self, index: int) -> None:
        """Is told that a layer's backward pass comes: what it reads is computed again if it has to be."""
        for piece in self.pieces:
            if piece.backward is not None and piece.backward[0] == index:
                piece.make()

    def _begin(self, kind: str, whole: bool) -> None:
        if get_threads() > self.threads:
            self._follow_threads(kind, whole)
        plane = self.data if kind == "data" else self.diff
        if not plane.shared:
            return
        if not whole:
            self._keep_all(kind)
            return
        self._moment[kind] = GONE

    def _follow_threads(self, kind: str, whole: bool) -> None:
        """Takes the scratch that more threads need, before a pass; it may lie among the data or the diffs."""
        self.threads = get_threads()
        if not whole and (self.data if kind == "data" else self.diff).shared:
            self._keep_all(kind)  # takes scratch, too, and repeats the last pass in it
        if self.data.scratch:
            self._take_data()
        if self.diff.scratch:
            given = [(view, view.diff.copy()) for view in self.outputs if view.diff is not None]
            self._take_diffs()
            self._spent = bool(self._lent)
            for view, diff in given:
                view.diff[...] = diff
        self._take_scratch()

    def _now(self, kind: str) -> Any:
        """What must be as it was for a pass to be repeated: the weights, and for backward the forward pass too."""
        return self.parameters.version if kind == "data" else (self.parameters.version, self._passes)

    # Looking.

    def look(self, name: str, kind: str) -> Any:
        """The array of a blob, which is the user's to read and write from now on; of a GPU's memory he has a copy."""
        plane = self.data if kind == "data" else self.diff
        root = plane.roots[name]
        if kind == "data":
            self.part(name)
            if any(root in piece.reads for piece in self.pieces):  # a user who looks may write
                self._keep_all(kind)
            self._looked_at.add(root)
            self._settle([group for group in self._lent if root in lending.fed_by(group, plane.roots)])
        if root in plane.shared and self._moment[kind] is not None:
            self._keep_all(kind)
        elif root in plane.shared or root not in plane.own:
            self.want(name, kind)
        if self.device.is_host:
            self.lay_plain(name)
        return getattr(self.views[name], kind)

    def lay_plain(self, name: str) -> None:
        """Puts a blob's values into plain order, for good: for who has the array itself, and no copy."""
        self._lay_plain([group for group in self.groups if name in group])

    def is_overwritten(self, name: str) -> bool:
        """Whether some layer works in place on a blob's data."""
        roots = self.data.roots
        return any(roots[view.name] == roots[name] for node in self.nodes for view in node.in_place())

    def want(self, name: str, kind: str) -> None:
        """Gives a blob memory of its own from the coming pass on."""
        if kind == "data":
            self.part(name)
        plane = self.data if kind == "data" else self.diff
        plane.keep(plane.roots[name])
        self.pieces = [piece for piece in self.pieces if piece.root in plane.shared or plane is self.diff]
        if kind == "diff":
            self._weigh(loss for node in self.nodes for loss in node.losses if loss[0].name == name)

    def resize(self, name: str) -> None:
        """Takes memory for a blob whose shape a user changed."""
        for plane in (self.data, self.diff):
            root = plane.roots[name]
            if root in plane.shared:
                self.allocate()
                return
            plane.grow(root)

    def keep_all(self, kind: str) -> None:
        """Gives every blob memory of its own, in plain order, by layers apart, with what the last pass left in it."""
        self.part()
        self._keep_all(kind)
        self._lay_plain(list(self.groups))

    def _keep_all(self, kind: str) -> None:
        plane = self.data if kind == "data" else self.diff
        if kind == "data":
            self._stop_waiting()
        else:
            self._settle(list(self._lent))
        moment, now = self._moment[kind], self._now(kind)
        had_scratch = bool(plane.scratch)
        lost = plane.keep_all()
        if had_scratch:
            self._take_scratch()
        if kind == "data" and self.pieces:
            self._make_pieces()
            return
        if not lost or moment is None:
            return
        if moment != now:
            for root in lost:
                plane.own[root][...] = math.nan
            self._tell_gone(kind, lost)
            return
        others = [(plane.own[root], plane.own[root].copy()) for root in plane.own if root not in lost]
        for view, values in self._began_with[kind]:
            getattr(view, kind)[...] = values
        if kind == "data":
            self._repeat_forward()
        else:
            self._repeat_backward()
        for array, values in others:
            array[...] = values
        self._began_with[kind] = []

    def _make_pieces(self) -> None:
        """Computes again, for good, what would have been for the backward pass."""
        pieces, self.pieces, self._recompute = self.pieces, [], None
        gone = []
        for piece in pieces if self._passes else ():
            if self._moment["data"] == self._now("data") or not any(node.layer.blobs for node in piece.makers):
                piece.make()
            else:
                self.data.own[piece.root][...] = math.nan
                gone.append(piece.root)
        self._tell_gone("data", gone)

    @staticmethod
    def _tell_gone(kind: str, roots: Sequence[str]) -> None:
        if roots:
            log.warning(
                "What the last pass left in the %s of %s is gone: its memory was used again, and the net has changed"
                " since. It reads as NaN until the next pass; make the net with reuse=False to keep everything.",
                kind,
                ", ".join(f'"{root}"' for root in roots[:3]) + (" and others" if len(roots) > 3 else ""),
            )

    def _repeat_forward(self) -> None:
        for node in self.nodes:
            if node.bottom and node.top:
                node.repeat()

    def _repeat_backward(self) -> None:
        self._tell_who_is_seen()
        diffs = self.parameters.diff.copy()  # these were added to once
        self._weigh(self._refilled)
        for node in reversed(self.nodes):
            if node.runs_backward:
                node.backward(node.bottom, node.top)
        self.parameters.diff[...] = diffs

    def bytes(self) -> dict[str, int]:
        """What it takes, by purpose."""
        lent = sum(lending.kept(group).nbytes for group in self._lent)
        copies = {kind: sum(copy.nbytes for _, copy in pairs) for kind, pairs in self._began_with.items()}
        return {
            "data": self.data.bytes() + copies["data"],
            "diff": self.diff.bytes() + copies["diff"],
            "state": sum(array.nbytes for node in self.nodes for array in node.layer.state.values()) - lent,
            "scratch": 0 if self.scratch is None else self.scratch.nbytes,
        }


def _block(views: Sequence[View]) -> int:
    return max((view.block for view in views), default=1)
