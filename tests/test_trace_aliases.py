"""Names of other tools stand for the tensors that they denote there."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from captured import Captured, capture
from golden import CASES, MORE, golden
from shapes import marked

from lucidlm.config import Config
from lucidlm.errors import TraceError, UnknownName
from lucidlm.parameters import parameters
from lucidlm.trace.aliases import resolve
from lucidlm.trace.patterns import matching
from lucidlm.trace.sites import catalogue

EVERY = [*CASES, *MORE]
# Modules of theirs without a counterpart of their own: several parts in one, another order of axes,
# or a value that we do not have.
WITHOUT = ("c_attn", "relative_attention_bias", "shared", "seq_relationship")


@cache
def captured(family: str, shape: str) -> Captured:
    pair = golden(family, shape)
    source = None if pair.source is None else pair.source[0].tolist()
    return capture(pair.engine("float64"), pair.checkpoint.config, pair.ids[0].tolist(), source)


def known(config: Config) -> set[str]:
    return {*catalogue(config), *parameters(config)}


def resolved(name: str, config: Config) -> str | None:
    try:
        return resolve(name, config, known(config))
    except UnknownName:
        return None


def their_values(family: str, shape: str) -> dict[str, list[Any]]:
    """Everything that each module put out, by every path that leads to it."""
    pair, seen, removed = golden(family, shape), {}, []
    for path, module in pair.theirs.named_modules(remove_duplicate=False):
        found: list[Any] = []
        seen[path] = found

        def keep(module: Any, args: Any, out: Any, found: list[Any] = found) -> None:
            first = out[0] if isinstance(out, tuple) else out
            if isinstance(first, torch.Tensor):
                found.append(first.detach().numpy())

        removed.append(module.register_forward_hook(keep))
    inputs = {"input_ids": pair.ids[:1]}
    if pair.source is not None:
        inputs = {"input_ids": pair.source[:1], "decoder_input_ids": pair.ids[:1]}
    with torch.inference_mode():
        pair.theirs(**inputs)
    for hook in removed:
        hook.remove()
    return seen


def laid_out(theirs: Any, shape: tuple[int, ...]) -> Any:
    """Without their batch; some of their heads stand before the positions."""
    if theirs.ndim == 4 and theirs.shape[1:] != shape:
        theirs = theirs.swapaxes(1, 2)
    return theirs.reshape(shape)


@pytest.mark.parametrize(("family", "shape"), marked(EVERY))
def test_a_module_path_is_what_the_module_puts_out(family: str, shape: str) -> None:
    run, values = captured(family, shape), their_values(family, shape)
    compared = 0
    for path, outputs in values.items():
        address = resolved(path, run.config)
        if address is None or not outputs:
            continue
        ours = run.read(address)
        same = [theirs for theirs in outputs if theirs.size == ours.size]
        assert same, (path, address)
        error = min(np.abs(laid_out(theirs, ours.shape) - ours).max() for theirs in same)
        assert error <= 1e-5 * np.abs(ours).max(), (path, address)
        compared += 1
    assert compared > 10 * len(run.config.stacks)


@pytest.mark.parametrize(("family", "shape"), marked(EVERY))
def test_every_module_with_parameters_has_an_address(family: str, shape: str) -> None:
    pair = golden(family, shape)
    config = pair.checkpoint.config
    missing = set()
    for path, module in pair.theirs.named_modules(remove_duplicate=False):
        own = [name for name, _ in module.named_parameters(recurse=False)]
        if own and not path.endswith(WITHOUT) and resolved(path, config) is None:
            missing.add(path.rpartition(".")[2])
    # theirs comes before the bias, or before the scale
    scaled = config.embedding.scale != 1 and config.embedding.positions == "sinusoidal"
    expected = {"lm_head"} if family == "bart" else set()
    assert missing == (expected | {"embed_tokens"} if scaled else expected)


@pytest.mark.parametrize(("family", "shape"), marked(EVERY))
def test_a_parameter_name_is_that_parameter(family: str, shape: str) -> None:
    pair = golden(family, shape)
    engine, config = pair.engine("float64"), pair.checkpoint.config
    missing = []
    for name, theirs in pair.theirs.state_dict().items():
        address = resolved(name, config)
        if address is None:
            missing.append(name)
            continue
        ours = engine.weight(address)
        assert theirs.squeeze().shape == ours.shape, (name, address)
        np.testing.assert_array_equal(theirs.squeeze().numpy(), ours)
    gpt2 = ("c_attn.weight", "c_attn.bias", "c_proj.weight", "c_fc.weight")
    ours_has_none = ("embed_positions.weight", "seq_relationship.weight", "seq_relationship.bias")
    assert not [name for name in missing if not name.endswith((*gpt2, *ours_has_none))]


def test_a_weight_stored_otherwise_has_no_alias() -> None:
    """Gemma's norms with 1 added, as another format has them."""
    config = golden("gemma", "local and global").checkpoint.config
    assert config.decoder is not None
    norm = replace(config.decoder.norm, offset=0.0)
    other = replace(config, decoder=replace(config.decoder, norm=norm))
    name = "model.layers.0.input_layernorm"
    assert resolved(name, other) == "layers.0.attention_norm.input.output"
    assert resolved(f"{name}.weight", other) is None
    assert resolved("model.layers.0.mlp.up_proj.weight", other) is not None


