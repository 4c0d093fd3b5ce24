"""A jinja2 environment for chat templates out of strangers' files: sandboxed, and bounded in time,
memory and output.

jinja2's own sandbox keeps a template away from Python's internals, but not from `"x" * 10**10`,
nested loops, or a list that holds itself twice, forty times over. So everything a template can do
that makes or reads a value passes through a `Budget`: operators, filters, tests, calls, slices,
loops and outputs. Two rules follow from one number each:

- nothing may be read as a whole (printed, compared, joined, searched) that is larger than MAX_VALUE
  written out;
- everything made, read and repeated adds up to at most MAX_WORK, and the clock is looked at on the
  way.

Loops, comparisons, `~` and slices are plain Python in compiled templates; `_Metering` routes them
through filters, whose names no template can spell because they begin with a space.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import wraps
from types import BuiltinMethodType, FunctionType, GeneratorType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.tests import TESTS
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

from lucidlm.errors import TemplateError

MAX_VALUE = 2_000_000  # characters and elements in one value, written out
MAX_WORK = 64_000_000  # the same, over everything made and read in one rendering
MAX_SECONDS = 2.0
MAX_BITS = 4096  # of a whole number

SHALLOW_FILTERS = (
    "default",
    "d",
    "first",
    "last",
    "length",
    "count",
    "list",
    "items",
    "map",
    "select",
    "reject",
)
SHALLOW_FILTERS += ("selectattr", "rejectattr")
DEEP_FILTERS = (
    "abs",
    "capitalize",
    "dictsort",
    "e",
    "escape",
    "float",
    "int",
    "lower",
    "max",
    "min",
    "reverse",
)
DEEP_FILTERS += ("safe", "sort", "string", "title", "trim", "unique", "upper")
SHALLOW_TESTS = (
    "boolean",
    "callable",
    "defined",
    "even",
    "false",
    "float",
    "integer",
    "iterable",
    "mapping",
    "none",
)
SHALLOW_TESTS += (
    "number",
    "odd",
    "sequence",
    "string",
    "true",
    "undefined",
    "sameas",
    "divisibleby",
)
DEEP_TESTS = (
    "eq",
    "equalto",
    "==",
    "ne",
    "!=",
    "lt",
    "<",
    "lessthan",
    "le",
    "<=",
    "gt",
    ">",
    "greaterthan",
    "ge",
    ">=",
)
DEEP_TESTS += ("in", "lower", "upper")
METHODS = {
    str: "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric isspace "
    "istitle isupper lower lstrip partition removeprefix removesuffix rfind rindex rpartition rsplit rstrip split "
    "splitlines startswith strip swapcase title upper join replace center ljust rjust zfill",
    dict: "get items keys values copy",
    list: "count index copy",
    tuple: "count index",
}


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
            total += 1
            if isinstance(item, str):
                total += len(item)
            elif isinstance(item, dict):
                stack.extend(item)
                stack.extend(item.values())
            elif isinstance(item, (list, tuple)):
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


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment; set `budget` before compiling and before each rendering."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControlExtension]
        )
        self.budget = Budget()
        self.finalize = self._output
        self.filters = {name: self._metered(FILTERS[name], deep=False) for name in SHALLOW_FILTERS}
        self.filters |= {name: self._metered(FILTERS[name], deep=True) for name in DEEP_FILTERS}
        self.filters |= {"tojson": self._tojson, "indent": self._indent, "replace": self._replace}
        self.filters |= {"join": self._join, "format": self._format, "round": self._round}
        self.filters |= {
            " spend": self._spend,
            " weigh": self._weighed,
            " concat": self._concat,
            " made": self._made,
        }
        self.tests = {name: TESTS[name] for name in SHALLOW_TESTS}
        self.tests |= {name: self._metered(TESTS[name], deep=True) for name in DEEP_TESTS}
        functions: dict[str, Callable[..., Any]] = {
            "range": safe_range,
            "dict": lambda *args, **kwargs: dict(*args, **kwargs),
            "namespace": _PublicNamespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }
        self.globals = dict(functions)
        self._functions = tuple(functions.values())

    def template(self, source: str) -> jinja2.Template:
        """Compile a template with its loops and plain operations metered."""
        tree = _Metering().visit(self.parse(source))
        return jinja2.Template.from_code(self, self.compile(tree), self.make_globals(None))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            self._check_format(left, right, "%")
        elif operator == "+" and not isinstance(left, str):
            self.budget.afford(_length(left) + _length(right))
        elif operator == "*":
            self.budget.afford(_length(left) * _count(right) + _length(right) * _count(left))
            self._check_numbers(left, right)
        elif operator == "**":
            self._check_numbers(left, *([left] * _count(right)))
        else:
            self.budget.afford(_length(left) + _length(right))
        return self.budget.made(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: B902, N805
        budget = __self.budget
        budget.spend(len(args) + len(kwargs))
        if not isinstance(__obj, (Macro, LoopContext)):
            budget.weigh((args, kwargs))
            __self._check_callable(__obj, args)
        return budget.made(super().call(__context, __obj, *args, **kwargs))

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, tuple):
            self.budget.weigh(argument)  # it will be hashed
        return super().getitem(obj, argument)

    def _check_callable(self, obj: Any, args: tuple[Any, ...]) -> None:
        """Refuse what is not one of ours, a loop's own method, or a harmless method of a plain
        value."""
        if any(obj is function for function in self._functions):
            return
        owner = getattr(obj, "__self__", None)
        name = getattr(obj, "__name__", type(obj).__name__)
        if isinstance(owner, LoopContext) and name in ("cycle", "changed"):
            return
        if isinstance(obj, FunctionType) and isinstance(
            wrapped := getattr(obj, "__wrapped__", None), BuiltinMethodType
        ):
            self._check_format(
                str(wrapped.__self__), args, "{"
            )  # str.format, as jinja2's sandbox wraps it
            return
        for kind, methods in METHODS.items():
            if (
                isinstance(obj, BuiltinMethodType)
                and isinstance(owner, kind)
                and name in methods.split()
            ):
                self._check_method(owner, name, args)
                return
        raise TemplateError("text.template_refused", name=name)

    def _check_method(self, owner: Any, name: str, args: tuple[Any, ...]) -> None:
        self.budget.weigh(owner)
        if name == "join" and args:
            self.budget.afford(len(owner) * _length(args[0]))
        elif name == "replace" and len(args) > 1:
            self._check_replace(owner, args[0], args[1])
        elif name in ("center", "ljust", "rjust", "zfill") and args:
            self.budget.afford(_count(args[0]))

    def _check_replace(self, text: str, old: str, new: str) -> None:
        self.budget.afford(len(text) + text.count(old) * len(new))

    def _check_format(self, template: str, values: object, mark: str) -> None:
        """Formatting may name a value often and pad it widely: bound the product, and refuse widths
        of four digits."""
        wide = r"%[^a-zA-Z%]*(\*|\d{4})" if mark == "%" else r"[:!][^{}]*(\{|\d{4})"
        if re.search(wide, template):
            raise TemplateError("text.template_refused", name=template[:40])
        self.budget.afford(
            len(template) + template.count(mark) * (1000 + self.budget.weigh(values))
        )

    def _check_numbers(self, *factors: Any) -> None:
        bits = sum(factor.bit_length() for factor in factors if isinstance(factor, int))
        if bits > MAX_BITS:
            raise TemplateError("text.template_large", limit=MAX_BITS)

    @pass_context
    def _output(self, context: Context, value: Any) -> Any:
        self.budget.weigh(value)
        return value

    def _metered(self, function: Callable[..., Any], *, deep: bool) -> Callable[..., Any]:
        """A filter or test that spends for its result, and first for all that it reads if it reads
        in depth."""
        skip = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def metered(*args: Any, **kwargs: Any) -> Any:
            given = [*args[:skip], *(self._plain(value) for value in args[skip:])]
            if deep:
                self.budget.weigh((given[skip:], kwargs))
            return self.budget.made(function(*given, **kwargs))

        return metered

    def _plain(self, value: Any) -> Any:
        """A lazy sequence as a list, its elements paid for."""
        if not isinstance(value, (GeneratorType, range)):
            return value
        items = []
        for item in value:
            self.budget.spend(1)
            items.append(item)
        return items

    def _spend(self, amount: int) -> str:
        self.budget.spend(amount)
        return ""

    def _weighed(self, value: Any) -> Any:
        self.budget.weigh(value)
        return value

    def _made(self, value: Any) -> Any:
        return self.budget.made(value)

    def _concat(self, values: list[Any]) -> str:
        self.budget.weigh(values)
        return "".join(map(str, values))

    def _join(self, value: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
        items = self._plain(value)
        if attribute is not None:
            items = [self.getitem(item, attribute) for item in items]
        items = list(items)
        self.budget.afford(self.budget.weigh(items) + len(items) * len(d))
        return str(d).join(map(str, items))

    def _replace(self, text: Any, old: str, new: str, count: int = -1) -> str:
        self.budget.weigh((text, old, new))
        self._check_replace(str(text), str(old), str(new))
        return str(text).replace(str(old), str(new), count)

    def _indent(
        self, text: Any, width: int | str = 4, first: bool = False, blank: bool = False
    ) -> str:
        self.budget.weigh((text, width))
        size = len(width) if isinstance(width, str) else width
        self.budget.afford(len(str(text)) + (str(text).count("\n") + 1) * max(size, 0))
        return str(FILTERS["indent"](str(text), width, first, blank))

    def _format(self, template: Any, *args: Any, **kwargs: Any) -> str:
        self._check_format(str(template), (args, kwargs), "%")
        return str(template) % (kwargs or args)

    def _round(self, value: float, precision: int = 0, method: str = "common") -> float:
        if abs(precision) > 20 or (isinstance(value, int) and value.bit_length() > MAX_BITS):
            raise TemplateError("text.template_large", limit=20)
        return float(FILTERS["round"](value, precision, method))

    def _tojson(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        """JSON without jinja2's HTML escapes, as chat templates expect; in parts, since nesting
        multiplies an indent."""
        self.budget.weigh(value)
        width = len(indent) if isinstance(indent, str) else indent or 0
        self.budget.afford(max(0, width) * 1000)
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        parts = []
        for part in encoder.iterencode(value):
            self.budget.spend(len(part))
            parts.append(part)
        return "".join(parts)


class _Metering(NodeTransformer):
    """Routes what compiles to plain Python through the budget, and refuses what a single template
    has no use for."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        node.body.insert(0, _charge(node))
        return self._inner(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        node.body.insert(0, _charge(node))
        return self._inner(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.CallBlock:
        node.body.insert(0, _charge(node))
        return self._inner(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self._inner(node)
        node.expr = _filter(node.expr, " weigh")
        for operand in node.ops:
            operand.expr = _filter(operand.expr, " weigh")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self._inner(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), " concat")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self._inner(node)
        return _filter(node, " made") if isinstance(node.arg, nodes.Slice) else node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        self._inner(node)
        node.key = _filter(node.key, " weigh")  # it will be hashed
        return node

    def _refuse(self, node: nodes.Node) -> nodes.Node:
        raise TemplateError("text.template_refused", name=type(node).__name__.lower())

    visit_Block = visit_Extends = visit_Include = visit_Import = visit_FromImport = _refuse

    def _inner(self, node: Any) -> Any:
        return self.generic_visit(node)


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


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}`, with which templates mark the model's own words for
    training: no effect here."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(
            parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line
        )


class _PublicNamespace(Namespace):
    """A namespace whose names may not begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # `self` must stay free as a name
        self, *values = args
        names = dict(*values, **kwargs)
        for name in names:
            _public(name)
        Namespace.__init__(self, names)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)


def _public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise TemplateError("text.template_refused", name=name)


def _raise_exception(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _strftime_now(format: str) -> str:
    if len(format) > 100 or re.search(r"%[^a-zA-Z%]*\d", format):
        raise TemplateError("text.template_refused", name=format[:40])
    return datetime.now().strftime(format)


def _length(value: object) -> int:
    """Elements of what `+` and `*` can lengthen."""
    return len(value) if isinstance(value, (str, list, tuple)) else 0


def _count(value: object) -> int:
    """A whole number that a value is to be repeated by; bounded, so that products of it stay
    small."""
    return max(0, min(value, 1 << 62)) if isinstance(value, int) else 0
