"""An encoder and a decoder that translate 我爱你. New since the script of one-word: a second
stack, and attention that looks into it. Change SOURCE, or a matrix, and see what it writes.
"""

import numpy as np

SOURCE = "我爱你"


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attention(query, key, value, mask):
    """query (T, D), key (S, D), value (S, D); mask (T, S) is True where one may look."""
    scores = query @ key.T / np.sqrt(query.shape[-1])
    scores = np.where(mask, scores, -np.inf)  # on the scores, before softmax
    weights = softmax(scores)
    return weights @ value, weights


def head(x, memory, w, causal=False):
    """x (T, D) asks; memory (S, D) is asked and gives. In self-attention they are the same."""
    query = x @ w["query"].T + w.get("query bias", 0)
    key, value = memory @ w["key"].T, memory @ w["value"].T
    mask = np.ones((len(x), len(memory)), bool)
    mixed, _ = attention(query, key, value, np.tril(mask) if causal else mask)
    return mixed @ w["output"].T


def layer_norm(x):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True))


def feedforward(x, w):
    return np.maximum(x @ w["up"].T - 1, 0) @ w["down"].T


def encoder(ids):
    x = TOKENS[ids] + PLACES[: len(ids)] + FIRST[: len(ids)]
    x = layer_norm(x + head(x, x, BACK))
    return layer_norm(x + feedforward(x, NOTE))


def decoder(ids, memory):
    """ids (T,), memory (S, D) -> logits (T, words): of what comes after each."""
    x = TOKENS[ids] + PLACES[: len(ids)]
    x = layer_norm(x + head(x, x, WATCH, causal=True))
    x = layer_norm(x + head(x, memory, FIND))  # asks from x, is answered from memory
    return layer_norm(x + feedforward(x, SAY)) @ HEAD.T


def reads(rows, where, row=0):
    """A matrix that copies the dimensions in `where` to its rows from `row` on."""
    matrix = np.zeros((rows, D))
    matrix[range(row, row + len(where)), where] = 1
    return matrix


WORDS = ["<SOS>", "<EOS>", "我", "爱", "你", "i", "love", "you", "."]
D, SHARP = 23, 12
# what the dimensions hold: a meaning, the start, a word found, a word to say, done, a place
meaning, start, found, say, done, place = np.split(np.arange(D), [4, 5, 9, 14, 15])
TOKENS = np.zeros((9, D))
TOKENS[[2, 3, 4, 1, 5, 6, 7, 8], [*meaning, *meaning]] = 1  # 我 and i mean the same, and so on
TOKENS[0, start] = 1
PLACES, FIRST = reads(8, place), np.zeros((8, D))
FIRST[0, start] = 1  # the source's first word follows the start

BACK = {  # the encoder: which word stands one place back?
    "query": SHARP * np.eye(8, k=1) @ reads(8, place),
    "key": reads(8, place),
    "value": reads(8, meaning),
    "output": reads(8, found).T,
}
NOTE = {"up": reads(5, found), "down": reads(5, say).T}  # the word that this one follows
WATCH = {  # the decoder: was there a full stop?
    "query": np.zeros((8, D)),
    "query bias": SHARP * np.eye(8)[0],
    "key": reads(8, meaning[3:]),
    "value": reads(8, meaning[3:]),
    "output": reads(8, done).T,
}
FIND = {  # which word of the source follows what was said last?
    "query": SHARP * (reads(8, meaning) + reads(8, start, row=4)),
    "key": reads(8, say[:4]) + reads(8, start, row=4),
    "value": reads(8, meaning),
    "output": reads(8, found).T,
}
silence = np.zeros((5, D))
silence[:4, done] = -3  # a full stop silences every word
SAY = {
    "up": reads(5, found) + reads(5, done, row=4) + silence,
    "down": 3 * reads(5, say).T,
}
HEAD = np.zeros((9, D))
HEAD[[5, 6, 7, 8, 1], say] = 1

memory = encoder([*map(WORDS.index, SOURCE), WORDS.index("<EOS>")])
ids = [WORDS.index("<SOS>")]
while WORDS[ids[-1]] != "<EOS>" and len(ids) < len(PLACES):
    chances = softmax(decoder(ids, memory)[-1])
    ids.append(int(chances.argmax()))
    print(f"{WORDS[ids[-1]]:6} {chances.max():.4f}   <EOS> {chances[1]:.4f}")
print(*(WORDS[id] for id in ids))
