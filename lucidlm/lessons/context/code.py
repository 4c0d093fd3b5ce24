"""One token in two sentences, layer by layer. Change the sentences or the token; it must be a
piece of both (`lucidlm tokenize TEXT --model smollm2-135m` shows pieces). A decoder sees only what
stands before the token, so the sentences must differ there.
"""

import numpy as np

import lucidlm

MODEL = "smollm2-135m"
FIRST, SECOND = "He sat fishing on the river bank", "She took a loan from the bank"
TOKEN = " bank"


def stream(model, sentence):
    """The token's vector before the first layer and after each, (layers + 1, dim)."""
    trace = model.trace(sentence, max_new_tokens=1, keep=["*.residual_out"])
    at = next(token.position for token in trace.tokens if token.bytes.decode() == TOKEN)
    layers = range(model.config.decoder.layers)
    after = [trace[f"layers.{layer}.residual_out"][at] for layer in layers]
    return np.array([trace["layers.0.residual_in"][at], *after])


try:
    model = lucidlm.load(MODEL)
except lucidlm.LucidError as missing:
    print(missing)
else:
    first, second = stream(model, FIRST), stream(model, SECOND)
    for layer, (a, b) in enumerate(zip(first, second, strict=True)):
        cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        print(f"after {layer:2} layers: cosine {cosine:.4f} {'█' * round(40 * cosine)}")
