"""`lucidlm train` starts itself once more, in the environment that training is fast in, or several
times, as processes that learn together.

The C library reads its allocator's settings when a process begins, so that nothing later would do.
`LUCIDLM_NO_LAUNCH=1` leaves the process as it is, for a debugger.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lucidlm.errors import TrainError
from lucidlm.hardware import here
from lucidlm.train.environment import environment

LAUNCHED, NO_LAUNCH = "LUCIDLM_LAUNCHED", "LUCIDLM_NO_LAUNCH"
OF_A_LAUNCHER = ("TORCHELASTIC_RUN_ID", "LOCAL_RANK")  # torchrun has seen to the environment
TO_MEND, INTERRUPTED = 2, 130
ELSEWHERE = 3  # how a process ends that stops because another one did


def relaunch() -> None:
    """Replace this process by the same command in `environment()`, where that helps; else return.

    What the user has set stays as it is. Only the program itself is started again: a notebook or a
    test that calls it goes on.
    """
    alone = not (os.environ.get(LAUNCHED) or os.environ.get(NO_LAUNCH) or is_one_of_several())
    if sys.platform != "linux" or not alone:
        return
    missing = environment().keys() - os.environ.keys()
    if not missing or not _is_program() or here().gpus:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    wanted = {**environment(), **os.environ, LAUNCHED: "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def is_one_of_several() -> bool:
    """Whether a launcher started this process, perhaps among others."""
    return any(os.environ.get(name) for name in OF_A_LAUNCHER)


def start_several(count: int) -> int:
    """Run this program's command line in `count` processes on this machine, by torchrun; returns
    the exit code. They share the processor's cores.

    Raises TrainError where a process was ended by the system.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if count < 1:
        raise TrainError("devices.none", found=count)
    shared = {"OMP_NUM_THREADS": str(max(1, here().cores // count))}
    for name, value in (environment() | shared).items():
        os.environ.setdefault(name, value)
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # processes speak themselves
    where = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(count)]
    try:
        run.main([*where, "-m", "lucidlm", *sys.argv[1:]])
    except SignalException:
        return INTERRUPTED
    except ChildFailedError as error:
        return _code(error.failures, count)
    return 0


def _code(failures: Mapping[int, Any], count: int) -> int:
    """What the processes ended with: the code of the one that knows why."""
    in_time = sorted(failures.values(), key=lambda failure: failure.timestamp)
    codes = [failure.exitcode for failure in in_time]
    for failure in in_time:  # torchrun ends the others by SIGTERM
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            name = signal.Signals(-failure.exitcode).name
            raise TrainError("devices.ended", rank=failure.local_rank, processes=count, code=name)
    # who knows why has said it, but may be ended before its own code is read
    return next((code for code in codes if code > 0 and code != ELSEWHERE), TO_MEND)


def _is_program() -> bool:
    """Whether this process was started as `lucidlm` or `python -m lucidlm`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return Path(sys.argv[0]).name == "lucidlm" or getattr(spec, "name", "") == "lucidlm.__main__"
