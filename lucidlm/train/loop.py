"""A run from its first step to the exported model.

It ends in one of four ways: all steps are done; a signal came; the loss is no number any more; the
disk is full. Whatever happens, the last complete checkpoint is on disk and the run goes on from it
as if nothing had been.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lucidlm.count import count
from lucidlm.errors import TrainError
from lucidlm.files import write_atomic
from lucidlm.hardware import here
from lucidlm.model.transformer import Transformer
from lucidlm.train import checkpoints, state
from lucidlm.train.attention import explicit, kernel
from lucidlm.train.batches import ahead
from lucidlm.train.corpus import Report
from lucidlm.train.devices import ALONE, Elsewhere, Processes
from lucidlm.train.estimate import Memory, check_fits, flops_per_token
from lucidlm.train.evaluation import held_out, samples
from lucidlm.train.events import (
    Exported,
    Preparing,
    Ready,
    Sampled,
    Saved,
    Stepped,
    Stopping,
    Watcher,
    unwatched,
)
from lucidlm.train.export import export
from lucidlm.train.health import Health, explain
from lucidlm.train.metrics import Metrics
from lucidlm.train.peak import matmul_peak
from lucidlm.train.recipe import Recipe
from lucidlm.train.setup import Subject, device, prepare
from lucidlm.train.sharding import gathered
from lucidlm.train.signals import Interrupts, interrupts
from lucidlm.train.step import Stepper, StepResult, precision

RECIPE = "recipe.json"
REPORT = "data.json"
TIMED = 3  # steps that an estimate of time is made of, after a first one
LAG = 1  # steps that a GPU is ahead of the numbers that are read from it

Reason = Literal["done", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    name: str
    folder: Path
    model: Path | None  # the exported folder, once all steps are done
    reason: Reason
    steps: int  # done so far, those before a resume included
    resumed_from: int  # the step it went on from
    parameters: int
    loss: float | None  # of the last step; None where this call made none
    held_out: float | None  # when it was last measured
    tokens: int  # read by this call
    seconds: float  # of this call's steps

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would be, from a few steps that leave nothing behind."""

    name: str
    report: Report
    parameters: int
    memory: Memory
    device: str
    steps: int
    seconds_per_step: float
    tokens_per_second: float
    peak_flops: float
    flops_per_token: int

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return self.steps * self.seconds_per_step


def train(
    recipe: Recipe,
    folder: Path,
    *,
    base: Path,
    resume: bool = False,
    watch: Watcher | None = None,
    processes: Processes = ALONE,
) -> Outcome:
    """Run `recipe`, whose paths begin at `base`, into `folder`; with `resume` go on where the last
    run there stopped. Of several `processes` the first one writes, and tells.

    Raises TrainError (and what else `prepare` does) before the first step where the run cannot be,
    and after it where it cannot go on.
    """
    tell = _teller(watch, processes)
    begun = processes.in_turn(lambda: _begin(recipe, base, tell, processes, (folder, resume)))
    subject, last = begun.subject, begun.last
    stepper = _stepper(subject, processes)
    if last is not None:
        processes.in_turn(lambda: state.put_back(stepper.model, stepper, last.arrays()))
    start = 0 if last is None else last.step
    if processes.first:
        _write_down(recipe, subject.corpus.report, folder)
    run = _Run(subject, stepper, folder, start, begun.said, tell)
    tell(_ready(subject, stepper, begun.needs, folder, start))
    return run.go()


