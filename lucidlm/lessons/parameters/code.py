"""Count a model's parameters. Change the numbers, or NAME to another of
`lucidlm models --presets`.
"""

from lucidlm.checkpoint.load import read_config
from lucidlm.count import count

d, layers, heads, words, positions = 12288, 96, 96, 50257, 2048

matrix = d * d
attention = 4 * matrix * layers
by_head = 4 * d * (d // heads) * heads * layers
layer = 12 * d * d + 13 * d
total = layers * layer + words * d + positions * d + 2 * d
print(f"one matrix                 {matrix:>20,}")
print(f"attention, all layers      {attention:>20,}")
print(f"the same, head by head     {by_head:>20,}")
print(f"one layer, 12 d^2 + 13 d   {layer:>20,}")
print(f"the whole model            {total:>20,}")
print(f"attention's share          {attention / total:>20.1%}")

NAME = "gpt3-175b"
counted = count(read_config(NAME))
print(f"counted from the config    {counted.parameters:>20,}")
for part, parameters in counted.parts.named("en").items():
    print(f"{parameters:>47,}  {part}")
