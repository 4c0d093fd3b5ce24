"""Processes that learn one model together: who they are, and what they tell each other.

torchrun starts them and names each by its environment. The recipe says what is learnt, and their
number changes nothing about it: the micro-batches of a step are dealt out among them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed
from torch.nn import functional

from lucidlm.errors import TrainError

T = TypeVar("T")

# The first one tokenises while the others wait. One that dies is noticed by who started them.
PATIENCE = timedelta(days=1)


class Elsewhere(TrainError):
    """This process stops because another one did, which says why."""

    def __init__(self) -> None:
        super().__init__("devices.elsewhere")


@dataclass(frozen=True)
class Processes:
    """One process and its place among `world`. Alone, every method is the identity."""

    rank: int = 0
    world: int = 1
    neighbours: int = 1  # on this machine, itself among them

    @property
    def first(self) -> bool:
        """Whether this is the one that writes, and speaks."""
        return self.rank == 0

    def dealt(self, count: int) -> range:
        """Which of `count` things are this process's to do; `count` is a multiple of `world`."""
        return range(self.rank, count, self.world)

    def add(self, tensor: Tensor) -> Tensor:
        """`tensor`, added up over all processes, in place."""
        if self.world > 1:
            distributed.all_reduce(tensor)
        return tensor

    def any(self, said: bool) -> bool:
        """Whether any process says so; all learn the same."""
        return bool(self.add(torch.tensor(int(said))))

    def in_turn(self, work: Callable[[], T]) -> T:
        """`work()` on the first process, then, if it came to an end there, on the others; when all
        have done it they go on.
        """
        if self.world == 1:
            return work()
        found: list[T] = []
        failure: BaseException | None = None
        for turn in (True, False):
            if self.first is turn:
                try:
                    found.append(work())
                except BaseException as error:
                    failure = error
            if self.any(failure is not None):
                raise Elsewhere if failure is None else failure
        return found[0]

    def own_rows(self, whole: Tensor) -> Tensor:
        """This process's run of the first axis: equal ones, what is left over short or empty."""
        if self.world == 1 or whole.ndim == 0:
            return whole
        size = -(-len(whole) // self.world)
        return whole[self.rank * size : (self.rank + 1) * size]

    def whole(self, own: Tensor, rows: int) -> Tensor:
        """The opposite of `own_rows`: all `rows`, on the first process's CPU; elsewhere nothing."""
        if self.world == 1 or own.ndim == 0:
            return own
        part = _padded(own, -(-rows // self.world))
        parts = [torch.empty_like(part) for _ in range(self.world)] if self.first else None
        distributed.gather(part, parts)
        return part[:0] if parts is None else torch.cat([p.cpu() for p in parts])[:rows]

    def each_whole(self, own: Tensor, rows: int, work: Callable[[Tensor], Tensor]) -> Tensor:
        """`work`, which keeps shape and type, on whole matrices (n, `rows`, columns), of which each
        process holds its own rows (N, its rows, columns); it gets its own rows of what became of
        all N.

        Each process works on its share of them: rows go there and come back.
        """
        if self.world == 1:
            return work(own)
        count, here, columns = own.shape
        size, share = -(-rows // self.world), -(-count // self.world)
        sent = own.new_zeros(share * self.world, size, columns)
        sent[:count, :here] = own
        sent = sent.view(self.world, share, size, columns)  # by who is to work on it
        got = torch.empty_like(sent)  # by whose rows they are
        distributed.all_to_all_single(got, sent)
        matrices = got.transpose(0, 1).reshape(share, -1, columns)[:, :rows]
        done = functional.pad(work(matrices), (0, 0, 0, size * self.world - rows))
        back = done.view(share, self.world, size, columns).transpose(0, 1).contiguous()
        distributed.all_to_all_single(got, back)
        return got.reshape(-1, size, columns)[:count, :here]


ALONE = Processes()


@contextmanager
def processes() -> Iterator[Processes]:
    """This process among those that torchrun started, connected while the block lasts; without
    torchrun it is alone.

    Raises TrainError where a machine has fewer GPUs than processes.
    """
    told = {name: int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    if told["WORLD_SIZE"] == 1:
        yield ALONE
        return
    found = Processes(int(os.environ["RANK"]), told["WORLD_SIZE"], told["LOCAL_WORLD_SIZE"])
    backend = "gloo"
    if torch.cuda.is_available():
        if found.neighbours > torch.cuda.device_count():
            raise TrainError(
                "devices.too_few", processes=found.neighbours, devices=torch.cuda.device_count()
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield found
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error).lower():
            raise Elsewhere from None  # the connection broke: the other end is gone
        raise
    finally:
        distributed.destroy_process_group()


def _padded(rows: Tensor, count: int) -> Tensor:
    """`rows` with zeros behind them, `count` in all, in memory of their own."""
    padded = rows.new_zeros(count, *rows.shape[1:])
    padded[: len(rows)] = rows
    return padded
