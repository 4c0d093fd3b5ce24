"""`lucidlm train` starts itself once more, in the environment that training is fast in.

The C library reads its allocator's settings when a process begins, so that nothing later would do.
`LUCIDLM_NO_LAUNCH=1` leaves the process as it is, for a debugger.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lucidlm.hardware import here
from lucidlm.train.environment import environment

LAUNCHED, NO_LAUNCH = "LUCIDLM_LAUNCHED", "LUCIDLM_NO_LAUNCH"
OF_A_LAUNCHER = ("TORCHELASTIC_RUN_ID", "LOCAL_RANK")  # torchrun has seen to the environment


def relaunch() -> None:
    """Replace this process by the same command in `environment()`, where that helps; else return.

    What the user has set stays as it is. Only the program itself is started again: a notebook or a
    test that calls it goes on.
    """
    left_alone = (LAUNCHED, NO_LAUNCH, *OF_A_LAUNCHER)
    if sys.platform != "linux" or any(os.environ.get(name) for name in left_alone):
        return
    missing = environment().keys() - os.environ.keys()
    if not missing or not _is_program() or here().gpus:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    wanted = {**environment(), **os.environ, LAUNCHED: "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def _is_program() -> bool:
    """Whether this process was started as `lucidlm` or `python -m lucidlm`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return Path(sys.argv[0]).name == "lucidlm" or getattr(spec, "name", "") == "lucidlm.__main__"
