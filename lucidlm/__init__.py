"""lucidlm: a language model under glass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lucidlm.api import Model, load
    from lucidlm.classical import NGram, WordVectors
    from lucidlm.config import Config
    from lucidlm.errors import LucidError
    from lucidlm.trace.edits import Add, Mean, Patch, Scale, Zero
    from lucidlm.trace.trace import Trace

__version__ = "0.1.0"
__all__ = [
    "Add",
    "Config",
    "LucidError",
    "Mean",
    "Model",
    "NGram",
    "Patch",
    "Scale",
    "Trace",
    "WordVectors",
    "Zero",
    "__version__",
    "load",
]

# Where each public name lives: imported when first asked for, so that `import lucidlm` costs
# nothing.
_HOMES = {
    **dict.fromkeys(("Add", "Mean", "Patch", "Scale", "Zero"), "lucidlm.trace.edits"),
    "Trace": "lucidlm.trace.trace",
    "Config": "lucidlm.config",
    "LucidError": "lucidlm.errors",
    "Model": "lucidlm.api",
    "NGram": "lucidlm.classical",
    "WordVectors": "lucidlm.classical",
    "load": "lucidlm.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lucidlm' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
