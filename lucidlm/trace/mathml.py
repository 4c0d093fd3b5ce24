"""The equations of `lucidlm.trace.rows`, drawn: plain text to presentation MathML.

    equation = sum {("=" | ">") sum}
    sum      = product {("+" | "-") product}
    product  = power {("*" | "/") power}
    power    = ["-"] atom ["^" power]
    atom     = number | "(" sum ")" | name ["[" list "]"] ["(" list ")"]
    list     = equation {"," equation}

`name[i,j]` has subscripts, `sqrt(x)` a root, and `sum_k(x)` is a sum over k.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

_TOKEN = re.compile(r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z][\w.]*)|(?P<sign>\S))")
_SIGNS = {"*": "&#x22C5;", "-": "&#x2212;", ">": "&gt;", "=": "=", "+": "+"}
_APPLY = "<mo>&#x2061;</mo>"  # invisible: a function of what follows
_SUM = "sum_"


def mathml(equation: str) -> str:
    """A `<math>` element. Raises ValueError where `equation` is not one of this grammar."""
    parser = _Parser(equation)
    drawn = parser.equation()
    parser.expect("")
    return (
        '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">'
        f"<mrow>{drawn.inside}</mrow></math>"
    )


@dataclass(frozen=True)
class _Drawn:
    """Elements side by side. `parentheses` go round them, except where a bar or a root takes their
    place.
    """

    inside: str
    parentheses: bool = False

    @property
    def row(self) -> str:
        """As one element, without parentheses."""
        return f"<mrow>{self.inside}</mrow>"

    @property
    def whole(self) -> str:
        return _fenced("(", self.inside, ")") if self.parentheses else self.inside


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [(m.lastgroup or "", m[m.lastgroup or 0]) for m in _TOKEN.finditer(text)]
        self.tokens.append(("end", ""))
        self.at = 0

    @property
    def next(self) -> str:
        return self.tokens[self.at][1]

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][1]

    def expect(self, sign: str) -> None:
        if self.next != sign:
            raise ValueError(f"{sign or 'end'!r} expected, not {self.next!r}, in {self.text!r}")
        self.at += 1

    def equation(self) -> _Drawn:
        return self.chain(("=", ">"), self.sum)

    def sum(self) -> _Drawn:
        return self.chain(("+", "-"), self.product)

    def chain(self, signs: tuple[str, ...], part: Callable[[], _Drawn]) -> _Drawn:
        drawn = part()
        while self.next in signs:
            sign = _SIGNS[self.take()]
            drawn = _Drawn(f"{drawn.whole}<mo>{sign}</mo>{part().whole}")
        return drawn

    def product(self) -> _Drawn:
        drawn = self.power()
        while self.next in ("*", "/"):
            if self.take() == "*":
                drawn = _Drawn(f"{drawn.whole}<mo>{_SIGNS['*']}</mo>{self.power().whole}")
            else:
                drawn = _Drawn(f"<mfrac>{drawn.row}{self.power().row}</mfrac>")
        return drawn

    def power(self) -> _Drawn:
        if self.next == "-":
            self.take()
            return _Drawn(f"<mo>{_SIGNS['-']}</mo>{self.power().whole}")
        base = self.atom()
        if self.next != "^":
            return base
        self.take()
        return _Drawn(f"<msup><mrow>{base.whole}</mrow>{self.power().row}</msup>")

    def atom(self) -> _Drawn:
        kind, _ = self.tokens[self.at]
        if kind == "number":
            return _Drawn(f"<mn>{self.take()}</mn>")
        if kind == "name":
            return self.named(self.take())
        self.expect("(")
        inside = self.sum()
        self.expect(")")
        return _Drawn(inside.inside, parentheses=True)

    def named(self, name: str) -> _Drawn:
        if name == "sqrt":
            return _Drawn(f"<msqrt>{self.arguments('(', ')')}</msqrt>")
        if name.startswith(_SUM):
            over = f"<mi>{escape(name.removeprefix(_SUM))}</mi>"
            sign = f"<munder><mo>&#x2211;</mo>{over}</munder>"
            return _Drawn(f"{sign}<mrow>{self.arguments('(', ')')}</mrow>")
        drawn = f"<mi>{escape(name)}</mi>"
        if self.next == "[":
            drawn = f"<msub>{drawn}<mrow>{self.arguments('[', ']')}</mrow></msub>"
        if self.next == "(":
            drawn += _APPLY + _fenced("(", self.arguments("(", ")"), ")")
        return _Drawn(drawn)

    def arguments(self, left: str, right: str) -> str:
        self.expect(left)
        found = [self.equation().whole]
        while self.next == ",":
            self.take()
            found.append(self.equation().whole)
        self.expect(right)
        return '<mo separator="true">,</mo>'.join(found)


def _fenced(left: str, inside: str, right: str) -> str:
    return f"<mrow><mo>{left}</mo>{inside}<mo>{right}</mo></mrow>"
