"""``python -m kvflow`` is the command ``kvflow``."""

import sys

from kvflow.cli import main

sys.exit(main())
