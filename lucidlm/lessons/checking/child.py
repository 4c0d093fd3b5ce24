"""The process in which a reader's file runs, so that an endless loop or a crash can be reported.

`python -m lucidlm.lessons.checking.child FILE FOLDER SECONDS [FUNCTION ...]` calls every function
of the file but the named ones. It appends to FOLDER/report.jsonl what it found and, before every
call, what it calls; when a call takes longer than SECONDS, the place goes to FOLDER/stack.txt and
the process ends.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from lucidlm.lessons.checking.calling import Call, call, described, last_line, line_in
from lucidlm.lessons.checking.cases import cases
from lucidlm.lessons.checking.functions import FUNCTIONS
from lucidlm.lessons.checking.mistakes import causes, right
from lucidlm.lessons.checking.verdict import Verdict

REPORT, STACK = "report.jsonl", "stack.txt"
IMPORTING = 3  # times as long as a call may take: PyTorch takes its time
NUMBERS = ("wrong", "nan", "shape")  # what a mistake may explain
EXPLAINABLE = (*NUMBERS, "raised")

Note = Callable[[dict[str, Any]], None]


def main(arguments: Sequence[str]) -> None:
    file, folder, limit, *known = arguments
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent says what there is to say
    seconds = float(limit)
    with (
        open(Path(folder) / REPORT, "a", encoding="utf-8") as report,
        open(Path(folder) / STACK, "w", encoding="utf-8") as stack,
    ):

        def note(entry: dict[str, Any]) -> None:
            report.write(json.dumps(entry) + "\n")
            report.flush()
            if "calling" in entry:
                faulthandler.dump_traceback_later(seconds, exit=True, file=stack)

        faulthandler.dump_traceback_later(IMPORTING * seconds, exit=True, file=stack)
        run(file, known, note)
        faulthandler.cancel_dump_traceback_later()
    sys.stdout.flush()
    os._exit(0)  # whatever threads the file has started


def run(file: str, known: Sequence[str], note: Note) -> None:
    """Import the file and judge its functions, but for the known ones."""
    try:
        module = load(file)
    except (Exception, SystemExit) as error:
        kind = "syntax" if isinstance(error, SyntaxError) else "import"
        line = line_in(file, error)
        note({"failed": kind, "detail": last_line(error), "line": line})
        return
    torch = torch_of(module)
    found = [name for name in FUNCTIONS if is_own(module, name)]
    note({"found": found, "library": "numpy" if torch is None else "torch"})
    for name in found:
        if name not in known:
            verdict = judge(name, getattr(module, name), torch, file, note)
            note({"verdict": asdict(verdict)})
    note({"done": True})


def load(file: str) -> ModuleType:
    """The file as a module that is not `__main__`; what lies beside it can be imported."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(Path(file).parent))
    loader = SourceFileLoader("checked", file)
    spec = importlib.util.spec_from_loader("checked", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["checked"] = module
    loader.exec_module(module)
    return module


def torch_of(module: ModuleType) -> ModuleType | None:
    """PyTorch, if the file has imported it or a part of it by a name of its own."""
    modules = (value for value in vars(module).values() if isinstance(value, ModuleType))
    uses = any(each.__name__.split(".")[0] == "torch" for each in modules)
    return sys.modules["torch"] if uses else None


def is_own(module: ModuleType, name: str) -> bool:
    """Whether the file defines a function of that name itself, rather than importing it."""
    value = getattr(module, name, None)
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def judge(name: str, given: Callable[..., Any], torch: Any, file: str, note: Note) -> Verdict:
    """Make every call, compare, and look for the cause of what is wrong."""
    function, calls = FUNCTIONS[name], []
    for case in cases(name):
        what = {"call": described(name, function, case), "case": case.kind, "site": case.site}
        note({"calling": {"function": name, **what}})
        calls.append(call(given, case, function, torch))

    def faults(convention: Any) -> list[Any]:
        return [each.fault(right(function, each.case, convention)) for each in calls]

    convention = min(function.conventions, key=lambda c: sum(map(bool, faults(c))))
    found = faults(convention)
    first = next((at for at, fault in enumerate(found) if fault), None)
    if first is None:
        return Verdict(function=name, status="right", calls=len(calls))
    one, fault = calls[first], found[first]
    return Verdict(
        function=name,
        status=fault,
        calls=len(calls),
        call=described(name, function, one.case),
        case=one.case.kind,
        site=one.case.site,
        causes=_causes(name, calls, found),
        **one.facts(right(function, one.case, convention), fault, file),
    )


def _causes(name: str, calls: Sequence[Call], faults: Sequence[Any]) -> tuple[str, ...]:
    """What explains all the calls, else all those with real inputs, if any gave wrong numbers."""
    if not {*faults} <= {None, *EXPLAINABLE}:
        return ()
    every = range(len(calls))
    for some in (every, [at for at in every if calls[at].case.site]):
        wrong = [at for at in some if faults[at] in NUMBERS]
        if wrong:
            ordered = [wrong[0], *(at for at in some if at != wrong[0])]
            found = [(calls[at].case, calls[at].array) for at in ordered]
            if named := causes(FUNCTIONS[name], found):
                return named
    return ()


if __name__ == "__main__":
    main(sys.argv[1:])
