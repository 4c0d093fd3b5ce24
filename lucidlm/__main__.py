"""`python -m lucidlm` is the command `lucidlm`, for launchers that start modules."""

import sys

from lucidlm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
