"""What a chat template may use up, and how its compiled code is made to account for it.

Loops, comparisons, `~` and slices are plain Python in compiled templates. `Metering` routes them
through filters of the sandbox, whose names no template can spell because they begin with a space.
"""

from __future__ import annotations

import time
from collections.abc import ItemsView, KeysView, ValuesView
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer

from lucidlm.errors import TemplateError

MAX_VALUE = 2_000_000  # characters and elements in one value, written out
MAX_WORK = 64_000_000  # the same, over everything made and read in one rendering
MAX_SECONDS = 2.0
NODE = 8  # what an element weighs beside its characters
MAX_BITS = 4096  # of a whole number


class Budget:
    """What one rendering may still use up."""

    def __init__(self) -> None:
        self.left = MAX_WORK
        self.deadline = time.monotonic() + MAX_SECONDS

    def spend(self, amount: int) -> None:
        """Take `amount` characters, elements or repetitions off, and look at the clock."""
        self.left -= amount + 1
        if self.left < 0:
            raise TemplateError("text.template_large", limit=MAX_WORK)
        if time.monotonic() > self.deadline:
            raise TemplateError("text.template_slow", seconds=MAX_SECONDS)

    def weigh(self, value: object) -> int:
        """The size of `value` written out, a list that is in it twice counted twice; spends as
        much."""
        total, stack = 0, [value]
        while stack:
            item = stack.pop()
            total += NODE
            if isinstance(item, str):
                total += len(item)
            elif isinstance(item, dict):
                stack.extend(item)
                stack.extend(item.values())
            elif isinstance(item, (list, tuple, KeysView, ValuesView, ItemsView)):
                stack.extend(item)
            elif isinstance(item, int) and item.bit_length() > MAX_BITS:
                total += MAX_VALUE
            if total + len(stack) > MAX_VALUE:
                raise TemplateError("text.template_large", limit=MAX_VALUE)
        self.spend(total)
        return total

    def afford(self, size: int) -> None:
        """Refuse to make a value of this size if that is too large."""
        if size > MAX_VALUE:
            raise TemplateError("text.template_large", limit=MAX_VALUE)
        self.spend(size)

    def made(self, value: Any) -> Any:
        """Spend the length of a value just made, not counting what is in it."""
        self.spend(len(value) if isinstance(value, (str, list, tuple, dict)) else 1)
        return value


class Metering(NodeTransformer):
    """Routes what compiles to plain Python through the budget, and refuses what a single template
    has no use for."""

    def _repeated(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        node.body.insert(0, _charge(node))
        return self.generic_visit(node)

    visit_For = visit_Macro = visit_CallBlock = _repeated

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _filter(node.expr, " weigh")
        for operand in node.ops:
            operand.expr = _filter(operand.expr, " weigh")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), " concat")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        return _filter(node, " made") if isinstance(node.arg, nodes.Slice) else node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        self.generic_visit(node)
        node.key = _filter(node.key, " weigh")  # it will be hashed
        return node

    def _refuse(self, node: nodes.Node) -> nodes.Node:
        raise TemplateError("text.template_refused", name=type(node).__name__.lower())

    visit_Block = visit_Extends = visit_Include = visit_Import = visit_FromImport = _refuse


def _charge(node: nodes.Node) -> nodes.ExprStmt:
    """A statement that pays for one pass through `node`: its text, and one for each thing it
    does."""
    text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
    size = text + sum(1 for _ in node.find_all(nodes.Node))
    return nodes.ExprStmt(
        _filter(nodes.Const(size, lineno=node.lineno), " spend"), lineno=node.lineno
    )


def _filter(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class Generation(Extension):
    """`{% generation %}...{% endgeneration %}`, with which templates mark the model's own words for
    training: no effect here."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(
            parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line
        )
