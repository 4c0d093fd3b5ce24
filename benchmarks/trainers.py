"""The trainers that benchmarks/train.py compares, each in a process of its own.

    python trainers.py ARM FOLDER STEPS

Reads counts of steps from standard input, makes so many and answers with the seconds they took;
after STEPS in all it answers with the loss on the held-out ids. FOLDER holds ids.npy, held.npy and
shape.json.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

RATE, WARMUP = 1e-3, 100  # nanoGPT's for small models; every peer has them


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is trained, alike for all."""

    layers: int = 6
    dim: int = 384
    heads: int = 6
    context: int = 256
    vocab: int = 6144
    batch: int = 16
    threads: int = 2

    @property
    def flops(self) -> float:
        """Of one token, forward and backward, attention counted in full."""
        inner = 12 * self.layers * self.dim**2 + self.vocab * self.dim
        return 6.0 * inner + 12.0 * self.layers * self.dim * self.context


class Gate:
    """Called behind every step: times what was asked for, and asks what is next."""

    def __init__(self) -> None:
        self.left, self.begun = 0, 0.0
        self.next()

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.say(time.perf_counter() - self.begun)
            self.next()

    def next(self) -> None:
        self.left = int(sys.stdin.readline() or 1 << 60)
        self.begun = time.perf_counter()

    @staticmethod
    def say(value: float) -> None:
        print(json.dumps(value), flush=True)


