"""The layer: a function of blobs, with its gradient, and the registry of all of them.

A layer is a subclass of `Layer` in a file of its own. Defining the class registers it under its name, so that
``type: "MyLayer"`` works in a prototxt; its options are a dataclass, and parse as ordinary prototxt.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import zlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from . import schema
from .blob import Parameter, Shape, View
from .errors import DefinitionError, LayerForgeError, Place, ShapeError, did_you_mean
from .fusion import APART, Pending, Rectify, Step

log = logging.getLogger(__name__)

TRAIN, TEST = 0, 1
NONE: frozenset[str] = frozenset()

registry: dict[str, type[Layer]] = {}


class Layer:
    """One step of a net: tops = f(bottoms), and the gradient of that.

    A subclass answers up to four questions. `setup` makes the parameters; `top_shapes`, a pure function, infers the
    shape of every top; `forward` computes tops from bottoms; `backward` overwrites the diffs of the bottoms and adds to
    those of the parameters. Bottoms and tops arrive as views: ``x.data`` and ``x.diff`` are plain arrays on the
    layer's device. Neither direction may allocate: scratch and state are declared by `scratch_size` and `state_shapes`.

    A subclass with pycaffe's four methods (``setup``, ``reshape``, ``forward``, ``backward(top, propagate_down,
    bottom)``) is a Python layer instead: a net finds it by ``type: "Python"`` and its module, and it is not registered.
    """

    type: ClassVar[str] = ""
    in_place: ClassVar[bool] = False
    bottoms: ClassVar[Any] = 1
    tops: ClassVar[Any] = 1
    loss: ClassVar[bool] = False
    tells: ClassVar[bool] = False  # forward also writes the number that top 0 is to `told`, unless that is None
    differentiable: ClassVar[bool | tuple[bool, ...]] = True
    shares_data: ClassVar[bool] = False  # every top's data is bottom 0's data; forward has nothing to do
    shares_diff: ClassVar[bool] = False  # bottom 0's diff is top 0's diff
    dynamic: ClassVar[bool] = False  # top shapes may differ from pass to pass: asked before each forward
    blocks: ClassVar[str] = ""  # blobs may lie in blocks of channels: "alike" in one order, or "each" in its own
    absorbs_backward: ClassVar[bool] = False  # the steps that it absorbs need no backward pass of their own either
    absorbs_copies: ClassVar[bool] = False  # it can add up the diffs of copies of its top
    measures = False  # whether forward begins with the moments of bottom 0's rows, see `View.moments`
    adds_diffs: ClassVar[bool] = False  # backward is the sum of the tops' diffs, and nothing else
    writes_diffs = False  # whether backward overwrites the diffs of the parameters that are `fresh`
    overwrites: ClassVar[bool] = False  # forward writes all of every top wherever it is told, and reads nothing of it
    records: bool = True  # False: the host takes part in each pass, so a GPU's launches cannot be replayed
    own_learning: ClassVar[bool] = True  # False: parameters are never learnt by the solver (BatchNorm's statistics)
    Options: ClassVar[Any] = None
    # What works in place on the tops of another layer may take away what that needs for its gradient. Of the data:
    # "values", "signs" or "" for nothing, wherever the gradient is not 0.
    needs_top: str = ""  # what backward needs of the tops
    needs_top_in_place: str = ""  # the same, and of the bottom that the top was, if this layer itself works in place
    leaves: str = ""  # what of the bottom there still is if this layer works in place

    def __init_subclass__(cls, register: bool = True, **kwargs: Any) -> None:
        """``register=False``: the class is no type, but what several types have in common."""
        super().__init_subclass__(**kwargs)
        if "type" not in cls.__dict__:
            cls.type = cls.__name__
        if cls.is_pycaffe() or not register:
            return
        if dataclasses.is_dataclass(cls.__dict__.get("Options")):
            schema.add_options(options_field(cls), cls.Options, getattr(cls.Options, "number", None))
        add_to_registry(cls)

    @classmethod
    def is_pycaffe(cls) -> bool:
        """Whether this is a pycaffe layer: it has ``reshape``, which ours never have."""
        return hasattr(cls, "reshape")

    @property
    def is_ours(self) -> bool:
        """Whether it is one of `layerforge.layers`, and runs nobody else's code."""
        return type(self).__module__.startswith(f"{__package__}.layers.") and self.shown is self

    def __init__(
        self,
        definition: schema.Definition,
        phase: int = TEST,
        device: Any = None,
        dtype: Any = np.float32,
        seed: int = 0,
    ):
        self.definition = definition
        self.param = definition.message
        self.name: str = self.param.name
        self.phase = phase
        self.device = device
        self.dtype = np.dtype(dtype)
        self.math_mode = "float32"  # how products are computed on a GPU
        self.params: dict[str, Parameter] = {}
        self.state: dict[str, Any] = {}
        self.scratch: Any = None
        self.bottom_names: tuple[str, ...] = tuple(self.param.bottom)
        self.bottom_shapes: tuple[Shape, ...] = ()
        self.seed = seed
        self.stream = zlib.crc32(self.name.encode())
        self.step: Any = 0
        self.parameters_seen: int | None = None  # another number after every change of the net's; None: unknown
        self._doubt: tuple[Any, Callable[[], None]] | None = None
        self.block = (1, 1)  # of the bottoms and of the tops: see `layerforge.layout`
        self.joined = APART  # what this layer computes beside its own: see `layerforge.fusion`
        self.told: Any = None  # an array of one number of double precision
        self.fresh: frozenset[str] = NONE  # the parameters to whose diffs nobody has added in this pass
        self.passed_diffs: set[int] = set()  # the bottoms whose diff is not written, but read from top 0
        self.diff_is_seen = True  # that of top 0, after backward: False where its memory is passed on
        self.slopes_below: dict[int, float] = {}  # of rectifiers that made these bottoms, and leave us their backward
        self.leaves_gradient = False  # of bottom 0, as `View.behind`, to whose top it is
        self.repeats = False  # this forward is the last one again, on the same bottoms: what counts passes must not
        field = options_field(type(self))
        self.options_name = field
        self.options: Any = getattr(self.param, field) if field else None

    # What a subclass answers.

    def setup(self, *bottom_shapes: Shape) -> None:
        """Makes the parameters, for bottoms of these shapes."""

    def top_shapes(self, *bottom_shapes: Shape) -> Sequence[Shape]:
        """The shape of every top, for bottoms of these shapes. Raises ShapeError where they do not fit."""
        return [bottom_shapes[0]] * len(self.param.top)

    def scratch_size(self, *bottom_shapes: Shape) -> int:
        """How many elements of scratch one forward or backward call needs."""
        return 0

    def state_shapes(self, *bottom_shapes: Shape) -> dict[str, tuple[Shape, Any]]:
        """The arrays that live from forward to backward: name -> (shape, dtype)."""
        return {}

    def forward(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        """Computes every top's data."""
        if not self.shares_data:
            raise DefinitionError(f"{self.title}: this type has no forward pass", self.definition.place())

    def backward(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        """Overwrites the diff of each bottom that needs one, and adds to the parameters' diffs."""
        if not self.shares_diff:
            raise DefinitionError(f"{self.title}: this type has no gradient", self.definition.place())

    def flops(self, bottom_shapes: Sequence[Shape], top_shapes: Sequence[Shape]) -> int:
        """Multiply-adds of one forward pass; element-wise work is not counted."""
        return 0

    def allows_diff(self, index: int) -> bool:
        """Whether bottom ``index`` may get a gradient at all (a label may not)."""
        if isinstance(self.differentiable, tuple):
            return self.differentiable[min(index, len(self.differentiable) - 1)]
        return self.differentiable

    def takes_blocks(self, block: int, top: bool) -> bool:
        """For types with `blocks`: whether this layer takes bottoms, or tops, in blocks of so many channels."""
        return True

    def gain_by_whole(self) -> float:
        """For types with `blocks` "each": what a forward pass gains, in multiplications, where a block is all channels
        and not as many as a vector has; below 0 what it loses."""
        return 0.0

    def let_go(self) -> None:
        """Is told that its arrays are about to be replaced, so that nobody holds the old ones any more."""

    def left_blocks(self, name: str, block: int) -> None:
        """Is told that a blob's order became plain between forward and backward, and that of state ``name`` with it."""

    def data_state(self) -> dict[str, Any]:
        """What a source must remember for an exact resume, as JSON values."""
        return {}

    def set_data_state(self, state: dict[str, Any]) -> None:
        """Puts a source where `data_state` said."""

    def skip(self, passes: int) -> None:
        """Puts a source where it stands after that many passes from its start."""

    def close(self) -> None:
        """Lets go of files and threads."""

    # What a subclass may say of itself so that passes over memory are saved: see `layerforge.fusion`.

    def as_step(self) -> Step | None:
        """What this layer does to each element by itself, where that is one of the steps of `layerforge.fusion`."""
        return None

    def absorbs(self, steps: Sequence[Step], learns: bool) -> int:
        """How many of these steps, taken in place on top 0, this layer computes as well; `joined` will hold them.

        ``learns``: backward follows, and whatever it needs must be kept.
        """
        return 0

    def same_diff(self) -> Sequence[int]:
        """The bottoms whose diff is that of top 0; backward leaves out the `passed_diffs`."""
        return ()

    def differentiates(self, step: Rectify, index: int) -> bool:
        """Whether backward can go on through a rectifier that made that bottom in place: `slopes_below`."""
        return False

    def may_wait(self, steps: Sequence[Step]) -> bool:
        """Whether the reader of top 0, which is bottom 0, may compute its values, these steps included."""
        return False

    def pending(self, shape: Shape) -> Pending:
        """What it then computes, of a blob of that shape."""
        raise DefinitionError(f"{self.title}: this type always computes its top")

    def compute_pending(self, view: View, values: Any) -> bool:
        """Computes them after all, from what the blob holds; False where forward must do that."""
        return False

    def adds_in_place(self, slope: float) -> bool:
        """Whether `add_pending` can add to a term that lies in the memory of y."""
        return False

    def add_pending(self, term: View, y: View, slope: float) -> bool:
        """Computes y = rectify(term + them), with that slope; False where the reader must do that."""
        return False

    def takes_pending(self, steps: Sequence[Step], learns: bool) -> bool:
        """Whether this layer computes the values of a bottom that waits for it, whose last steps are these; and, if it
        ``learns``, its part of what their backward pass needs."""
        return False

    def leaves_sums(self) -> bool:
        """Whether its backward pass leaves the `Pending.sums` of what it computed so."""
        return False

    def leaves_moments(self) -> bool:
        """Whether its forward pass leaves the `View.moments` of top 0."""
        return False

    def restore(self, bottom: Sequence[View]) -> None:
        """Puts back what forward had overwritten of bottom 0."""

    # Tools for subclasses.

    def parameter(self, name: str, shape: Sequence[int], filler: Any = None) -> Parameter:
        """Makes a learnt parameter. Their order is that of a caffemodel's blobs."""
        made = Parameter(name, tuple(int(n) for n in shape), filler)
        self.params[name] = made
        return made

    def adds(self, name: str) -> bool:
        """Whether that parameter's diff is added to; else it is overwritten, with whatever was in it."""
        return name not in self.fresh

    @property
    def title(self) -> str:
        """How messages name this layer: ``layer "conv2" (Convolution)``."""
        return f'layer "{self.name}" ({self.type})'

    def describe(self, index: int = 0) -> str:
        """How messages name a bottom: ``bottom "pool1" (256, 96, 27, 27)``."""
        name = self.bottom_names[index] if index < len(self.bottom_names) else str(index)
        return f'bottom "{name}" {self.bottom_shapes[index]}'

    def error(self, message: str, *field: Any, kind: Callable[..., LayerForgeError] = ShapeError) -> LayerForgeError:
        """An error about this layer, at the line of ``field``, a name within the layer's own options."""
        return kind(f"{self.title}: {message}", self.place(*field))

    def require(self, condition: Any, message: str, *field: Any) -> None:
        """Raises a ShapeError about this layer unless ``condition`` holds."""
        if not condition:
            raise self.error(message, *field)

    def place(self, *field: Any) -> Place:
        if field and self.options_name and field[0] not in type(self.param).DESCRIPTOR.fields_by_name:
            return self.definition.place(self.options_name, *field)
        return self.definition.place(*field)

    def axis(self, value: int, rank: int, field: str = "axis", of: int = 0) -> int:
        """An axis of a bottom of that rank, counted from the front; negative ones count from the back."""
        self.require(
            -rank <= value < rank, f"{field}: {value} is no axis of {self.describe(of)}, which has {rank} axes", field
        )
        return value % rank

    def random_key(self) -> tuple[int, int, int]:
        """(seed, stream, step) for the counter-based generator: the same in the forward and backward of one pass."""
        return self.seed, self.stream, self.step

    def doubt(self, array: Any, look: Callable[[], None]) -> None:
        """Lets ``look()``, which raises what is wrong with the bottoms, be called if ``array`` holds a NaN: one number.

        At once on the CPU; on another device when the host reads what the pass came to, so that nobody waits for it.
        """
        if self.device is None or self.device.is_host:
            if math.isnan(array.item()):
                look()
        else:
            self._doubt = (array, look)

    def take_doubt(self) -> tuple[Any, Callable[[], None]] | None:
        """What this forward pass left in doubt, once."""
        found, self._doubt = self._doubt, None
        return found

    @property
    def shown(self) -> Layer:
        """What a net shows as this layer."""
        return self

    @property
    def blobs(self) -> ParameterList:
        """The parameters in the order of a caffemodel."""
        return ParameterList(self)

    def __repr__(self) -> str:
        return f"<{self.title}>"


def add_to_registry(cls: type[Layer]) -> None:
    """Makes a class that of its type. A user's class takes the place of ours, whichever is defined first."""
    ours = f"{__package__}.layers."
    old = registry.get(cls.type)
    if old is not None and old.__module__ != cls.__module__:
        new, old = (old, cls) if cls.__module__.startswith(ours) else (cls, old)
        log.warning(
            'Layer type "%s" is %s.%s, in place of %s.%s',
            cls.type,
            new.__module__,
            new.__qualname__,
            old.__module__,
            old.__qualname__,
        )
        cls = new
    registry[cls.type] = cls


class ParameterList(list[Parameter]):
    """A layer's parameters in the order of a caffemodel: what pycaffe calls a BlobVec."""

    def __init__(self, layer: Layer):
        super().__init__(layer.params.values())
        self.layer = layer

    def add_blob(self, *shape: int) -> None:
        """Makes a parameter of zeros, in the setup of a pycaffe layer, which may fill it there."""
        made = self.layer.parameter(str(len(self)), shape)
        made.data = np.zeros(made.shape, self.layer.dtype)
        self.append(made)


_default_seed: int | None = None


def set_default_seed(seed: int | None) -> None:
    """Sets the seed of nets that name none; None lets each draw its own."""
    global _default_seed
    _default_seed = seed


def choose_seed(seed: int | None) -> int:
    """The seed that is given, or the default one, or one drawn from the system's entropy for None and below 0."""
    for candidate in (seed, _default_seed):
        if candidate is not None and candidate >= 0:
            return int(candidate)
    return int.from_bytes(os.urandom(4), "little")


def options_field(cls: type[Layer]) -> str:
    """The field of LayerParameter that holds a type's options: inner_product_param; "" where there is none."""
    options = cls.Options
    if isinstance(options, str):
        return options
    if dataclasses.is_dataclass(options):
        return getattr(options, "field", None) or snake_case(cls.type) + "_param"
    wanted = cls.type.lower() + "param"
    for name in schema.message("LayerParameter").DESCRIPTOR.fields_by_name:
        if name.replace("_", "") == wanted:
            return name
    return ""


def snake_case(name: str) -> str:
    """FocalLoss -> focal_loss, ROIPooling -> roi_pooling."""
    out = []
    for i, letter in enumerate(name):
        after_lower = i > 0 and (name[i - 1].islower() or name[i - 1].isdigit())
        before_lower = i > 0 and i + 1 < len(name) and name[i + 1].islower() and name[i - 1].isalpha()
        if letter.isupper() and (after_lower or before_lower):
            out.append("_")
        out.append(letter.lower())
    return "".join(out)


def layer_class(definition: schema.Definition) -> type[Layer]:
    """The class that a layer's ``type`` names. Raises DefinitionError for an unknown one, with the nearest."""
    wanted = definition.message.type
    load_layers()
    if wanted in registry:
        return registry[wanted]
    subject = f'layer "{definition.message.name}"'
    if not wanted:
        raise DefinitionError(f'{subject} has no type. Write type: "Convolution", say', definition.place("type"))
    raise DefinitionError(
        f'{subject}: unknown layer type "{wanted}".{did_you_mean(wanted, registry)}'
        " Types of your own come in with --import.",
        definition.place("type"),
    )


_loaded = False


def load_layers() -> None:
    """Imports every module of `layerforge.layers`, once; each registers its layers."""
    global _loaded
    if _loaded:
        return
    import importlib
    import pkgutil

    from . import layers

    for module in pkgutil.iter_modules(layers.__path__):
        importlib.import_module(f"{layers.__name__}.{module.name}")
    _loaded = True


def count(shape: Sequence[int], start: int = 0, end: int | None = None) -> int:
    """The product of a shape's dimensions from ``start`` up to ``end``; 1 for none."""
    return math.prod(shape[start:end])
