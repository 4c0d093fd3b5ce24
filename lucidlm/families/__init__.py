"""The published formats, one file each, found by looking into this folder."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from lucidlm.errors import ConfigError
from lucidlm.families.family import HF, Family


@cache
def families() -> dict[str, Family]:
    """Every family by name: each module here with a `FAMILY`."""
    modules = (
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)
    )
    found = [module.FAMILY for module in modules if hasattr(module, "FAMILY")]
    return {family.name: family for family in found}


def by_model_type(hf: HF) -> Family:
    """The family of a parsed config.json, by its `model_type`."""
    kind = hf.get("model_type")
    for family in families().values():
        if kind in family.model_types:
            return family
    known = ", ".join(sorted(name for family in families().values() for name in family.model_types))
    raise ConfigError("families.model_type", found=kind, known=known)


def by_architecture(architecture: object) -> Family:
    """The family of a GGUF file, by its `general.architecture`."""
    for family in families().values():
        if family.gguf is not None and architecture in family.gguf.architectures:
            return family
    known = ", ".join(
        sorted(a for f in families().values() if f.gguf for a in f.gguf.architectures)
    )
    raise ConfigError("families.architecture", found=architecture, known=known)


def presets() -> dict[str, tuple[Family, HF]]:
    """Well-known models by name: their family and config.json."""
    return {
        name: (family, hf) for family in families().values() for name, hf in family.presets.items()
    }
