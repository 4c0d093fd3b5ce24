"""The house: who may import whom, what may not be written where, and how long a file may grow.

Everything is read off the source with `ast`; nothing is imported. Each rule is also shown to fail
on a few lines that break it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lucidlm"
FILE_LINES = 450
MODEL_LINES = 1250

GROUND = set("config parameters count text classical reference engine".split())
GROUND |= {"errors", "files", "locale", "home", "hardware", "plain", "stored"}
KNOWING = {"model", "families"}
DOING = {"generate", "trace", "train", "checkpoint", "backends"}
FACES = {"cli", "terminal", "serve", "lessons"}

# Part -> the parts it may lean on besides itself. `lucidlm` is the package's own __init__.
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(GROUND | KNOWING | {"generate"}, GROUND),
    "checkpoint": GROUND | {"families"},
    "backends": GROUND | {"model"},
    "trace": GROUND | {"generate"},
    "train": GROUND | KNOWING | {"checkpoint", "generate"},
    "api": GROUND | KNOWING | DOING,
    "lucidlm": GROUND | DOING | {"api"},
    **dict.fromkeys(FACES, GROUND | DOING | {"api", "lucidlm"}),
}
MAY_IMPORT["cli"] = MAY_IMPORT["cli"] | FACES  # it starts the other faces
MAY_IMPORT["__main__"] = {"cli"}
MAY_IMPORT["terminal"] = MAY_IMPORT["terminal"] | {"lessons"}  # it draws them
MAY_IMPORT_TORCH = {"model", "train", "backends"}
MAY_PRINT = {"cli", "terminal"}

FAMILIES = re.compile(
    r"(?<![a-z])(gpt|llama|gemma|bert|t5|bart|marian|qwen|mistral|smollm)(?![a-z])"
)
PUBLISHED_KINDS = {"llama3"}  # the published name of a way to scale RoPE, which any family may use

Sources = Mapping[str, str]  # dotted module -> source
Rule = Callable[[Sources], Iterator[str]]
RULES: list[Rule] = []

parse = cache(ast.parse)


def rule(check: Rule) -> Rule:
    RULES.append(check)
    return check


# -- rules: each yields one line for every breach --------------------------------------------------


@rule
def imports_run_downwards(sources: Sources) -> Iterator[str]:
    for module, source in sources.items():
        for line, target in imports(module, source, sources):
            above, below = part(module), part(target)
            if above not in MAY_IMPORT:
                yield f"{module}: the part {above} has no place in the house (MAY_IMPORT)"
            elif below and below != above and below not in MAY_IMPORT[above]:
                yield f"{module}:{line}: {above} may not import {below} ({target})"


@rule
def no_cycles(sources: Sources) -> Iterator[str]:
    graph = {
        module: {t for _, t in imports(module, source, sources) if t in sources}
        for module, source in sources.items()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> Iterator[str]:
        if module in path:
            yield "cycle: " + " -> ".join((*path[path.index(module) :], module))
        elif module not in done:
            for target in sorted(graph[module]):
                yield from visit(target, (*path, module))
            done.add(module)

    for module in graph:
        yield from visit(module, ())


@rule
def torch_stays_in_its_rooms(sources: Sources) -> Iterator[str]:
    for module, source in sources.items():
        if part(module) not in MAY_IMPORT_TORCH:
            for line, target in imports(module, source, sources):
                if "torch" in target.split("."):
                    yield f"{module}:{line}: imports {target}"


@rule
def model_knows_no_family(sources: Sources) -> Iterator[str]:
    for module, source in sources.items():
        if part(module) == "model":
            for line, word in words(parse(source)):
                parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).lower()
                if word not in PUBLISHED_KINDS and FAMILIES.search(parts):
                    yield f"{module}:{line}: names a family: {word!r}"


@rule
def library_does_not_print(sources: Sources) -> Iterator[str]:
    for module, source in sources.items():
        if part(module) not in MAY_PRINT:
            for call, name in calls(source):
                if name == "print":
                    yield f"{module}:{call.lineno}: print"


@rule
def no_code_out_of_data(sources: Sources) -> Iterator[str]:
    for module, source in sources.items():
        for line, target in imports(module, source, sources):
            if target.split(".")[0] in {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib"}:
                yield f"{module}:{line}: imports {target}"
        for call, name in calls(source):
            if name in {"eval", "exec", "torch.load", "torch.save"}:
                yield f"{module}:{call.lineno}: {name}"
            for keyword in call.keywords:
                if keyword.arg in {"allow_pickle", "trust_remote_code"} and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                ):
                    yield f"{module}:{call.lineno}: {keyword.arg}"


@rule
def no_bare_except(sources: Sources) -> Iterator[str]:
    for module, source in sources.items():
        for node in ast.walk(parse(source)):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                yield f"{module}:{node.lineno}: bare except"


@rule
def files_stay_short(sources: Sources) -> Iterator[str]:
    model = 0
    for module, source in sources.items():
        lines = len(source.splitlines())
        model += lines if part(module) == "model" else 0
        if lines > FILE_LINES:
            yield f"{module}: {lines} lines, at most {FILE_LINES}"
    if model > MODEL_LINES:
        yield f"lucidlm.model: {model} lines in all, at most {MODEL_LINES}"


# -- reading the source ----------------------------------------------------------------------------


def part(module: str) -> str:
    """The part of the house that `module` belongs to; empty when it is not ours."""
    package, _, rest = module.partition(".")
    return "" if package != "lucidlm" else rest.split(".")[0] or "lucidlm"


def imports(module: str, source: str, sources: Sources) -> Iterator[tuple[int, str]]:
    """Line and dotted target of every import, those inside functions included.

    `from package import name` is the module `package.name` where there is one, else `package`.
    """
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if is_package(module, sources) else module.rpartition(".")[0]
                for _ in range(node.level - 1):
                    package = package.rpartition(".")[0]
                base = f"{package}.{base}".rstrip(".")
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                ours = base.split(".")[0] != "lucidlm" or submodule in sources
                yield node.lineno, submodule if ours else base
        elif isinstance(node, ast.Call) and called(node) in {"import_module", "__import__"}:
            match node.args:
                case [ast.Constant(value=str(name)), *_]:
                    yield node.lineno, name


def is_package(module: str, sources: Sources) -> bool:
    return any(other.startswith(module + ".") for other in sources)


def words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every identifier and string in the code; docstrings are prose."""
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            if isinstance(word := getattr(node, field, None), str):
                yield line, word
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield line, node.value