# -- TransformerLens -------------------------------------------------------------------------------


def lens(run: Captured, at: str) -> Any:
    """A function from a hook's name behind `at` to its values."""

    def read(hook: str) -> Any:
        return run.read(resolve(f"{at}{hook}", run.config, run.sites))

    return read


def close(left: Any, right: Any) -> None:
    np.testing.assert_allclose(left, right, atol=1e-9)


DECODERS = [(f, s) for f, s in EVERY if f in ("gpt2", "llama", "gemma")]


@pytest.mark.parametrize(("family", "shape"), marked(DECODERS))
def test_hooks_of_a_decoder_mean_what_they_mean_there(family: str, shape: str) -> None:
    run = captured(family, shape)
    stack = run.config.decoder
    assert stack is not None
    close(lens(run, "")("hook_embed"), run.read("embedding.tokens"))
    for i in range(stack.layers):
        hook = lens(run, f"blocks.{i}.")
        close(hook("hook_resid_mid"), hook("hook_resid_pre") + hook("hook_attn_out"))
        close(hook("hook_resid_post"), hook("hook_resid_mid") + hook("hook_mlp_out"))
        close(hook("hook_in"), hook("hook_resid_pre"))
        close(hook("hook_out"), hook("hook_resid_post"))
        for ln, before, norm in (
            ("ln1", "hook_resid_pre", "attention_norm"),
            ("ln2", "hook_resid_mid", "feedforward_norm"),
        ):
            x = hook(before)
            close(hook(f"{ln}.hook_in"), x)
            centred = x - x.mean(-1, keepdims=True) if stack.norm.kind == "layer" else x
            scale = np.sqrt((centred**2).mean(-1) + stack.norm.eps)
            close(hook(f"{ln}.hook_scale"), scale)
            close(hook(f"{ln}.hook_normalized"), centred / scale[:, None])
            gain = run.weight(f"layers.{i}.{norm}.input.weight") + stack.norm.offset
            has_bias = stack.norm.kind == "layer"
            bias = run.weight(f"layers.{i}.{norm}.input.bias") if has_bias else 0
            close(hook(f"{ln}.hook_out"), hook(f"{ln}.hook_normalized") * gain + bias)
        attention = stack.attention
        q, k, v = (hook(f"attn.hook_{n}") for n in "qkv")
        weight = run.weight(f"layers.{i}.attention.query.weight")
        bias = run.weight(f"layers.{i}.attention.query.bias") if attention.bias else 0
        close(q, (hook("ln1.hook_out") @ weight.T + bias).reshape(q.shape))
        if attention.qk_norm is not None:
            q, k = hook("attn.q_norm.hook_out"), hook("attn.k_norm.hook_out")
        if attention.rope is not None:
            q, k = hook("attn.hook_rot_q"), hook("attn.hook_rot_k")
        group = attention.heads // attention.kv_heads
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores, pattern = hook("attn.hook_attn_scores"), hook("attn.hook_pattern")
        seen = scores > -np.inf
        raw = np.einsum("qhd,khd->hqk", q, k) * attention.scale
        close(scores[seen], raw[seen])
        powers = np.exp(scores)
        close(pattern, powers / powers.sum(-1, keepdims=True))
        close(hook("attn.hook_z"), np.einsum("hqk,khd->qhd", pattern, v))
        weight = run.weight(f"layers.{i}.attention.output.weight")
        bias = run.weight(f"layers.{i}.attention.output.bias") if attention.output_bias else 0
        z = hook("attn.hook_z").reshape(len(q), -1)
        close(hook("attn.hook_out"), z @ weight.T + bias)
        down = run.weight(f"layers.{i}.feedforward.down.weight")
        bias = run.weight(f"layers.{i}.feedforward.down.bias") if stack.feedforward.bias else 0
        close(hook("mlp.hook_out"), hook("mlp.hook_post") @ down.T + bias)
        if stack.feedforward.gated:
            activated = run.read(f"layers.{i}.feedforward.activated")
            close(hook("mlp.hook_post"), activated * hook("mlp.hook_pre_linear"))
            close(hook("mlp.hook_pre"), run.read(f"layers.{i}.feedforward.gate"))
        else:
            close(hook("mlp.hook_pre"), run.read(f"layers.{i}.feedforward.up"))
    close(lens(run, "")("ln_final.hook_in"), lens(run, f"blocks.{i}.")("hook_resid_post"))
    close(lens(run, "")("unembed.hook_out"), run.read("head.logits"))
    result = resolve("blocks.0.attn.hook_result", run.config, run.sites)
    assert result == "layers.0.attention.head_outputs"


