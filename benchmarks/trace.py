"""What it costs to look: our recording beside our own untraced run, and the tools people use.

Everything generates the same 64 greedy tokens from the same 32, from one file in float32, in turn;
a round runs each once, and a cost is taken round by round: milliseconds a token above the same
tool's own untraced run (its base), and the ratio to it. Then 512 tokens are read at once. Tools
that are not installed are left out (`pip install transformer-lens nnsight`).
"""

from __future__ import annotations

import copy
import ctypes
import gc
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from common import arguments, report, seconds, spread

import lucidlm
from lucidlm.checkpoint.load import resolve
from lucidlm.engine import ForwardContext
from lucidlm.generate import GenerationSettings, generate
from lucidlm.trace.record import Recording, Subject, record

PROMPT, NEW, LONG = 32, 64, 512
TEXT = "A language model is a function from a text to the next word. "
Run = Callable[[], list[int]]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--long-run", action="store_true", help="1,000 tokens spilled to disk, too")
    options = parser.parse_args()
    model = lucidlm.load(options.model)
    path = resolve(options.model)
    warnings.simplefilter("ignore")
    transformers.logging.disable_progress_bar()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    theirs.generation_config.eos_token_id = None  # as many tokens as asked for, like ours
    ids = model.tokenizer.encode(TEXT * 50)
    runs = {**ours(model, ids[:PROMPT]), **hugging_face(theirs, ids[:PROMPT])}
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # a model each: what a tool wraps is slower for the others too
    runs |= transformer_lens(copy.deepcopy(theirs), tokenizer, ids[:PROMPT])
    runs |= nnsight(copy.deepcopy(theirs), tokenizer, ids[:PROMPT])
    result: dict[str, Any] = {"same_ids": len({tuple(run()) for _, run in runs.values()}) == 1}
    result |= compare(runs, options.rounds, NEW, "decode")
    result |= compare(prefill(model, theirs, ids[:LONG]), options.rounds, LONG, "prefill")
    result |= recomputed(model, ids)
    if options.long_run:
        result |= long_run(model, ids[:PROMPT])
    report("trace", result, options)


