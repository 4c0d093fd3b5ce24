"""From an engine's logits to text: the decoding loop, sampling, beam search, fill-in, embeddings
and scoring. No PyTorch.
"""

from lucidlm.generate.beam import BeamToken, Hypothesis, beam_search
from lucidlm.generate.completion import (
    Alternative,
    GeneratedToken,
    Text,
    complete,
)
from lucidlm.generate.filling import Filled, fill
from lucidlm.generate.loop import Step, StopReason, generate
from lucidlm.generate.pooling import Pooling, embed, pool
from lucidlm.generate.sampling import CutReason, History, Sampled, row_seed, sample
from lucidlm.generate.scoring import Score, score
from lucidlm.generate.settings import GenerationSettings, SamplingSettings
from lucidlm.generate.stream import Decoder, TextStream, text_of

__all__ = [
    "Alternative",
    "BeamToken",
    "CutReason",
    "Decoder",
    "Filled",
    "GeneratedToken",
    "GenerationSettings",
    "History",
    "Hypothesis",
    "Pooling",
    "Sampled",
    "SamplingSettings",
    "Score",
    "Step",
    "StopReason",
    "Text",
    "TextStream",
    "beam_search",
    "complete",
    "embed",
    "fill",
    "generate",
    "pool",
    "row_seed",
    "sample",
    "score",
    "text_of",
]
