"""Decode speed of the readable engine beside transformers' eager model: same file, in turn.

Both hold the GGUF's weights in float32, read a 32-token prompt and take 64 greedy steps with their
own cache. A round times one after the other; the ratio is taken round by round.
"""

from __future__ import annotations

import warnings

import torch
import transformers
from common import arguments, report, seconds, spread

import lucidlm
from lucidlm.checkpoint.load import resolve
from lucidlm.engine import ForwardContext

PROMPT, NEW = 32, 64


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    path = resolve(options.model)
    ours = lucidlm.load(options.model)
    warnings.simplefilter("ignore")
    transformers.logging.disable_progress_bar()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    text = "A language model is a function from a text to the next word. " * 4
    ids = ours.tokenizer.encode(text)[:PROMPT]

    def run_ours() -> list[int]:
        ctx = ForwardContext(cache=ours.engine.cache(1))
        logits, found = ours.engine.step([ids], ctx), []
        for _ in range(NEW):
            found.append(int(logits[0].argmax()))
            logits = ours.engine.step([[found[-1]]], ctx)
        return found

    @torch.inference_mode()
    def run_theirs() -> list[int]:
        out, found = theirs(torch.tensor([ids]), use_cache=True), []
        for _ in range(NEW):
            found.append(int(out.logits[0, -1].argmax()))
            out = theirs(
                torch.tensor([[found[-1]]]), past_key_values=out.past_key_values, use_cache=True
            )
        return found

    same = run_ours() == run_theirs()  # and both are warm
    times = [(seconds(run_ours), seconds(run_theirs)) for _ in range(options.rounds)]
    report(
        "decode",
        {
            "same_ids": same,
            "tokens_per_second": spread([NEW / a for a, _ in times]),
            "transformers_tokens_per_second": spread([NEW / b for _, b in times]),
            "ratio": spread([b / a for a, b in times]),
        },
        options,
    )


if __name__ == "__main__":
    main()
