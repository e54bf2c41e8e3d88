"""``python -m layerforge`` is ``layerforge``."""

import sys

from .cli import main

sys.exit(main())
