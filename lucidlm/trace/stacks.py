"""Where the stacks of a model begin and end. A stack is named by what begins its addresses:
"encoder." or "decoder." of two, "" where there is one.
"""

from __future__ import annotations

from lucidlm.config import Config, Stack


def prefixes(config: Config) -> dict[str, Stack]:
    """The stacks in order of computation, by what begins their addresses."""
    two = len(config.stacks) > 1
    return {f"{name}." if two else "": stack for name, stack in config.stacks.items()}


def output_stack(config: Config) -> str:
    """The stack that ends in the head."""
    return list(prefixes(config))[-1]


def last_residual(config: Config, stack: str) -> str:
    """The address of what the last layer of a stack puts out."""
    return f"{stack}layers.{prefixes(config)[stack].layers - 1}.residual_out"


def last_vector(config: Config, stack: str) -> str:
    """The address of what a stack puts out: what the head, or the decoder, reads."""
    final_norm = prefixes(config)[stack].final_norm
    return f"{stack}final_norm.output" if final_norm else last_residual(config, stack)