def calls(source: str) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the dotted name of what is called."""
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def called(node: ast.Call) -> str:
    return ast.unparse(node.func).rpartition(".")[2]


def package_sources() -> dict[str, str]:
    """The whole package, by dotted module name. A lesson's script for the reader is no module."""
    sources = {}
    for path in sorted(set(PACKAGE.rglob("*.py")) - set(PACKAGE.glob("lessons/*/code.py"))):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        sources[module] = path.read_text(encoding="utf-8")
    return sources


# -- the tests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", RULES, ids=lambda check: check.__name__)
def test_the_house_stands(check: Rule) -> None:
    breaches = sorted(set(check(package_sources())))
    assert not breaches, "\n" + "\n".join(breaches)


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples", "scripts"])
def test_files_outside_the_package_stay_short(folder: str) -> None:
    files = {str(path): path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py")}
    assert list(files_stay_short(files)) == []


BREACHES: list[tuple[Rule, dict[str, str]]] = [
    (imports_run_downwards, {"lucidlm.config": "from lucidlm.generate import loop"}),
    (imports_run_downwards, {"lucidlm.text.bpe": "def f():\n    import lucidlm.model.norm"}),
    (imports_run_downwards, {"lucidlm.families.a": "from ..model import norm"}),
    (
        imports_run_downwards,
        {"lucidlm.model.a": "from lucidlm import families", "lucidlm.families": ""},
    ),
    (imports_run_downwards, {"lucidlm.generate.a": "from lucidlm.families import find"}),
    (imports_run_downwards, {"lucidlm.backends.a": "import lucidlm.trace.sites"}),
    (imports_run_downwards, {"lucidlm.checkpoint.a": "import lucidlm.model"}),
    (imports_run_downwards, {"lucidlm.cli.a": "import lucidlm.families"}),
    (imports_run_downwards, {"lucidlm.rag": "import lucidlm.errors"}),
    (no_cycles, {"lucidlm.a": "from lucidlm import b", "lucidlm.b": "import lucidlm.a"}),
    (no_cycles, {"lucidlm.a": "from . import b", "lucidlm.b": "from .a import c"}),
    (no_cycles, {"lucidlm.a": "import lucidlm.b", "lucidlm.b": "def f():\n    import lucidlm.a"}),
    (torch_stays_in_its_rooms, {"lucidlm.api": "def f():\n    import torch.nn as nn"}),
    (torch_stays_in_its_rooms, {"lucidlm.checkpoint.a": "from safetensors.torch import load_file"}),
    (torch_stays_in_its_rooms, {"lucidlm.cli.a": "importlib.import_module('torch')"}),
    (model_knows_no_family, {"lucidlm.model.a": "class LlamaNorm: ..."}),
    (model_knows_no_family, {"lucidlm.model.a": "if kind == 'gpt2': ..."}),
    (model_knows_no_family, {"lucidlm.model.a": "def f(is_t5): ..."}),
    (library_does_not_print, {"lucidlm.text.a": "print('x')"}),
    (no_code_out_of_data, {"lucidlm.checkpoint.a": "import pickle"}),
    (no_code_out_of_data, {"lucidlm.model.a": "torch.load(path)"}),
    (no_code_out_of_data, {"lucidlm.classical.a": "np.load(path, allow_pickle=True)"}),
    (no_code_out_of_data, {"lucidlm.text.a": "eval(code)"}),
    (no_bare_except, {"lucidlm.text.a": "try: ...\nexcept: ..."}),
    (files_stay_short, {"lucidlm.text.a": "x = 1\n" * 451}),
    (files_stay_short, {f"lucidlm.model.{name}": "x = 1\n" * 420 for name in "abc"}),
]


@pytest.mark.parametrize(("check", "sources"), BREACHES)
def test_each_rule_notices_a_breach(check: Rule, sources: dict[str, str]) -> None:
    assert list(check(sources))


ALLOWED: list[tuple[Rule, dict[str, str]]] = [
    (imports_run_downwards, {"lucidlm.checkpoint.a": "from lucidlm.families import find"}),
    (imports_run_downwards, {"lucidlm.api": "from lucidlm.model.engine import build"}),
    (
        no_cycles,
        {"lucidlm.a": "from . import b, c", "lucidlm.b": "from . import c", "lucidlm.c": ""},
    ),
    (torch_stays_in_its_rooms, {"lucidlm.model.a": "import torch"}),
    (model_knows_no_family, {"lucidlm.model.a": "'''Llama's rotation'''\nhilbert = 'llama3'"}),
    (library_does_not_print, {"lucidlm.cli.a": "print('x')"}),
    (no_code_out_of_data, {"lucidlm.model.a": "model.eval()\nnp.load(p, allow_pickle=False)"}),
    (files_stay_short, {"lucidlm.text.a": "x = 1\n" * 450}),
]


@pytest.mark.parametrize(("check", "sources"), ALLOWED)
def test_no_rule_forbids_what_is_allowed(check: Rule, sources: dict[str, str]) -> None:
    assert list(check(sources)) == []
