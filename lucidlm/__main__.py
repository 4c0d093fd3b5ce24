"""`python -m lucidlm` is the command `lucidlm`, for launchers that start modules."""

import sys

from lucidlm.cli.main import main

sys.exit(main())
