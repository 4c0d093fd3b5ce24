"""What each function is called with: first what flows through the small models, then small cases
where mistakes show that real numbers forgive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucidlm.lessons.checking.attention import Array
from lucidlm.lessons.checking.inputs import BASE, HEADS, IDS, causal, layer_params, passing, singles

EPS = 1e-5
DRAWS = (0.03, 0.22, 0.41, 0.58, 0.77, 0.94)
INF = np.inf


@dataclass(frozen=True, eq=False)
class Case:
    """One call. `kind` names what is special about it; for a real input `site` is the address in
    the small model at which it ends.
    """

    kind: str
    arguments: tuple[Any, ...]
    site: str | None = None


def cases(function: str) -> list[Case]:
    """Every call of the function, in the order to make them."""
    return list(CASES[function]())


def _real(site: str, *arguments: Any) -> Case:
    return Case("real", arguments, site)


def _softmax() -> Iterator[Case]:
    scores = passing("original").sites["layers.0.attention.scores"]
    yield _real("layers.0.attention.pattern[head=1]", scores[1])
    yield Case("logits", (passing("modern").sites["head.logits"],))
    yield Case("vector", (np.array([1.0, 2.0, 3.0, -1.0]),))
    yield Case("single", (np.array([[0.5]]),))
    large = [[1000.0, 999.0, 998.0, -1000.0], [-1000.0, -1001.0, -1000.0, -1003.0]]
    yield Case("large", (np.array(large),))


def _attention() -> Iterator[Case]:
    rng, sites = np.random.default_rng(5), passing("modern").sites
    at = "layers.1.attention"
    names = ("query_rotated", "key_rotated", "value")
    q, k, v = (sites[f"{at}.{name}"][1] for name in names)
    yield _real(f"{at}.mixed[head=1]", q, k, v, causal(len(q)))
    yield Case("no_mask", (q, k, v))
    queries, keys, values = (singles(rng.standard_normal(n)) for n in ((3, 4), (5, 4), (5, 2)))
    yield Case("not_square", (queries, keys, values))
    mask = np.array([[0, 1, 0, 0, 1], [1, 0, 0, 1, 0], [0, 0, 1, 1, 1]], bool)
    yield Case("any_mask", (queries, keys, values, mask))
    yield Case("single", (q[:1], k[:1], v[:1], causal(1)))
    yield Case("large", (queries * 60.0, keys * 60.0, values))
    mask[1] = True
    yield Case("hidden_row", (queries, keys, values, mask))


def _multi_head_attention() -> Iterator[Case]:
    for number in (0, 1):
        at, params = f"layers.{number}", layer_params(number)
        weights = [params[name] for name in ("w_q", "w_k", "w_v", "w_o")]
        x = passing("original").sites[f"{at}.residual_in"]
        yield _real(f"{at}.attention.output", x, *weights, HEADS, causal(len(x)))
    yield Case("no_mask", (x, *weights, HEADS))
    yield Case("one_head", (x, *weights, 1, causal(len(x))))
    yield Case("single", (x[:1], *weights, HEADS, causal(1)))
    yield Case("large", (x * 40.0, *weights, HEADS, causal(len(x))))


def _layer_norm() -> Iterator[Case]:
    at, sites = "layers.0.attention_norm", passing("original").sites
    params = layer_params(0)
    weight, bias = params["attention_norm_weight"], params["attention_norm_bias"]
    x = sites[f"{at}.added"]
    yield _real(f"{at}.residual.output", x, weight, bias, EPS)
    yield from _normed(x, (weight, bias))


def _rms_norm() -> Iterator[Case]:
    at, model = "layers.1.feedforward_norm.input", passing("modern")
    weight, x = model.weights[f"{at}.weight"], model.sites["layers.1.residual_mid"]
    yield _real(f"{at}.output", x, weight, EPS)
    yield from _normed(x, (weight,))


def _normed(x: Array, parameters: Iterable[Array]) -> Iterator[Case]:
    """The same hard cases for both norms."""
    yield Case("vector", (x[0], *parameters, EPS))
    yield Case("single", (x[:1], *parameters, EPS))
    yield Case("tiny", (singles(x * 1e-3), *parameters, EPS))
    yield Case("large_eps", (x, *parameters, 0.5))
    yield Case("constant", (np.zeros_like(x[:2]), *parameters, EPS))


def _feed_forward() -> Iterator[Case]:
    for number in (0, 1):
        at, params = f"layers.{number}", layer_params(number)
        weights = [params[name] for name in ("w_up", "b_up", "w_down", "b_down")]
        x = passing("original").sites[f"{at}.residual_mid"]
        yield _real(f"{at}.feedforward.output", x, *weights)
    yield Case("vector", (x[0], *weights))
    square = (params["w_q"], params["attention_norm_bias"], params["w_k"], weights[-1])
    yield Case("square", (x, *square))


def _gated_feed_forward() -> Iterator[Case]:
    model = passing("modern")
    for number in (0, 1):
        at = f"layers.{number}.feedforward"
        weights = [model.weights[f"{at}.{name}.weight"].T for name in ("gate", "up", "down")]
        x = model.sites[f"layers.{number}.feedforward_norm.input.output"]
        yield _real(f"{at}.output", x, *weights)
    yield Case("vector", (x[0], *weights))
    yield Case("large", (x * 400.0, *weights))


def _positional_encoding() -> Iterator[Case]:
    yield _real("embedding.positions", len(IDS), passing("original").config.dim)
    yield Case("single", (1, 8))
    yield Case("longer", (50, 8))
    yield Case("narrow", (7, 2))


def _rotate() -> Iterator[Case]:
    at, sites = "layers.0.attention", passing("modern").sites
    q, k = sites[f"{at}.query"][0], sites[f"{at}.key"][2]
    positions = np.arange(len(IDS))
    yield _real(f"{at}.query_rotated[head=0]", q, positions, BASE)
    yield _real(f"{at}.key_rotated[head=2]", k, positions, BASE)
    yield Case("later", (q[:1], np.array([37]), BASE))
    wider = np.concatenate((q, k), -1)
    yield Case("other_base", (wider, positions + 3, 500.0))
    yield Case("narrow", (q[:, :2], positions, BASE))


def _embed() -> Iterator[Case]:
    table = passing("modern").weights["embedding.tokens.weight"]
    yield _real("embedding.tokens", np.array(IDS), table)
    yield Case("single", (np.array([3]), table))
    yield Case("square", (np.array([1, 11, 1]), table[:12]))


def _decoder_layer() -> Iterator[Case]:
    for number in (0, 1):
        at = f"layers.{number}"
        x = passing("original").sites[f"{at}.residual_in"]
        yield _real(f"{at}.residual_out", x, layer_params(number))
    yield Case("single", (x[:1], layer_params(1)))
    yield Case("large_eps", (x, layer_params(1) | {"eps": 0.5}))
    yield Case("large", (x * 40.0, layer_params(0)))


def _greedy() -> Iterator[Case]:
    logits = passing("modern").sites["head.logits"]
    for position, row in enumerate(logits):
        yield _real(f"head.logits[position={position}]", row)
    yield Case("ties", (np.array([1.0, 5.0, -7.0, 5.0, 2.0]),))
    yield Case("negative", (np.array([-3.0, -1.5, -2.0]),))
    yield Case("impossible", (np.array([-INF, -4.0, -INF, 0.5]),))


def _sample() -> Iterator[Case]:
    for arguments in _real_draws():
        yield _real("sampling.id", *arguments)
    logits = passing("modern").sites["head.logits"][-1]
    yield Case("no_temperature", (logits, 0.0, 0, 1.0, 0.5))
    yield Case("large_k", (logits, 1.0, 100, 1.0, 0.5))
    yield Case("one_likely", (np.array([0.0, 0.0, 9.0]), 1.0, 0, 0.5, 0.5))
    even = np.zeros(4)
    for draw in (0.0, 0.25, 0.5):
        yield Case("boundary", (even, 1.0, 0, 1.0, draw))
    yield Case("impossible", (np.array([-INF, 0.0, 0.0]), 1.0, 0, 1.0, 0.0))
    for draw in (0.1, 0.45, 0.9):
        yield Case("top_p_exact", (even, 1.0, 0, 0.5, draw))
    tied = np.array([1.0, 3.0, 3.0, 3.0, 0.0])
    for draw in (0.1, 0.4, 0.9):
        yield Case("ties", (tied, 1.0, 2, 1.0, draw))


def _real_draws() -> Iterator[tuple[Any, ...]]:
    """Every setting by itself and two of them together, with draws all over the interval."""
    logits = passing("modern").sites["head.logits"]
    settings = [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 0, 1.0), (1.0, 3, 1.0), (1.0, 0, 0.6)]
    for temperature, top_k, top_p in [*settings, (0.7, 5, 0.8), (1.5, 4, 0.7)]:
        for position in (2, 5):
            for draw in DRAWS:
                yield logits[position], temperature, top_k, top_p, draw


CASES: dict[str, Callable[[], Iterable[Case]]] = {
    "softmax": _softmax,
    "attention": _attention,
    "multi_head_attention": _multi_head_attention,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "feed_forward": _feed_forward,
    "gated_feed_forward": _gated_feed_forward,
    "embed": _embed,
    "positional_encoding": _positional_encoding,
    "rotate": _rotate,
    "decoder_layer": _decoder_layer,
    "greedy": _greedy,
    "sample": _sample,
}
