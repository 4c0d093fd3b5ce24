"""Equations drawn: every row's, well-formed and with nothing left out."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from lucidlm.trace.mathml import mathml
from lucidlm.trace.rows import ROWS

SPACE = "{http://www.w3.org/1998/Math/MathML}"
DRAWN = {"sqrt"}  # as something else than their names
ARITIES = {"msub": 2, "msup": 2, "mfrac": 2, "munder": 2}


def drawn(equation: str) -> ElementTree.Element:
    return ElementTree.fromstring(mathml(equation))


def plain(element: ElementTree.Element) -> str:
    """Back to text, so that a picture can be read."""
    tag, inner = element.tag.removeprefix(SPACE), [plain(child) for child in element]
    if tag in ("mi", "mn", "mo"):
        return (element.text or "").replace("\u2061", "")
    if tag in ARITIES:
        return f"{tag}<{'|'.join(inner)}>"
    return f"sqrt<{''.join(inner)}>" if tag == "msqrt" else "".join(inner)


@pytest.mark.parametrize("key", ROWS)
def test_every_row_is_drawn_whole(key: str) -> None:
    equation = ROWS[key].equation
    root = drawn(equation)
    assert root.tag == f"{SPACE}math"
    words = {element.text for element in root.iter() if element.tag == f"{SPACE}mi"}
    names = {name.removeprefix("sum_") for name in re.findall(r"[A-Za-z][\w.]*", equation)}
    assert words == names - DRAWN
    numbers = [element.text for element in root.iter() if element.tag == f"{SPACE}mn"]
    assert sorted(numbers) == sorted(re.findall(r"(?<![\w.])\d+", equation))
    for element in root.iter():
        if arity := ARITIES.get(element.tag.removeprefix(SPACE)):
            assert len(element) == arity


@pytest.mark.parametrize("key", ROWS)
def test_a_row_names_its_site_first_and_fits_its_axes(key: str) -> None:
    """`x[p,d] = ...` has as many indices as the site has axes."""
    left, equals, _ = ROWS[key].equation.partition("=")
    assert equals
    indices = re.search(r"\[(.*)\]", left)
    tokenizer_list = key in ("tokenizer.pretokens", "tokenizer.merges", "tokenizer.pieces")
    count = len(indices[1].split(",")) if indices else 0
    assert count == len(ROWS[key].axes) or tokenizer_list


@pytest.mark.parametrize(
    ("equation", "picture"),
    [
        ("a = b + c * d", "a=b+c\u22c5d"),
        ("a = (b - c) / d", "a=mfrac<b\u2212c|d>"),
        ("a = 2 * b / c", "a=mfrac<2\u22c5b|c>"),
        ("a = b * (c + d)", "a=b\u22c5(c+d)"),
        ("a = b / (c / d) * e", "a=mfrac<b|mfrac<c|d>>\u22c5e"),
        ("a = (b - c)^2", "a=msup<(b\u2212c)|2>"),
        ("a = 2^(b + 1)", "a=msup<2|b+1>"),
        ("a = 2^b^c", "a=msup<2|msup<b|c>>"),
        ("a = -b - -c", "a=\u2212b\u2212\u2212c"),
        ("a = (b + c) + d", "a=(b+c)+d"),
        ("a[i,j] = b[c[i],j]", "msub<a|i,j>=msub<b|msub<c|i>,j>"),
        ("a = sum_k(b[k]) / n", "a=mfrac<munder<\u2211|k>msub<b|k>|n>"),
        ("a = sqrt(b + 1)", "a=sqrt<b+1>"),
        ("a = f(b, c > d)", "a=f(b,c>d)"),
        ("a = exp((b))", "a=exp((b))"),
    ],
)
def test_the_picture(equation: str, picture: str) -> None:
    assert plain(drawn(equation)) == picture


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "a =",
        "a = b +",
        "a = (b",
        "a = b)",
        "a = b c",
        "a[i = b",
        "a = 1 & 2",
        "a = sqrt",
        "* a",
    ],
)
def test_what_is_no_equation(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        mathml(wrong)
