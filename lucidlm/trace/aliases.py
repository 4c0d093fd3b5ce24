"""stub"""
from __future__ import annotations
from collections.abc import Collection
from lucidlm.config import Config
from lucidlm.errors import UnknownName


def resolve(name: str, config: Config, known: Collection[str]) -> str:
    if name not in known:
        raise UnknownName("trace.no_such_site", name, known)
    return name