def test_the_contribution_is_not_the_sublayers_output_where_a_norm_lies_between() -> None:
    """The one that was zeroed by mistake elsewhere: both names, two tensors."""
    hook = lens(captured("gemma", "local and global"), "blocks.1.")
    for out, raw in (("hook_mlp_out", "mlp.hook_out"), ("hook_attn_out", "attn.hook_out")):
        assert np.abs(hook(out) - hook(raw)).max() > 0.1
    close(hook("ln1_post.hook_out"), hook("hook_attn_out"))
    hook = lens(captured("gpt2", "plain"), "blocks.1.")
    close(hook("hook_mlp_out"), hook("mlp.hook_out"))


@pytest.mark.parametrize("hook", ["hook_resid_mid", "hook_resid_post"])
def test_a_name_with_two_meanings_is_refused(hook: str) -> None:
    for case, blocks in ((("bert", CASE["bert"]), "blocks"), (("bart", "bart"), "decoder_blocks")):
        run = captured(*case)
        with pytest.raises(TraceError) as caught:
            resolve(f"{blocks}.0.{hook}", run.config, run.sites)
        choices = str(caught.value.values["choices"]).split(", ")
        assert len(choices) > 1 and set(choices) <= set(run.sites)
        assert all(caught.value.message(lang) for lang in ("en", "zh"))


CASE = dict(reversed(CASES))  # the first of each


def test_hooks_of_an_encoder_with_norms_behind() -> None:
    run = captured("bert", CASE["bert"])
    hook = lens(run, "blocks.0.")
    close(hook("ln1.hook_in"), hook("hook_in") + hook("hook_attn_out"))
    close(hook("ln2.hook_in"), hook("ln1.hook_out") + hook("hook_mlp_out"))
    close(hook("hook_out"), hook("ln2.hook_out"))
    close(hook("hook_normalized_resid_post"), hook("hook_out"))


