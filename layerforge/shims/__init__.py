"""A folder for Python's path: what lies in it is found under its own name. See `layerforge.as_caffe`."""
