"""What is a model made of? Change NAMES to others of `lucidlm models --presets`, to a pulled model,
or to a folder with a config.json.
"""

from lucidlm.checkpoint.load import read_config
from lucidlm.count import count

NAMES = ["transformer-base", "bert-base", "gpt2", "llama-3-8b", "smollm2-135m"]

for name in NAMES:
    config = read_config(name)
    print(f"{name}: {config.kind}, {count(config).parameters:,} parameters")
    for stack_name, stack in config.stacks.items():
        feedforward = stack.feedforward
        print(f"  {stack_name}: {stack.layers} layers of {config.dim} numbers a token")
        print(f"    sees: {stack.mask}; looks at an encoder: {stack.cross is not None}")
        print(f"    heads: {stack.attention.heads}, for keys and values {stack.attention.kv_heads}")
        print(f"    feed-forward: {feedforward.hidden} wide, {feedforward.activation}", end="")
        print(", gated" if feedforward.gated else "")
