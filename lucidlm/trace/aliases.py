"""Other tools' names for our addresses: TransformerLens' hooks and Hugging Face's module paths.

A name stands for the tensor that it denotes there, on this very architecture; one that two of their
releases give to different tensors is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache

from lucidlm.config import Config
from lucidlm.errors import TraceError, UnknownName
from lucidlm.trace import module_paths
from lucidlm.trace.operations import Normalize
from lucidlm.trace.site import Site
from lucidlm.trace.sites import catalogue

Pairs = Iterator[tuple[str, str]]

_NUMBERS = re.compile(r"(?<=\.)\d+(?=\.|$)")
LIKE = 0.6  # how much of two names must be the same, from 0 to 1, to offer one for the other
ATTENTION = {
    "hook_q": "query",
    "hook_k": "key",
    "hook_v": "value",
    "hook_rot_q": "query_rotated",
    "hook_rot_k": "key_rotated",
    "hook_attn_scores": "scores",
    "hook_pattern": "pattern",
    "hook_z": "mixed",
    "hook_result": "head_outputs",
    "hook_out": "output",
    "q.hook_out": "query",
    "k.hook_out": "key",
    "v.hook_out": "value",
    "o.hook_in": "mixed",
    "o.hook_out": "output",
    "q_norm.hook_out": "query_norm.output",
    "k_norm.hook_out": "key_norm.output",
}
NORM = {"hook_scale": "scale", "hook_normalized": "normalized", "hook_out": "output"}


def resolve(name: str, config: Config | None, known: Collection[str]) -> str:
    """The address that `name` stands for: itself if it is `known`, or what an alias of it denotes.

    Raises UnknownName with the nearest names, and TraceError for a TransformerLens name that has
    two meanings on a model of this kind.
    """
    if name in known:
        return name
    if config is None:  # no Transformer: nobody else names its parts
        raise no_such(name, None, known)
    found = _aliases(config)
    if found.get(name) in known:
        return found[name]
    if choices := _two_meanings(config).get(name):
        raise TraceError("trace.two_meanings", name=name, choices=", ".join(choices))
    raise no_such(name, config, known)


def no_such(name: str, config: Config | None, known: Collection[str]) -> UnknownName:
    """What to say of a `name`, or of a pattern, that stands for none of the `known` addresses: that
    the model has no such layer or no head, or which addresses are nearest.
    """
    aliases: list[str] = []
    if config is not None:
        if config.head is None and name.startswith("head."):
            return UnknownName("trace.no_head", name, known)
        aliases = [alias for alias, address in _aliases(config).items() if address in known]
        last = _last_layer(name, (*known, *aliases))
        if last is not None:
            return UnknownName("trace.no_such_layer", name, known, high=last)
    theirs = get_close_matches(name, _of_one_layer(name, aliases), cutoff=LIKE)
    return UnknownName("trace.no_such_site", name, _near(name, _of_one_layer(name, known), theirs))


def _last_layer(name: str, known: Iterable[str]) -> int | None:
    """The last of the model's layers, where `name` would be right but for its layer's number."""
    numbers, like = _NUMBERS.findall(name), _NUMBERS.sub("*", name)
    if not numbers:
        return None
    last = max(
        (int(_NUMBERS.findall(one)[0]) for one in known if fnmatchcase(one, like)), default=None
    )
    return last if last is not None and int(numbers[0]) > last else None


def _near(name: str, ours: Sequence[str], theirs: Sequence[str]) -> Sequence[str]:
    """`theirs`, and those of `ours` whose last part is like that of `name`; if there is none of
    either, all of `ours`.
    """
    lasts = {address: address.rpartition(".")[2] for address in ours}
    like = get_close_matches(name.rpartition(".")[2], set(lasts.values()), cutoff=LIKE)
    return [*theirs, *(address for address, last in lasts.items() if last in like)] or ours


def _of_one_layer(name: str, valid: Collection[str]) -> Sequence[str]:
    """Those of the layer that `name` names, or of the first: a model has thousands of names, and
    comparing with each takes seconds.
    """
    if numbers := _NUMBERS.findall(name):
        found = [other for other in valid if _NUMBERS.findall(other) == numbers]
        if found:
            return found
    return [other for other in valid if not set(_NUMBERS.findall(other)) - {"0"}]


@lru_cache(maxsize=4)
def _aliases(config: Config) -> Mapping[str, str]:
    """Name to address, of a site or parameter; some name what this model does not have."""
    return dict((*module_paths.aliases(config), *_transformer_lens(config)))


def _transformer_lens(config: Config) -> Pairs:
    """TransformerLens 4's names, which are version 2's and more."""
    sites, two = catalogue(config), len(config.stacks) > 1
    for side, stack in config.stacks.items():
        at, blocks = (f"{side}.", f"{side}_blocks") if two else ("", "blocks")
        for i in range(stack.layers):
            for hook, noun in _block(config, side):
                yield f"{blocks}.{i}.{hook}", f"{at}layers.{i}.{noun}"
            for ln, norm in _norms(config, side):
                yield from _norm(f"{blocks}.{i}.{ln}", f"{at}layers.{i}.{norm}", sites)
        yield from _norm(f"{side}_ln_final" if two else "ln_final", f"{at}final_norm", sites)
    if config.decoder is None:
        yield from _norm("ln_final", "head.norm", sites)
    if module_paths.head_is_logits(config):
        yield "unembed.hook_out", "head.logits"
    if module_paths.table_is_scaled(config) and not two:
        yield from (("hook_embed", "embedding.tokens"), ("embed.hook_out", "embedding.tokens"))
    if not two:
        yield "hook_pos_embed", "embedding.positions"
        yield "pos_embed.hook_out", "embedding.positions"


def _block(config: Config, side: str) -> Pairs:
    """Hook and noun of one layer."""
    stack = config.stacks[side]
    yield from (("hook_in", "residual_in"), ("hook_resid_pre", "residual_in"))
    yield "hook_out", "residual_out"
    if "residual" in stack.norm_places:
        yield "hook_normalized_resid_post", "residual_out"
    else:
        yield from (("hook_resid_mid", "residual_mid"), ("hook_resid_post", "residual_out"))
        yield from (
            ("hook_resid_mid2", "residual_cross"),
            ("hook_resid_mid_cross", "residual_cross"),
        )
    # what is added to the residual stream; the sublayer's own output is attn.hook_out, mlp.hook_out
    last = "_norm.output.output" if "output" in stack.norm_places else ".output"
    yield "hook_attn_out", f"attention{last}"
    yield "hook_cross_attn_out", f"cross_attention{last}"
    yield "hook_mlp_out", f"feedforward{last}"
    for hook, noun in ATTENTION.items():
        yield f"attn.{hook}", f"attention.{noun}"
        yield f"cross_attn.{hook}", f"cross_attention.{noun}"
        if stack.cross is not None:
            yield f"self_attn.{hook}", f"attention.{noun}"
    gated = stack.feedforward.gated
    yield "mlp.hook_pre", "feedforward.gate" if gated else "feedforward.up"
    if gated:
        yield from (
            ("mlp.hook_pre_linear", "feedforward.up"),
            ("mlp.gate.hook_out", "feedforward.gate"),
        )
    inner = "feedforward.product" if gated else "feedforward.activated"
    yield from (("mlp.hook_post", inner), ("mlp.out.hook_in", inner))
    yield "mlp.in.hook_out", "feedforward.up"
    yield from (("mlp.hook_out", "feedforward.output"), ("mlp.out.hook_out", "feedforward.output"))


def _norms(config: Config, side: str) -> Pairs:
    """A layer's norms in their order: ln1, ln2, and with cross-attention ln3."""
    stack = config.stacks[side]
    place = "residual" if "residual" in stack.norm_places else "input"
    names = ["attention", *["cross_attention"] * (stack.cross is not None), "feedforward"]
    for number, name in enumerate(names, start=1):
        yield f"ln{number}", f"{name}_norm.{place}"
        yield f"ln{number}_post", f"{name}_norm.output"


