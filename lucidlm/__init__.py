"""lucidlm: a language model under glass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lucidlm.api import Model, load
    from lucidlm.classical import NGram, WordVectors
    from lucidlm.config import Config
    from lucidlm.errors import LucidError

__version__ = "0.1.0"
__all__ = ["Config", "LucidError", "Model", "NGram", "WordVectors", "__version__", "load"]

# Where each public name lives: imported when first asked for, so that `import lucidlm` costs
# nothing.
_HOMES = {
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
