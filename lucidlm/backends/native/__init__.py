"""The engine for CPUs, in C++ (native/): built when the package is installed, if a compiler is
there.
"""

from __future__ import annotations

import os
from importlib.util import find_spec


def missing() -> bool:
    """Whether this installation has no native engine, or `LUCIDLM_NATIVE=0` says to do without."""
    return os.environ.get("LUCIDLM_NATIVE") == "0" or find_spec("lucidlm.backends._native") is None