def _norm(theirs: str, ours: str, sites: Mapping[str, Site]) -> Pairs:
    for hook, noun in NORM.items():
        yield f"{theirs}.{hook}", f"{ours}.{noun}"
    normalized = sites.get(f"{ours}.normalized")
    if normalized is not None and isinstance(normalized.operation, Normalize):
        yield f"{theirs}.hook_in", normalized.operation.source


def _two_meanings(config: Config) -> dict[str, tuple[str, ...]]:
    """Where norms follow the sums, HookedEncoder's `hook_resid_mid` is the sum before the first
    norm and TransformerBridge's the one before the second; `hook_resid_post` is the sum before the
    last norm in one and what that norm puts out in the other.
    """
    found: dict[str, tuple[str, ...]] = {}
    for side, stack in config.stacks.items():
        at, blocks = (f"{side}.", f"{side}_blocks") if len(config.stacks) > 1 else ("", "blocks")
        if "residual" not in stack.norm_places:
            continue
        for i in range(stack.layers):
            here = f"{at}layers.{i}"
            sums = f"{here}.attention_norm.added", f"{here}.feedforward_norm.added"
            found[f"{blocks}.{i}.hook_resid_mid"] = (*sums, f"{here}.residual_mid")
            found[f"{blocks}.{i}.hook_resid_post"] = (sums[1], f"{here}.residual_out")
    return found