@pytest.mark.parametrize(("family", "shape"), [("t5", CASE["t5"]), ("bart", "bart")])
def test_hooks_of_two_stacks(family: str, shape: str) -> None:
    run = captured(family, shape)
    for side in ("encoder", "decoder"):
        hook = lens(run, f"{side}_blocks.0.")
        close(hook("hook_in"), run.read(f"{side}.layers.0.residual_in"))
        post = family == "bart"
        before = "ln1.hook_in" if post else "hook_resid_mid"
        close(hook(before), hook("hook_in") + hook("hook_attn_out"))
        close(hook("attn.hook_pattern").sum(-1), np.ones_like(hook("attn.hook_pattern")[..., 0]))
    close(hook("self_attn.hook_z"), hook("attn.hook_z"))
    assert hook("cross_attn.hook_k").shape[0] == len(run.read("encoder.ids"))
    if post:
        close(hook("ln2.hook_in"), hook("ln1.hook_out") + hook("hook_cross_attn_out"))
        close(hook("ln3.hook_in"), hook("ln2.hook_out") + hook("hook_mlp_out"))
    else:
        close(hook("hook_resid_mid_cross"), hook("hook_resid_mid") + hook("hook_cross_attn_out"))
        close(hook("hook_resid_mid2"), hook("hook_resid_mid_cross"))
        close(hook("hook_resid_post"), hook("hook_resid_mid2") + hook("hook_mlp_out"))
        close(hook("ln3.hook_in"), hook("hook_resid_mid2"))


# -- names that are none ---------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "shape"), marked(EVERY))
def test_our_own_names_pass_through(family: str, shape: str) -> None:
    config = golden(family, shape).checkpoint.config
    for name in known(config):
        assert resolve(name, config, known(config)) == name


def test_an_alias_is_good_only_for_what_is_known() -> None:
    config = golden("gpt2", "plain").checkpoint.config
    with pytest.raises(UnknownName):
        resolve("transformer.h.0.ln_1.weight", config, catalogue(config))


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("layers.1.attention.patern", "layers.1.attention.pattern"),
        ("blocks.1.attn.hook_patern", "blocks.1.attn.hook_pattern"),
        ("model.layers.1.self_attn.q_prj", "model.layers.1.self_attn.q_proj"),
        ("*.patern", "layers.0.attention.pattern"),
        ("layers.0.foo.outptu", "layers.0.attention.output"),
        ("transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(wrong: str, near: str) -> None:
    config = golden("llama", "llama 3").checkpoint.config
    with pytest.raises(UnknownName) as caught:
        matching(config, wrong)
    assert caught.value.key == "trace.no_such_site"
    assert near in caught.value.nearest
    assert near in caught.value.message("zh")


def test_what_is_like_nothing_is_answered_with_our_own_addresses() -> None:
    config = golden("llama", "llama 3").checkpoint.config
    for wrong in ("foo", "*.foo"):
        with pytest.raises(UnknownName) as caught:
            matching(config, wrong)
        assert caught.value.nearest and set(caught.value.nearest) <= set(catalogue(config))


@pytest.mark.parametrize(
    "wrong", ["layers.9.attention.pattern", "blocks.9.attn.hook_pattern", "layers.9.*"]
)
def test_a_layer_too_high_is_answered_with_how_many_there_are(wrong: str) -> None:
    config = golden("llama", "llama 3").checkpoint.config
    assert config.decoder is not None
    with pytest.raises(UnknownName) as caught:
        matching(config, wrong)
    assert caught.value.key == "trace.no_such_layer"
    assert caught.value.values["high"] == config.decoder.layers - 1


def test_a_model_without_a_head_says_so() -> None:
    config = golden("bert", "sentence encoder").checkpoint.config
    with pytest.raises(UnknownName) as caught:
        resolve("head.logits", config, catalogue(config))
    assert caught.value.key == "trace.no_head"


def test_rotated_names_are_not_for_models_without_rotation() -> None:
    config = golden("gpt2", "plain").checkpoint.config
    for name in (
        "blocks.0.attn.hook_rot_q",
        "blocks.0.mlp.hook_pre_linear",
        "blocks.0.ln1_post.hook_out",
    ):
        assert resolved(name, config) is None
