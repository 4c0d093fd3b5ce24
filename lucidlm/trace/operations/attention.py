"""The steps of attention (Vaswani et al. 2017, 3.2) and of rotary positions (Su et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lucidlm.config import MaskKind, Rope
from lucidlm.reference import equations
from lucidlm.reference.equations import Integers
from lucidlm.trace.numbers import digits, operand
from lucidlm.trace.operations.base import (
    Computed,
    Doubles,
    Index,
    Operation,
    Values,
    Worked,
    cell,
)
from lucidlm.trace.operations.working import equation, terms_of


@dataclass(frozen=True)
class Rotate(Operation):
    """Dimensions (i, i + D/2) turned by position * frequency_i."""

    kind = "rotate"
    source: str
    rope: Rope

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def compute(self, values: Values) -> Computed:
        x = equations.wide(values.read(self.source))  # (T, H, D)
        positions = np.arange(len(x))
        return Computed(equations.rotate(x, positions, self.rope), self._magnitude(x, positions))

    def cell(self, values: Values, at: Index) -> Worked:
        position, head, i = at
        x = equations.wide(values.read(self.source)[position, head])
        half = len(x) // 2
        j, sign = (i + half, -1.0) if i < half else (i - half, 1.0)
        angle = position * float(equations.frequencies(self.rope, len(x))[i % half])
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        pair, turn = x[[i, j]], np.array([cos, sign * sin])
        total = float(pair[0] * turn[0] + pair[1] * turn[1])

        def addresses(term: int) -> tuple[str, ...]:
            dim = (i, j)[term]
            index = (("position", position), ("head", head), ("head_dim", dim))
            return cell(self.source, *index), ""

        terms = terms_of(pair, turn, addresses=addresses)
        return Worked(
            terms=terms,
            total=total,
            expression=equation(total, terms),
            program=(
                "turn = np.array([np.cos(angle), sign * np.sin(angle)])\n"
                "value = x[0] * turn[0] + x[1] * turn[1]"
            ),
            arrays={"x": pair, "angle": angle, "sign": sign},
            steps=(("angle", angle, ""), ("cos", cos, ""), ("sin", sin, "")),
            magnitude=float(self._magnitude(x[None, None], np.array([position]))[0, 0, i]),
        )

    def _magnitude(self, x: Doubles, positions: Integers) -> Doubles:
        """Of x (T, H, D). The engine's angle is rounded too, and its error grows with the angle;
        with the angle before scaling, for the blend of two frequencies is no more exact than
        either.
        """
        size, half = np.abs(x), x.shape[-1] // 2
        pair = size + np.roll(size, half, axis=-1)
        turn = equations.frequencies(replace(self.rope, scaling="none"), x.shape[-1])
        angles: Doubles = np.tile(np.outer(positions, turn), 2)[:, None]  # (T, 1, D)
        return pair * (1 + angles)


@dataclass(frozen=True)
class Dot(Operation):
    """query . key; `group` query heads share a key head."""

    kind = "dot"
    query: str
    key: str
    group: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.query, self.key)

    def compute(self, values: Values) -> Computed:
        query = equations.wide(values.read(self.query)).swapaxes(0, 1)  # (H, T, D)
        key = equations.wide(values.read(self.key)).swapaxes(0, 1)  # (KV, S, D)
        magnitude = equations.products(np.abs(query), np.abs(key))
        return Computed(equations.products(query, key), magnitude)

    def cell(self, values: Values, at: Index) -> Worked:
        head, asks, answers = at
        query = equations.wide(values.read(self.query)[asks, head])
        key = equations.wide(values.read(self.key)[answers, head // self.group])
        total = float((query * key).sum())

        def addresses(i: int) -> tuple[str, ...]:
            left = ("position", asks), ("head", head), ("head_dim", i)
            right = ("position", answers), ("head", head // self.group), ("head_dim", i)
            return cell(self.query, *left), cell(self.key, *right)

        terms = terms_of(query, key, addresses=addresses)
        return Worked(
            terms=terms,
            total=total,
            expression=equation(total, terms),
            program="value = (query * key).sum()",
            arrays={"query": query, "key": key},
        )


@dataclass(frozen=True)
class ScaleAndMask(Operation):
    """products * scale (+ bias), -inf where `mask` or `window` hides the key."""

    kind = "scale_and_mask"
    products: str
    scale: float
    bias: str | None
    mask: MaskKind
    window: int | None

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.products, self.bias) if name)

    def compute(self, values: Values) -> Computed:
        """A product that no pass computed is NaN: its key lies ahead, and stays hidden."""
        value = equations.wide(values.read(self.products)) * self.scale  # (H, T, S)
        magnitude = np.abs(value)
        if self.bias is not None:
            bias = equations.wide(values.read(self.bias))
            value, magnitude = value + bias, magnitude + np.abs(bias)
        queries, keys = map(np.arange, value.shape[1:])
        unseen = equations.hidden(self.mask, queries, keys, self.window) | np.isnan(value)
        # one rounding, where the engine multiplies by this very scale
        exact = self.bias is None and float(np.float32(self.scale)) == self.scale
        return Computed(
            np.where(unseen, -np.inf, value), None if exact else np.where(unseen, 0.0, magnitude)
        )

    def cell(self, values: Values, at: Index) -> Worked:
        product = float(values.read(self.products)[at])
        place = tuple(zip(("head", "query", "key"), at, strict=True))
        from_product = ("products", product, cell(self.products, *place))
        if (note := self._hidden(at)) is not None or np.isnan(product):
            return Worked(
                terms=terms_of(-np.inf, addresses=lambda i: ("",)),
                total=-np.inf,
                expression="-inf",
                program="value = -np.inf",
                arrays={},
                steps=() if np.isnan(product) else (from_product,),
                note=note,
            )
        names, parts, factors = [self.products], [product], [self.scale]
        if self.bias is not None:
            names.append(self.bias)
            parts.append(float(values.read(self.bias)[at]))
            factors.append(1.0)
        read, by = np.array(parts), np.array(factors)
        total = float((read * by).sum())
        terms = terms_of(read, by, addresses=lambda i: (cell(names[i], *place), ""))
        return Worked(
            terms=terms,
            total=total,
            expression=equation(total, terms),
            program="value = (read * factors).sum()",
            arrays={"read": read, "factors": by},
        )

    def _hidden(self, at: Index) -> tuple[str, dict[str, object]] | None:
        """Why the query may not see the key; None where it may."""
        _, query, key = at
        if not equations.hidden(self.mask, [query], [key], self.window)[0, 0]:
            return None
        if self.mask != "full" and key > query:
            return "explain.masked_future", {"query": query, "key": key}
        if self.mask == "strict" and key == query:
            return "explain.masked_self", {"query": query}
        return "explain.masked_window", {"query": query, "key": key, "window": self.window}


@dataclass(frozen=True)
class Softmax(Operation):
    """exp(x - max) / sum(exp(x - max)) over the last axis; 0 in a row that sees nothing."""

    kind = "softmax"
    source: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def compute(self, values: Values) -> Computed:
        scores = _visible(values.read(self.source))
        return Computed(equations.softmax(scores), spread(scores))

    def cell(self, values: Values, at: Index) -> Worked:
        head, query, key = at
        scores = _visible(values.read(self.source)[head, query])
        keys = np.flatnonzero(scores > -np.inf)
        if not (keys == key).any():
            return Worked(
                terms=terms_of([], addresses=lambda i: ("",)),
                total=0.0,
                expression="0 = exp(-inf)",
                program="value = 0.0",
                arrays={},
                note=("explain.hidden_weight", {"query": query, "key": key}),
            )

        def address(key: int) -> str:
            return cell(self.source, ("head", head), ("query", query), ("key", key))

        return softmax_cell("scores", scores, keys, key, address)


@dataclass(frozen=True)
class WeightedSum(Operation):
    """sum over keys of pattern * value; `group` query heads share a value head."""

    kind = "weighted_sum"
    pattern: str
    value: str
    group: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.pattern, self.value)

    def compute(self, values: Values) -> Computed:
        pattern = np.nan_to_num(equations.wide(values.read(self.pattern)))  # (H, T, S)
        value = equations.wide(values.read(self.value)).swapaxes(0, 1)  # (KV, S, D)
        mixed = equations.weighted_sum(pattern, value)
        magnitude = equations.weighted_sum(pattern, np.abs(value))
        return Computed(mixed.swapaxes(0, 1), magnitude.swapaxes(0, 1))

    def cell(self, values: Values, at: Index) -> Worked:
        query, head, dim = at
        row = np.nan_to_num(equations.wide(values.read(self.pattern)[head, query]))
        column = equations.wide(values.read(self.value)[:, head // self.group, dim])
        keys = np.flatnonzero(row)
        pattern, value = row[keys], column[keys]
        total = float((pattern * value).sum())

        def addresses(i: int) -> tuple[str, ...]:
            key = int(keys[i])
            left = ("head", head), ("query", query), ("key", key)
            right = ("position", key), ("head", head // self.group), ("head_dim", dim)
            return cell(self.pattern, *left), cell(self.value, *right)

        terms = terms_of(pattern, value, addresses=addresses)
        return Worked(
            terms=terms,
            total=total,
            expression=equation(total, terms) if keys.size else "0",
            program="value = (pattern * column).sum()",
            arrays={"pattern": pattern, "column": value},
            steps=(("zeros", float(row.size - keys.size), ""),),
        )


def _visible(scores: object) -> Doubles:
    """Scores in float64; what no pass computed is hidden."""
    wide: Doubles = np.nan_to_num(np.asarray(scores, np.float64), nan=-np.inf, neginf=-np.inf)
    return wide


def softmax_cell(
    name: str, scores: Doubles, seen: Integers, at: int, address: Callable[[int], str]
) -> Worked:
    """The share of `at` among the scores that are `seen`; a score stands at `address(its index)`,
    and is called `name` in the program.
    """
    highest, own = int(seen[np.argmax(scores[seen])]), int(np.flatnonzero(seen == at)[0])
    powers = np.exp(scores[seen] - scores[highest])
    total = float(powers[own] / powers.sum())
    exponent = f"{operand(scores[at])} - {operand(scores[highest])}"
    return Worked(
        terms=terms_of(powers, addresses=lambda i: (address(int(seen[i])),)),
        total=total,
        expression=f"{digits(total)} = exp({exponent}) / {operand(powers.sum())}",
        program=f"powers = np.exp({name} - {name}.max())\nvalue = powers[own] / powers.sum()",
        arrays={name: scores[seen], "own": own},
        steps=(
            ("max", float(scores[highest]), address(highest)),
            ("exp", float(powers[own]), address(at)),
            ("sum", float(powers.sum()), ""),
        ),
        magnitude=float(spread(scores[seen])[own]),
    )


def spread(scores: Doubles) -> Doubles:
    """What rounding errors of a softmax are a multiple of. An exponential's grows with how far the
    score is below the highest, and all of them are in the sum.
    """
    seen = scores > -np.inf
    highest = np.where(seen, scores, -np.inf).max(-1, keepdims=True)
    depth = np.where(seen, highest - np.where(seen, scores, 0.0), 0.0)
    share = equations.softmax(scores)
    sizes: Doubles = share * (1 + depth + (share * depth).sum(-1, keepdims=True))
    return sizes
