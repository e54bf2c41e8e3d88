"""The memory of a net: which blobs and parameters lie where, and the values of those whose memory has passed on.

Parameters lie one behind the other in flat arenas, data, diffs and history alike, so that one sweep updates all of
them. Blobs have memory of their own, or share an arena by the lifetimes that `layerforge.memory` packs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import memory
from .blob import Parameter
from .errors import ShapeError
from .layer import TRAIN

if TYPE_CHECKING:
    from .net import Net


class Storage:
    """The memory of a net: two flat arenas for parameters, and one each for the data and diffs that share."""

    def __init__(self, net: Net):
        self.net = net
        self.data: Any = None
        self.diff: Any = None
        self.history: list[Any] = []
        self.segments: list[tuple[int, int, Parameter]] = []  # (offset, count, parameter), in order of the net
        self._own: dict[tuple[str, str], Any] = {}  # (root, kind) -> buffer of its own
        self._shared: dict[str, Any] = {}  # kind -> arena
        self._scratch: Any = None
        self._roots: dict[str, dict[str, str]] = {}
        self._planned: dict[str, set[str]] = {"data": set(), "diff": set()}
        self._with_diffs = False

    # Parameters.

    def parameters(self, share_with: Net | None) -> None:
        net = self.net
        elsewhere = set(share_with.params) if share_with is not None else set()
        foreign = {id(p) for node in net.nodes if node.layer.name in elsewhere for p in node.layer.blobs}
        own = [parameter for parameter in net.owned if id(parameter) not in foreign]
        offsets, total = memory.sequence([parameter.count for parameter in own])
        self.segments = [(at, p.count, p) for at, p in zip(offsets, own, strict=True)]
        self.data = net.device.zeros((total,), net.dtype)
        for at, size, parameter in self.segments:
            given = parameter.data  # by a pycaffe layer, in its setup
            parameter.data = self.data[at : at + size].reshape(parameter.shape)
            if given is not None:
                net.device.from_numpy(parameter.data, given)
        for parameter in net.owned:
            parameter.allocate_diff = self.parameter_diffs
        if share_with is not None:
            self.share(share_with)
        self._bind_sharers()

    def share(self, other: Net) -> None:
        net = self.net
        theirs = other.params
        for name, mine in net.params.items():
            if name not in theirs:
                continue
            for parameter, source in zip(mine, theirs[name], strict=True):
                if parameter.shape != source.shape:
                    raise ShapeError(
                        f'layer "{name}": parameter "{parameter.name}" is {parameter.shape} here and {source.shape}'
                        f" in the"
                        " net it shares with"
                    )
                parameter.data = source.data

    def _bind_sharers(self) -> None:
        for node in self.net.nodes:
            for parameter in node.layer.blobs:
                owner = parameter.owner
                if owner is not None:
                    parameter.data = owner.data.reshape(parameter.shape)
                    parameter.allocate_diff = self.parameter_diffs

    def parameter_diffs(self) -> None:
        if self.diff is not None:
            return
        net = self.net
        offsets, total = memory.sequence([parameter.count for parameter in net.owned])
        self.diff = net.device.zeros((total,), net.dtype)
        for at, parameter in zip(offsets, net.owned, strict=True):
            size = parameter.count
            parameter.diff = self.diff[at : at + size].reshape(parameter.shape)
        for node in net.nodes:
            for parameter in node.layer.blobs:
                if parameter.owner is not None:
                    parameter.diff = parameter.owner.diff.reshape(parameter.shape)

    def clear_diffs(self) -> None:
        if self.diff is not None:
            self.diff[...] = 0

    # Blobs.

    def _find_roots(self) -> None:
        """Which blobs are one piece of memory: in data (Split, Reshape), and in diff (Reshape)."""
        roots: dict[str, dict[str, str]] = {"data": {}, "diff": {}}
        for node in self.net.nodes:
            for kind, shared in (("data", node.layer.shares_data), ("diff", node.layer.shares_diff)):
                for view in node.top:
                    first = node.bottom[0].name if shared and node.bottom else view.name
                    roots[kind].setdefault(view.name, roots[kind].get(first, first))
        self._roots = roots

    def _pinned(self, kind: str) -> set[str]:
        """The roots that must have memory of their own."""
        net = self.net
        roots = self._roots[kind]
        pinned = {roots[name] for what, name in net._kept if what == kind}
        if not self._may_reuse(kind):
            return set(roots.values())
        pinned.update(roots[name] for name in net.outputs)
        for node in net.nodes:
            if not node.bottom:
                pinned.update(roots[view.name] for view in node.top)
            if any(node.loss_weights):
                pinned.update(roots[view.name] for view in node.top)
        if kind == "diff":  # what nobody writes is zero, always
            written = {roots[v.name] for node in net.nodes if node.runs_backward for v in node.bottom if v.needs_diff}
            pinned.update(root for root in roots.values() if root not in written)
        return pinned

    def _may_reuse(self, kind: str) -> bool:
        net = self.net
        if not net._reuse or any(node.layer.dynamic for node in net.nodes):
            return False
        if kind == "diff":
            return True
        if net.phase == TRAIN or self._with_diffs:
            return False
        sources = {self._roots["data"][v.name] for node in net.nodes if not node.bottom for v in node.top}
        return not any(
            self._roots["data"][v.name] in sources
            for node in net.nodes
            for v in node.top
            if any(v is b for b in node.bottom)
        )

    def reuses(self, kind: str) -> bool:
        """Whether some blobs of this kind share an arena."""
        return bool(self._planned[kind])

    def blobs(self) -> None:
        """Plans and takes memory for every blob, for what layers keep, and for their scratch."""
        self._find_roots()
        self._take("data")
        if self._with_diffs:
            self._take("diff")
        self._take_layers()

    def _sizes(self, kind: str) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for name, root in self._roots[kind].items():
            sizes[root] = max(sizes.get(root, 0), self.net._views[name].count)
        return sizes

    def _take(self, kind: str) -> None:
        net = self.net
        sizes = self._sizes(kind)
        needed = set(sizes) if kind == "data" else {self._roots[kind][name] for name in self._with_diff()}
        pinned = self._pinned(kind) & needed
        planned = sorted(needed - pinned)
        for root in pinned:
            buffer = self._own.get((root, kind))
            if buffer is None or buffer.size < sizes[root]:
                self._own[root, kind] = net.device.zeros((sizes[root],), net.dtype)
        offsets, total = memory.plan(self._intervals(kind, planned, sizes))
        if total and (kind not in self._shared or self._shared[kind].size < total):
            self._shared[kind] = net.device.zeros((total,), net.dtype)
        self._planned[kind] = set(planned)
        place = dict(zip(planned, offsets, strict=True))
        for name, view in net._views.items():
            root = self._roots[kind][name]
            if root in place:
                flat = self._shared[kind][place[root] : place[root] + view.count]
            elif root in pinned:
                flat = self._own[root, kind][: view.count]
            else:
                continue
            setattr(view, kind, flat.reshape(view.shape))
        if kind == "diff":
            for node in net.nodes:
                for view, weight in zip(node.top, node.loss_weights, strict=True):
                    if weight:
                        view.diff[...] = weight

    def _with_diff(self) -> list[str]:
        """The blobs that have a diff at all: those that backward reads or writes, and the outputs."""
        names = dict.fromkeys(name for what, name in self.net._kept if what == "diff")
        for node in self.net.nodes:
            if node.runs_backward:
                names.update(dict.fromkeys(v.name for v in node.bottom if v.needs_diff))
                # A copy whose reader has no gradient adds nothing to the sum; any other top that nobody writes is zero.
                names.update(dict.fromkeys(v.name for v in node.top if v.needs_diff or node.layer.type != "Split"))
        names.update(dict.fromkeys(self.net.outputs))
        return list(names)

    def _intervals(self, kind: str, roots: Sequence[str], sizes: Mapping[str, int]) -> list[memory.Interval]:
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for i, node in enumerate(self.net.nodes):
            if kind == "diff" and not node.runs_backward:
                continue
            at = i if kind == "data" else len(self.net.nodes) - 1 - i
            for view in (*node.bottom, *node.top):
                root = self._roots[kind][view.name]
                first[root] = min(first.get(root, at), at)
                last[root] = max(last.get(root, at), at)
        return [memory.Interval(sizes[root], first.get(root, 0), last.get(root, 0)) for root in roots]

    def _take_layers(self) -> None:
        net = self.net
        need = 0
        for node in net.nodes:
            made = node.layer
            for name, (shape, dtype) in made.state_shapes(*made.bottom_shapes).items():
                old = made.state.get(name)
                if old is None or old.shape != tuple(shape):
                    made.state[name] = net.device.zeros(tuple(shape), dtype)
            need = max(need, made.scratch_size(*made.bottom_shapes))
        if self._scratch is None or self._scratch.size < need:
            self._scratch = net.device.empty((need,), net.dtype)
        for node in net.nodes:
            size = node.layer.scratch_size(*node.layer.bottom_shapes)
            node.layer.scratch = self._scratch[:size]

    def need_diffs(self) -> None:
        """Takes the memory that backward needs, the first time."""
        self.parameter_diffs()
        if not self._with_diffs:
            reused = self.reuses("data")
            self._with_diffs = True
            if reused:  # backward reads what forward left: keep all of it, and compute what was overwritten
                self._take("data")
                self._again(len(self.net.nodes) - 1)
            self._take("diff")

    # What a user looks at.

    def access(self, name: str, kind: str) -> np.ndarray:
        net = self.net
        view = net._views[name]
        if kind == "diff" and not self._with_diffs:
            self.need_diffs()
        self.keep(name, kind)
        if net.blobs[name].shape != view.shape:
            view.shape = net.blobs[name].shape
            self._find_roots()
            self._take(kind)
        return net.device.to_numpy(getattr(view, kind))

    def keep(self, name: str, kind: str) -> None:
        """Gives a blob memory of its own; what was in memory that it shared is computed again."""
        net = self.net
        if (kind, name) in net._kept or (kind == "diff" and not self._with_diffs):
            net._kept.add((kind, name))
            return
        net._kept.add((kind, name))
        root = self._roots[kind][name]
        if (root, kind) in self._own and root not in self._planned[kind]:
            return
        was_planned = root in self._planned[kind]
        self._planned[kind].discard(root)
        size = self._sizes(kind)[root]
        self._own[root, kind] = net.device.zeros((size,), net.dtype)
        for other, view in net._views.items():
            if self._roots[kind][other] == root:
                setattr(view, kind, self._own[root, kind][: view.count].reshape(view.shape))
        if not was_planned or net.step < 0:
            return
        if kind == "data":
            self._again(max(i for i, node in enumerate(net.nodes) if any(v.name == name for v in node.top)))
        elif self.diff is not None:
            saved = self.diff.copy()
            net.run_backward()
            self.diff[...] = saved

    def _again(self, last: int) -> None:
        """Repeats the forward pass up to a layer, on the same data and random numbers."""
        net = self.net
        if net.step < 0:
            return
        for node in net.nodes[: last + 1]:
            if node.bottom and node.top:
                node.layer.forward(node.bottom, node.top)

    def report(self) -> dict[str, int]:
        net = self.net
        size = net.dtype.itemsize

        def arrays(kind: str) -> int:
            own = sum(buffer.nbytes for (_, what), buffer in self._own.items() if what == kind)
            return own + (self._shared[kind].nbytes if kind in self._shared else 0)

        return {
            "parameters": sum(parameter.count for parameter in net.owned) * size,
            "parameter_diffs": self.diff.nbytes if self.diff is not None else 0,
            "data": arrays("data"),
            "diff": arrays("diff"),
            "state": sum(array.nbytes for node in net.nodes for array in node.layer.state.values()),
            "scratch": self._scratch.nbytes if self._scratch is not None else 0,
        }
