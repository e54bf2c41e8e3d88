"""Data: sources give records by position, a transformer makes net inputs of them, a loader does so ahead of time."""

from .loader import Batch, Loader
from .source import Source, open_source
from .transform import Transformer

__all__ = ["Batch", "Loader", "Source", "Transformer", "open_source"]
