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
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import wraps
from types import BuiltinMethodType, FunctionType, GeneratorType, MethodType
from typing import Any

import jinja2
from jinja2.ext import LoopControlExtension
from jinja2.filters import FILTERS
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.tests import TESTS
from jinja2.utils import Namespace, pass_context

from lucidlm.errors import TemplateError
from lucidlm.text.metering import MAX_BITS, Budget, Generation, Metering

SHALLOW_FILTERS = (
    "default d first last length count list items map select reject selectattr rejectattr"
)
DEEP_FILTERS = (
    "abs capitalize dictsort e escape float int lower max min reverse safe sort string title trim "
    "unique upper"
)
SHALLOW_TESTS = (
    "boolean callable defined even false float integer iterable mapping none number odd sequence "
    "string true undefined sameas divisibleby"
)
DEEP_TESTS = "eq equalto == ne != lt < lessthan le <= gt > greaterthan ge >= in lower upper"
METHODS = {
    str: "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit "
    "islower isnumeric isspace istitle isupper lower lstrip partition removeprefix removesuffix "
    "rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper "
    "join replace center ljust rjust zfill",
    dict: "get items keys values copy",
    list: "count index copy",
    tuple: "count index",
}


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment; set `budget` before compiling and before each rendering."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, LoopControlExtension]
        )
        self.budget = Budget()
        self.finalize = self._output
        self.filters = {
            name: self._metered(FILTERS[name], deep=False) for name in SHALLOW_FILTERS.split()
        }
        self.filters |= {
            name: self._metered(FILTERS[name], deep=True) for name in DEEP_FILTERS.split()
        }
        self.filters |= {"tojson": self._tojson, "indent": self._indent, "replace": self._replace}
        self.filters |= {"join": self._join, "format": self._format, "round": self._round}
        self.filters |= {
            " spend": self._spend,
            " weigh": self._weighed,
            " concat": self._concat,
            " made": self._made,
        }
        known: dict[str, Any] = dict(TESTS)
        self.tests = {name: known[name] for name in SHALLOW_TESTS.split()}
        self.tests |= {name: self._metered(known[name], deep=True) for name in DEEP_TESTS.split()}
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
        tree = Metering().visit(self.parse(source))
        return jinja2.Template.from_code(self, self.compile(tree), self.make_globals(None))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            self._check_format(left, right, "%")
        elif operator == "*":
            self.budget.afford(_length(left) * _count(right) + _length(right) * _count(left))
            self._check_bits(_bits(left) + _bits(right))
        elif operator == "**":
            self._check_bits(_bits(left) * _count(right))
        else:
            self.budget.afford(_length(left) + _length(right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
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
        is_method = isinstance(obj, (BuiltinMethodType, MethodType))
        owner = obj.__self__ if is_method else None
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
            if isinstance(owner, kind) and name in methods.split():
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

    def _check_bits(self, bits: int) -> None:
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
        self._check_bits(_bits(value) + 4 * abs(precision))
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

    def __repr__(self) -> str:
        return "<Namespace>"  # not its content, which may be large


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


def _bits(value: object) -> int:
    return value.bit_length() if isinstance(value, int) else 0