def plan(
    recipe: Recipe, base: Path, watch: Watcher | None = None, processes: Processes = ALONE
) -> Plan:
    """What `recipe` would take: data, memory and time. Nothing is written but the data's cache.

    Raises what `train` does before its first step.
    """
    tell = _teller(watch, processes)
    begun = processes.in_turn(lambda: _begin(recipe, base, tell, processes))
    subject, needs = begun.subject, begun.needs
    stepper = _stepper(subject, processes)
    ready = _ready(subject, stepper, needs, None, 0)
    seconds, tokens = 0.0, 0
    numbers = processes.dealt((1 + TIMED) * recipe.accumulate)
    feed = ahead(subject.corpus.train, numbers)
    for step in range(1 + TIMED):
        batches = [next(feed) for _ in range(recipe.accumulate // processes.world)]
        clock = time.perf_counter()
        result = stepper(batches, step)
        _ = result.loss  # waits for the device
        if step:  # the first one compiles and warms up
            seconds += time.perf_counter() - clock
            tokens += result.tokens
    return Plan(
        name=recipe.name,
        report=ready.report,
        parameters=ready.parameters,
        memory=needs,
        device=ready.device,
        steps=recipe.steps,
        seconds_per_step=seconds / TIMED,
        tokens_per_second=tokens / seconds,
        peak_flops=ready.peak_flops,
        flops_per_token=ready.flops_per_token,
    )


@dataclass(frozen=True)
class _Pending:
    """A step that is on its way on the device."""

    step: int  # from 0
    result: StepResult


class _Run:
    """The steps, and what is done between them."""

    def __init__(
        self,
        subject: Subject,
        stepper: Stepper,
        folder: Path,
        start: int,
        said: dict[str, Any],
        tell: Watcher,
    ) -> None:
        self.subject, self.recipe, self.stepper = subject, subject.recipe, stepper
        self.folder, self.start, self.said, self.tell = folder, start, said, tell
        self.processes = stepper.processes
        self.held_out_batches = held_out(subject, self.processes)
        self.health = Health(subject.config.vocab_size)
        self.metrics = Metrics(folder, start) if self.processes.first else None
        self.pending: deque[_Pending] = deque()
        self.lag = LAG if stepper.device.type == "cuda" else 0
        self.saved = start  # the step of the newest checkpoint
        self.done = start
        self.loss: float | None = None
        self.held_out: float | None = None
        self.tokens, self.seconds = 0, 0.0

    def go(self) -> Outcome:
        """All steps that are left."""
        try:
            with interrupts(lambda name: self.tell(Stopping(signal=name))) as stop:
                self._steps(stop)
        finally:
            if self.metrics is not None:
                self.metrics.close()
        if self.done < self.recipe.steps:
            return self._outcome("interrupted", None)
        model = self._whole()
        place = None if model is None else export(model, self.subject, self.folder)
        if place is not None:
            self.tell(Exported(folder=place))
        return self._outcome("done", place)

    def _steps(self, stop: Interrupts) -> None:
        recipe, times = self.recipe, self.recipe.accumulate // self.processes.world
        numbers = self.processes.dealt(recipe.steps * recipe.accumulate)[self.start * times :]
        feed = ahead(self.subject.corpus.train, numbers)
        self.clock = time.perf_counter()
        for step in range(self.start, recipe.steps):
            batches = [next(feed) for _ in range(times)]
            self.pending.append(_Pending(step, self.stepper(batches, step)))
            self.done = step + 1
            stopping = self.processes.any(bool(stop))
            pauses = stopping or self._pauses(self.done)
            while len(self.pending) > (0 if pauses else self.lag):
                self._settle(self.pending.popleft())
            if stopping or self.done % recipe.save_every == 0 or self.done == recipe.steps:
                self._save()
            if stopping:
                return
            if pauses:  # what was done in between is no part of the next step
                self.clock = time.perf_counter()

    def _pauses(self, done: int) -> bool:
        """Whether something is to be done after this step that the step must have ended for."""
        recipe = self.recipe
        every = (recipe.save_every, recipe.evaluate_every, recipe.sample_every)
        return done == recipe.steps or any(n and done % n == 0 for n in every)

    def _settle(self, pending: _Pending) -> None:
        """Read what a step was like, judge it, and write it down."""
        result, done = pending.result, pending.step + 1
        loss, finite = result.loss, result.finite  # waits for the device
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        if not finite or self.health.exploded(loss):
            raise self._fault(pending, loss, finite)
        held_out = self._evaluate(done)
        stepped = Stepped(
            step=done,
            loss=loss,
            rate=result.rate,
            gradient_norm=result.gradient_norm,
            tokens=result.tokens,
            seconds=seconds,
            held_out=held_out,
        )
        self.loss, self.tokens = loss, self.tokens + result.tokens
        self.seconds += seconds
        if self.metrics is not None:
            try:
                self.metrics.write(stepped)
            except OSError as error:
                raise checkpoints.failed_to_write(error, self.folder) from None
        self.tell(stepped)
        if self.recipe.sample_every and done % self.recipe.sample_every == 0:
            model = self._whole()
            for prompt, text in () if model is None else samples(model, self.subject):
                self.tell(Sampled(step=done, prompt=prompt, text=text))

    def _evaluate(self, done: int) -> float | None:
        """The held-out loss, where it is time for it."""
        due = done % self.recipe.evaluate_every == 0 or done == self.recipe.steps
        if not due or not self.held_out_batches:
            return None
        loss = self.stepper.evaluate(self.held_out_batches)
        self.held_out = None if math.isnan(loss) else loss  # no target among them
        return self.held_out

    def _save(self) -> None:
        arrays = state.gather(self.stepper.model, self.stepper)
        self.saved = self.done
        if self.metrics is None:
            return
        place = checkpoints.save(self.folder, self.done, arrays, self.said)
        checkpoints.tidy(self.folder, self.recipe.keep)
        self.metrics.draw()
        self.tell(Saved(step=self.done, folder=place))

    def _whole(self) -> Transformer | None:
        """The model as it is by now, on the first process; all have to ask."""
        return gathered(self.stepper.model, self.subject, self.processes)

    def _fault(self, pending: _Pending, loss: float, finite: bool) -> TrainError:
        """What went wrong, looked for by the first process in everything that the step read."""
        model, times = self._whole(), self.recipe.accumulate
        if model is None:
            return Elsewhere()
        read = self.subject.corpus.train
        return explain(
            model,
            [read.batch(pending.step * times + number) for number in range(times)],
            dtype=self.stepper.dtype,
            step=pending.step + 1,
            loss=loss,
            usual=self.health.median if finite else None,
            kept=str(self.saved) if self.saved else "-",
        )

    def _outcome(self, reason: Reason, model: Path | None) -> Outcome:
        return Outcome(
            name=self.recipe.name,
            folder=self.folder,
            model=model,
            reason=reason,
            steps=self.done,
            resumed_from=self.start,
            parameters=count(self.subject.config).parameters,
            loss=self.loss,
            held_out=self.held_out,
            tokens=self.tokens,
            seconds=self.seconds,
        )


def _open(folder: Path, resume: bool) -> checkpoints.Saved | None:
    """The checkpoint to go on from. A folder that is no run of ours is left alone: TrainError."""
    held = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if folder.is_file() or (held and not resume):
        key = "training.run_there" if RECIPE in held else "training.folder_taken"
        raise TrainError(key, path=str(folder))
    if not resume:
        return None
    if RECIPE not in held and any(not name.startswith(".") for name in held):
        raise TrainError("training.no_run", path=str(folder))
    checkpoints.tidy(folder)
    return checkpoints.newest(folder)


def _teller(watch: Watcher | None, processes: Processes) -> Watcher:
    return watch if watch is not None and processes.first else unwatched


@dataclass(frozen=True)
class _Begun:
    """Everything that can be found wrong before there is a model."""

    subject: Subject
    last: checkpoints.Saved | None  # the checkpoint to go on from
    said: dict[str, Any]  # what a checkpoint belongs to
    needs: Memory


def _begin(
    recipe: Recipe,
    base: Path,
    tell: Watcher,
    processes: Processes,
    into: tuple[Path, bool] | None = None,
) -> _Begun:
    """Look at the folder, and whether to resume; read the data; see that the run fits."""
    if recipe.accumulate % processes.world:
        least = -(-recipe.accumulate // processes.world) * processes.world
        raise TrainError(
            "devices.not_dealt", found=recipe.accumulate, processes=processes.world, least=least
        )
    if processes.world > 1 and recipe.compile == "on":
        raise TrainError("devices.compile")
    last = None if into is None else _open(*into)
    subject = prepare(recipe, base, lambda stage, share: tell(Preparing(stage=stage, share=share)))
    data = subject.corpus.fingerprint
    said = state.said(recipe, subject.config, data=data, start=subject.start)
    if last is not None:
        state.check_same(last.said, said)
    return _Begun(subject, last, said, _fits(subject, processes))


def _stepper(subject: Subject, processes: Processes) -> Stepper:
    recipe = subject.recipe
    return Stepper(
        subject.model(), recipe, device=device(), total_steps=recipe.steps, processes=processes
    )


def _fits(subject: Subject, processes: Processes) -> Memory:
    """What the run needs of memory, for each process. Raises TrainError where that is not there."""
    recipe, place = subject.recipe, device()
    if place.type == "cuda":
        free: int | None = torch.cuda.mem_get_info(place)[0]
    elif (free := here().available) is not None:
        free //= processes.neighbours
    attend = kernel(subject.config, recipe.attention, place, recipe.context)
    return check_fits(
        subject.config,
        recipe,
        narrow=precision(recipe.precision, place) != torch.float32,
        explicit=attend in (explicit, None),
        free=free,
        processes=processes.world,
    )


def _ready(
    subject: Subject, stepper: Stepper, needs: Memory, folder: Path | None, start: int
) -> Ready:
    return Ready(
        name=subject.recipe.name,
        folder=folder,
        report=subject.corpus.report,
        parameters=count(subject.config).parameters,
        memory=needs,
        device=stepper.device.type,
        peak_flops=matmul_peak(stepper.device, stepper.dtype),
        flops_per_token=flops_per_token(subject.config, subject.recipe.context),
        start=start,
        steps=subject.recipe.steps,
    )


def _write_down(recipe: Recipe, report: Report, folder: Path) -> None:
    """The recipe as it is run, and what was found in the data."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in ((RECIPE, asdict(recipe)), (REPORT, asdict(report))):
            said = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            write_atomic(folder / name, said.encode())
    except OSError as error:
        raise checkpoints.failed_to_write(error, folder) from None
