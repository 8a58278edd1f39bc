"""`python -m satellite`: the command line."""

import contextlib
import sys

from satellite.cli.main import main

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
