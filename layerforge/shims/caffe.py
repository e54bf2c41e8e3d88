"""``import caffe`` in the processes that a script of `layerforge.as_caffe` starts.

They get its ``sys.path``, but not its finders: this module is found, and puts LayerForge in its own place.
"""

from layerforge import as_caffe

as_caffe._install()