def compare(
    runs: dict[str, tuple[str, Run]], rounds: int, tokens: int, phase: str
) -> dict[str, Any]:
    """Each run against its base: milliseconds a token more, and the ratio."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        order = list(runs) if number % 2 == 0 else list(runs)[::-1]  # neither is always first
        for name in order:
            gc.collect()
            times[name].append(seconds(runs[name][1]))
    found: dict[str, Any] = {}
    for name, (base, _) in runs.items():
        milliseconds = [1000 * t / tokens for t in times[name]]
        found[f"{phase}_{name}_ms"] = spread(milliseconds)
        if base != name:
            pairs = list(zip(times[name], times[base], strict=True))
            found[f"{phase}_{name}_more_ms"] = spread([1000 * (a - b) / tokens for a, b in pairs])
            found[f"{phase}_{name}_ratio"] = spread([a / b for a, b in pairs])
    return found


def subject(model: lucidlm.Model, ids: list[int]) -> Subject:
    return Subject(
        name=model.name,
        engine=model.engine,
        config=model.config,
        decoder=model.tokenizer,
        prompts=[ids],
    )


def ours(model: lucidlm.Model, ids: list[int]) -> dict[str, tuple[str, Run]]:
    on, settings = subject(model, ids), GenerationSettings(max_new_tokens=NEW)

    def plain() -> list[int]:
        steps = generate(model.engine, [ids], settings, decoder=model.tokenizer)
        return [step.id for step in steps]

    def recorded(**wish: Any) -> list[int]:
        run = record(on, settings, Recording(**wish))[0]
        return list(run.ids[run.prompt_length :])

    return {
        "plain": ("plain", plain),
        "recorded": ("plain", recorded),
        "everything": ("plain", lambda: recorded(keep=["*"])),
        "everything_spilled": ("plain", lambda: recorded(keep=["*"], spill=True)),
    }


def hugging_face(theirs: Any, ids: list[int]) -> dict[str, tuple[str, Run]]:
    prompt = torch.tensor([ids])

    @torch.inference_mode()
    def run(**options: Any) -> list[int]:
        out = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW,
            do_sample=False,
            pad_token_id=0,
            return_dict_in_generate=True,
            **options,
        )
        return list(map(int, out.sequences[0, len(ids) :]))

    def seen() -> list[int]:
        return run(output_attentions=True, output_hidden_states=True, output_logits=True)

    return {"hf": ("hf", run), "hf_attentions_hidden": ("hf", seen)}


def transformer_lens(theirs: Any, tokenizer: Any, ids: list[int]) -> dict[str, tuple[str, Run]]:
    try:
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError:
        return {}
    bridge = TransformerBridge.boot_transformers(
        "HuggingFaceTB/SmolLM2-135M-Instruct", hf_model=theirs, tokenizer=tokenizer, device="cpu"
    )
    prompt = torch.tensor([ids])
    wish = {"max_new_tokens": NEW, "do_sample": False, "prepend_bos": False, "verbose": False}
    wish |= {"stop_at_eos": False, "return_type": "tokens"}

    @torch.inference_mode()
    def plain() -> list[int]:
        return list(map(int, bridge.generate(prompt, **wish)[0, len(ids) :]))

    @torch.inference_mode()
    def hooked() -> list[int]:
        kept: list[torch.Tensor] = []
        with bridge.hooks(fwd_hooks=[(lambda name: True, lambda t, hook: kept.append(t))]):
            return list(map(int, bridge.generate(prompt, **wish)[0, len(ids) :]))

    @torch.inference_mode()
    def cached() -> list[int]:
        found, _ = bridge.generate(prompt, return_cache=True, **wish)
        return list(map(int, found[0, len(ids) :]))

    return {
        "tl": ("tl", plain),
        "tl_all_hooks": ("tl", hooked),
        "tl_return_cache": ("tl", cached),
    }


def nnsight(theirs: Any, tokenizer: Any, ids: list[int]) -> dict[str, tuple[str, Run]]:
    try:
        from nnsight import LanguageModel
    except ImportError:
        return {}
    model = LanguageModel(theirs, tokenizer=tokenizer)
    prompt = torch.tensor([ids])
    wish = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}

    def run() -> list[int]:
        with model.generate({"input_ids": prompt}, **wish) as tracer:
            tracer.cache()
            out = model.generator.output.save()
        return list(map(int, out[0, len(ids) :]))

    return {"nnsight_cache": ("hf", run)}


def prefill(model: lucidlm.Model, theirs: Any, ids: list[int]) -> dict[str, tuple[str, Run]]:
    on, settings = subject(model, ids), GenerationSettings(max_new_tokens=1)
    prompt = torch.tensor([ids])

    def plain() -> list[int]:
        return [s.id for s in generate(model.engine, [ids], settings, decoder=model.tokenizer)]

    def recorded(**wish: Any) -> list[int]:
        return [record(on, settings, Recording(**wish))[0].ids[-1]]

    @torch.inference_mode()
    def hf(**options: Any) -> list[int]:
        out = theirs(prompt, logits_to_keep=1, **options)
        return [int(out.logits[0, -1].argmax())]

    return {
        "plain": ("plain", plain),
        "recorded": ("plain", recorded),
        "everything": ("plain", lambda: recorded(keep=["*"])),
        "hf": ("hf", hf),
        "hf_attentions_hidden": (
            "hf",
            lambda: hf(output_attentions=True, output_hidden_states=True),
        ),
    }


def recomputed(model: lucidlm.Model, ids: list[int]) -> dict[str, Any]:
    """Milliseconds until a site that was not kept is there, and the bytes recorded."""
    found: dict[str, Any] = {}
    for name, count, new in (("64", PROMPT, NEW // 2 + 1), ("512", LONG, 1)):
        settings = GenerationSettings(max_new_tokens=new)
        run = record(subject(model, ids[:count]), settings, Recording())[0]
        times = []
        for layer in range(1, 30, 4):
            begun = time.perf_counter()
            run.read(f"layers.{layer}.attention.pattern")
            times.append(1000 * (time.perf_counter() - begun))
        found[f"recomputed_site_ms_of_{name}_positions"] = spread(times)
        held = [a for a in run.backing.addresses if "residual" in a]
        size = sum(run.read(address).nbytes for address in held)
        found[f"residuals_mb_of_{name}_positions"] = round(size / 1e6, 1)
    return found


def long_run(model: lucidlm.Model, ids: list[int]) -> dict[str, Any]:
    """Memory while 1,000 tokens are generated with everything kept on disk, beyond the cache."""
    sizes: list[float] = []
    engine = model.engine
    step = type(engine).step

    def watched(self: Any, new: Any, ctx: ForwardContext) -> Any:
        out = step(self, new, ctx)
        cache = getattr(ctx.cache, "nbytes", 0)
        sizes.append(resident() - cache)
        return out

    type(engine).step = watched  # type: ignore[method-assign]
    try:
        settings = GenerationSettings(max_new_tokens=1000)
        run = record(subject(model, ids), settings, Recording(keep=["*"], spill=True))[0]
    finally:
        type(engine).step = step  # type: ignore[method-assign]
    store = run.backing.nodes[0].step.values.spill  # type: ignore[attr-defined]
    begun = statistics.median(sizes[10:30])
    return {
        "long_run_tokens": len(run.chosen),
        "long_run_memory_growth_mb": round((max(sizes[30:]) - begun) / 1e6, 1),
        "long_run_file_mb": round(store.end / 1e6),
    }


def resident() -> int:
    """Bytes of memory that the process holds, what the allocator could give back returned."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()
