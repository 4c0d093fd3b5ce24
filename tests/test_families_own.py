"""Our own format: any model there and back, and files that lie."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model_laws import configs

from lucidlm.checkpoint.load import Hints, open_checkpoint
from lucidlm.checkpoint.save import save_checkpoint
from lucidlm.config import Config
from lucidlm.engine import ForwardContext
from lucidlm.errors import ConfigError, LucidError
from lucidlm.families import by_model_type, families
from lucidlm.families.own import FAMILY
from lucidlm.lessons.one_word.model import config as small
from lucidlm.model.engine import build
from lucidlm.parameters import parameters
from lucidlm.reference.engine import Reference

IDS, SOURCE = [[0, 0, 0]], [[0, 0]]


def random_weights(config: Config) -> dict[str, Any]:
    """Every parameter, norms near 1."""
    rng = np.random.default_rng(0)
    return {
        at: (0.3 * rng.standard_normal(shape) + ("norm" in at)).astype(np.float32)
        for at, shape in parameters(config).items()
    }


def output(engine: Any, config: Config) -> Any:
    ctx = ForwardContext(cache=engine.cache(1), every_position=True)
    if config.kind == "encoder" and config.head is None:
        return engine.encode(IDS, ctx)
    if config.kind == "encoder-decoder":
        engine.encode(SOURCE, ctx)
    return engine.step(IDS, ctx)


@settings(max_examples=20)
@given(configs())
def test_any_model_there_and_back(config: Config) -> None:
    weights = random_weights(config)
    hints = Hints(bos=0, end=frozenset({0}), pad=0, decoder_start=0)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), FAMILY, config, weights, hints)
        found = open_checkpoint(folder)
        read = dict(found.weights())
    assert (found.config, found.hints, found.family) == (config, hints, FAMILY)
    assert read.keys() == weights.keys()
    for address, values in weights.items():
        np.testing.assert_array_equal(read[address], values)
    before = output(build(config, weights.items()), config)
    np.testing.assert_array_equal(output(build(config, read.items()), config), before)
    scale = np.abs(before).max() + 1e-6
    close = output(Reference(found.config, read.items()), config)
    np.testing.assert_allclose(close / scale, before / scale, atol=1e-4)


@pytest.mark.parametrize("family", sorted(families()))
def test_every_published_shape_can_be_kept_in_it(family: str) -> None:
    for hf in families()[family].tiny.values():
        config = families()[family].read(dict(hf))
        assert by_model_type(FAMILY.write(config)).read(as_json(FAMILY.write(config))) == config


def as_json(hf: dict[str, Any]) -> dict[str, Any]:
    """What a file gives back."""
    found: dict[str, Any] = json.loads(json.dumps(hf))
    return found


def test_what_has_a_default_may_be_left_out() -> None:
    hf = as_json(FAMILY.write(small("causal")))
    assert hf["encoder"] is None
    del hf["encoder"], hf["pooler"], hf["decoder"]["cross"], hf["decoder"]["attention"]["rope"]
    assert FAMILY.read(hf) == small("causal")


CHANGES: list[tuple[str, Any, str]] = [
    ("widht", 3, "widht"),
    ("decoder.attention.heads_", 1, "decoder.attention.heads_"),
    ("dim", "3", "dim"),
    ("dim", 3.0, "dim"),
    ("dim", True, "dim"),
    ("dim", 0, "dim"),
    ("dim", -1, "dim"),
    ("dim", 10**30, "dim"),
    ("decoder", [], "decoder"),
    ("decoder.layers", 10**6, "1000000"),
    ("decoder.mask", "casual", "decoder.mask"),
    ("decoder.mask", ["causal"], "decoder.mask"),
    ("decoder.final_norm", 1, "decoder.final_norm"),
    ("decoder.norm_places", "residual", "decoder.norm_places"),
    ("decoder.norm_places", ["residual", 3], "decoder.norm_places[1]"),
    ("decoder.norm.eps", -1.0, "decoder.norm.eps"),
    ("decoder.norm.eps", math.nan, "decoder.norm.eps"),
    ("decoder.attention.scale", math.inf, "decoder.attention.scale"),
    ("decoder.attention.scale", 10**400, "decoder.attention.scale"),
    ("decoder.attention.scale", None, "decoder.attention.scale"),
    ("decoder.attention.kv_heads", 7, "7"),
    (
        "decoder.attention.local",
        {"layers": [], "window": 3, "rope": {"base": 0}},
        "local.rope.base",
    ),
    ("decoder.attention.local", {"layers": [1], "window": 3}, "decoder.attention.local.layers"),
    ("decoder.attention.local", {"layers": []}, "decoder.attention.local.window"),
    ("decoder.attention.relative", {"buckets": 1}, "decoder.attention.relative.buckets"),
    ("decoder.attention.relative", {"max_distance": 9}, "decoder.attention.relative.max_distance"),
    ("head.transform", "softplus", "head.transform"),
    ("embedding.segments", -1, "embedding.segments"),
]


@pytest.mark.parametrize(("key", "value", "said"), CHANGES)
def test_a_wrong_key_is_named(key: str, value: Any, said: str) -> None:
    hf = as_json(FAMILY.write(small("causal")))
    *path, last = key.split(".")
    place = hf
    for name in path:
        place = place[name]
    place[last] = value
    with pytest.raises(ConfigError) as caught:
        FAMILY.read(hf)
    assert said in str(caught.value) and said in caught.value.message("zh")


@pytest.mark.parametrize("key", ["dim", "decoder.layers", "decoder.attention.scale", "embedding"])
def test_a_missing_key_is_named(key: str) -> None:
    hf = as_json(FAMILY.write(small("causal")))
    *path, last = key.split(".")
    place = hf
    for name in path:
        place = place[name]
    del place[last]
    with pytest.raises(ConfigError, match=key):
        FAMILY.read(hf)


def test_llama3_scaling_and_cross_attention_that_cannot_be() -> None:
    config = small("causal")
    assert config.decoder is not None
    hf = as_json(FAMILY.write(config))
    rope = {"scaling": "llama3", "low_factor": 4.0, "high_factor": 4.0}
    hf["decoder"]["attention"] |= {"rope": rope, "head_dim": 4}
    with pytest.raises(ConfigError, match="high_factor"):
        FAMILY.read(hf)
    cross = replace(config.decoder, mask="full", cross=config.decoder.attention)
    with pytest.raises(ConfigError, match=r"encoder\.cross"):
        FAMILY.read(as_json(FAMILY.write(replace(config, decoder=None, encoder=cross))))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**64) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@settings(max_examples=60)
@given(configs(), st.data())
def test_no_file_breaks_the_reader(config: Config, data: Any) -> None:
    hf = as_json(FAMILY.write(config))
    for _ in range(data.draw(st.integers(1, 3))):
        place = hf
        while True:
            key = data.draw(st.sampled_from(sorted(place)))
            if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = data.draw(json_values)
    try:
        FAMILY.read(hf)
    except LucidError as error:
        assert str(error) and error.message("zh")