class Data:
    """Random windows of the ids, as nanoGPT draws them; and the held-out ones, in order."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.ids, self.held = np.load(folder / "ids.npy"), np.load(folder / "held.npy")
        self.shape, self.random = shape, np.random.default_rng(1)

    def windows(self, count: int) -> np.ndarray:
        width = self.shape.context + 1
        starts = self.random.integers(0, len(self.ids) - width, count)
        return self.ids[starts[:, None] + np.arange(width)].astype(np.int64)

    def batch(self) -> tuple[Tensor, Tensor]:
        found = torch.from_numpy(self.windows(self.shape.batch))
        return found[:, :-1].contiguous(), found[:, 1:].contiguous()

    @torch.no_grad()
    def loss(self, logits: Callable[[Tensor], Tensor]) -> float:
        """Mean over the held-out windows, in float32."""
        width, sums = self.shape.context + 1, []
        rows = self.held[: len(self.held) // width * width].reshape(-1, width).astype(np.int64)
        for row in torch.from_numpy(rows).split(self.shape.batch):
            found = logits(row[:, :-1].contiguous()).float().flatten(0, 1)
            targets = row[:, 1:].flatten()
            sums.append(functional.cross_entropy(found, targets, reduction="sum").item())
        return sum(sums) / (rows.shape[0] * self.shape.context)


def ours(shape: Shape, data: Data, steps: int, adamw: bool = False) -> float:
    """Stepper with the defaults of a recipe, which are Muon's, or with everybody's AdamW."""
    from lucidlm.engine import ForwardContext
    from lucidlm.families import families
    from lucidlm.train.batch import Batch
    from lucidlm.train.building import fresh
    from lucidlm.train.recipe import DataRecipe, OptimiserRecipe, Recipe, ScheduleRecipe, Source
    from lucidlm.train.step import Stepper

    recipe = Recipe(
        data=DataRecipe(train=(Source(path="ids"),)),
        steps=steps,
        batch=shape.batch,
        context=shape.context,
        schedule=ScheduleRecipe(warmup=min(WARMUP, steps // 10)),
        optimiser=OptimiserRecipe(name="adamw", rate=RATE) if adamw else OptimiserRecipe(),
        compile="on",
    )
    model = fresh(families()["gpt2"].read(_gpt2(shape)), seed=1)
    stepper = Stepper(model, recipe, device=torch.device("cpu"), total_steps=steps)
    positions = np.tile(np.arange(shape.context), (shape.batch, 1))
    documents, gate = np.zeros_like(positions), Gate()
    for step in range(steps):
        found = data.windows(shape.batch)
        ids, targets = found[:, :-1], found[:, 1:]
        batch = Batch(ids=ids, targets=targets, positions=positions, documents=documents)
        assert stepper([batch], step).finite
        gate()
    return data.loss(lambda ids: model(ids, ForwardContext()))


def nanogpt(shape: Shape, data: Data, steps: int) -> float:
    """A loop written from the description of nanoGPT's: GPT-2 with PyTorch's attention kernel,
    AdamW, clipping at 1; on a CPU its mixed precision is a null context, so everything is float32.
    """
    model = SmallGPT(shape)
    tables = [w for w in model.parameters() if w.ndim >= 2]
    rest = [w for w in model.parameters() if w.ndim < 2]
    groups = [{"params": tables, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99))
    ids, targets = data.batch()
    gate = Gate()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _cosine(step, steps, RATE / 10)
        loss = functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        ids, targets = data.batch()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        gate()
    return data.loss(model)


def hf(shape: Shape, data: Data, steps: int) -> float:
    """The Trainer of transformers: compiled, bfloat16 where the processor has it."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.set_seed(1)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**_theirs(shape)))
    gate = Gate()

    class Timed(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            gate()

    class Windows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return steps * shape.batch

        def __getitem__(self, _: int) -> dict[str, Tensor]:
            row = torch.from_numpy(data.windows(1)[0, :-1])  # it shifts the labels itself
            return {"input_ids": row, "labels": row}

    arguments = transformers.TrainingArguments(
        output_dir="unused",
        per_device_train_batch_size=shape.batch,
        max_steps=steps,
        learning_rate=RATE,
        warmup_steps=min(WARMUP, steps // 10),
        bf16=_has_bfloat16(),
        torch_compile=True,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=Windows(), callbacks=[Timed()])
    trainer.pop_callback(transformers.PrinterCallback)  # standard output is for answers
    trainer.train()
    return data.loss(lambda ids: model(ids).logits)


def litgpt(shape: Shape, data: Data, steps: int) -> float:
    """litgpt's model and the loop of its `pretrain`, through Lightning's Fabric: compiled,
    bfloat16 where the processor has it.
    """
    from lightning.fabric import Fabric
    from litgpt.model import GPT, Config
    from litgpt.utils import chunked_cross_entropy

    torch.manual_seed(1)
    fabric = Fabric(
        devices=1, accelerator="cpu", precision="bf16-mixed" if _has_bfloat16() else "32-true"
    )
    config = Config(
        name="small",
        n_layer=shape.layers,
        n_head=shape.heads,
        n_embd=shape.dim,
        block_size=shape.context,
        vocab_size=shape.vocab,
        padded_vocab_size=shape.vocab,
    )
    raw = GPT(config)
    raw.apply(_begin)
    model = fabric.setup(torch.compile(raw))
    optimiser = fabric.setup_optimizers(
        torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    )
    gate = Gate()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _cosine(step, steps, RATE / 10)
        ids, targets = data.batch()
        fabric.backward(chunked_cross_entropy(model(ids), targets))
        fabric.clip_gradients(model, optimiser, max_norm=1.0)
        optimiser.step()
        optimiser.zero_grad()
        gate()
    return data.loss(raw)


class SmallGPT(nn.Module):
    """GPT-2 (Radford et al. 2019) without biases, head tied."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.tokens = nn.Embedding(shape.vocab, shape.dim)
        self.positions = nn.Embedding(shape.context, shape.dim)
        self.blocks = nn.ModuleList(_block(shape.dim) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.dim, bias=False)
        self.apply(_begin)
        for block in self.blocks:
            for name in ("out", "down"):
                nn.init.normal_(block[name].weight, std=0.02 / math.sqrt(2 * shape.layers))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            q, k, v = (
                part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for part in block["qkv"](block["norm1"](x)).chunk(3, dim=-1)
            )
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block["out"](mixed.transpose(1, 2).flatten(2))
            x = x + block["down"](functional.gelu(block["up"](block["norm2"](x))))
        return functional.linear(self.norm(x), self.tokens.weight)


def _block(dim: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "norm1": nn.LayerNorm(dim, bias=False),
            "qkv": nn.Linear(dim, 3 * dim, bias=False),
            "out": nn.Linear(dim, dim, bias=False),
            "norm2": nn.LayerNorm(dim, bias=False),
            "up": nn.Linear(dim, 4 * dim, bias=False),
            "down": nn.Linear(4 * dim, dim, bias=False),
        }
    )


def _begin(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _cosine(step: int, steps: int, least: float) -> float:
    """nanoGPT's learning rate: up over WARMUP steps, down along a cosine to `least`."""
    warmup = min(WARMUP, steps // 10)
    if step < warmup:
        return RATE * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    return least + 0.5 * (1 + math.cos(math.pi * done)) * (RATE - least)


def _theirs(shape: Shape) -> dict[str, Any]:
    return _gpt2(shape) | {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}


def _gpt2(shape: Shape) -> dict[str, Any]:
    return {
        "vocab_size": shape.vocab,
        "n_positions": shape.context,
        "n_embd": shape.dim,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def _has_bfloat16() -> bool:
    from lucidlm.train.step import precision

    return precision("auto", torch.device("cpu")) == torch.bfloat16


ARMS: dict[str, Callable[[Shape, Data, int], float]] = {
    "lucidlm": ours,
    "lucidlm_adamw": partial(ours, adamw=True),
    "nanogpt_loop": nanogpt,
    "hf_trainer": hf,
    "litgpt": litgpt,
}


def main() -> None:
    arm, folder, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    shape = Shape(**json.loads((folder / "shape.json").read_text()))
    torch.set_num_threads(shape.threads)
    torch.manual_seed(1)
    Gate.say(ARMS[arm](shape, Data(folder, shape), steps))


if __name__ == "__main__":
    main()
