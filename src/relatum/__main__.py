"""`python -m relatum`, and `accelerate launch -m relatum`."""

import sys

from .cli import main

sys.exit(main())
