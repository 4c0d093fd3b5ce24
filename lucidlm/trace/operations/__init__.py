"""What makes a site out of others, one class a kind."""

from lucidlm.trace.operations.attention import Dot, Rotate, ScaleAndMask, Softmax, WeightedSum
from lucidlm.trace.operations.base import (
    Array,
    Computed,
    Doubles,
    Index,
    Kind,
    Operation,
    Terms,
    Values,
    Worked,
    cell,
)
from lucidlm.trace.operations.elementwise import Add, Copy, Multiply, Unary
from lucidlm.trace.operations.linear import HeadOutputs, Linear
from lucidlm.trace.operations.norm import Deviation, Gain, Mean, Normalize
from lucidlm.trace.operations.round import Round
from lucidlm.trace.operations.stages import SamplingStage, TokenizerStage
from lucidlm.trace.operations.tables import BiasTable, Lookup, Sinusoid

__all__ = [
    "Add",
    "Array",
    "BiasTable",
    "Computed",
    "Copy",
    "Deviation",
    "Dot",
    "Doubles",
    "Gain",
    "HeadOutputs",
    "Index",
    "Kind",
    "Linear",
    "Lookup",
    "Mean",
    "Multiply",
    "Normalize",
    "Operation",
    "Rotate",
    "Round",
    "SamplingStage",
    "ScaleAndMask",
    "Sinusoid",
    "Softmax",
    "Terms",
    "TokenizerStage",
    "Unary",
    "Values",
    "WeightedSum",
    "Worked",
    "cell",
]
