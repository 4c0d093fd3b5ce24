"""Where the program keeps what it fetched or derived: `LUCIDLM_HOME`, else the user's cache
directory.
"""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder itself; it may not exist yet."""
    if chosen := os.environ.get("LUCIDLM_HOME"):
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("lucidlm", appauthor=False)


def models_home() -> Path:
    """Pulled models, one folder each."""
    return home() / "models"


def tokenizers_home() -> Path:
    """Tokenizers derived from other formats, kept in built form."""
    return home() / "tokenizers"
