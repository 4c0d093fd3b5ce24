"""A small Transformer to take parts out of. Change PARTS, the sizes or the text; more STEPS make
all of them better, and the differences clearer.
"""

import torch
from torch import nn
from torch.nn import functional

from lucidlm.lessons.parts.recorded import text

PARTS = ["nothing", "mask", "position", "feedforward", "residual", "norm"]
STEPS, LINES, BATCH = 40, 1000, 32
DIM, HEADS, LAYERS = 32, 2, 2
OPENING = "我很"
torch.set_num_threads(1)  # such small matrices gain nothing from more

SENTENCES = text().splitlines()[:LINES]  # or lines of your own
letters = ["\n", *sorted(set("".join(SENTENCES)))]
CONTEXT = max(map(len, SENTENCES)) + 2
IGNORED = -100  # a target that is not learnt: what stands behind the end of a line
ids = torch.zeros(len(SENTENCES), CONTEXT, dtype=torch.long)
wanted = torch.full((len(SENTENCES), CONTEXT), IGNORED)
for row, line in enumerate(SENTENCES):
    read = [0, *(letters.index(letter) for letter in line), 0]
    ids[row, : len(read)] = torch.tensor(read)
    wanted[row, : len(read) - 1] = torch.tensor(read[1:])


class Layer(nn.Module):
    def __init__(self, without):
        super().__init__()
        self.without = without
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.up, self.down = nn.Linear(DIM, 4 * DIM), nn.Linear(4 * DIM, DIM)
        self.norms = nn.ModuleList(nn.LayerNorm(DIM) for _ in range(2))

    def attention(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.mT / (DIM / HEADS) ** 0.5  # (B, H, T, T)
        if self.without != "mask":
            ahead = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
            scores = scores.masked_fill(ahead, float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def feedforward(self, x):
        return self.down(functional.gelu(self.up(x)))

    def forward(self, x):
        for norm, part in zip(self.norms, (self.attention, self.feedforward)):
            if part == self.feedforward and self.without == "feedforward":
                continue
            written = part(x if self.without == "norm" else norm(x))
            x = written if self.without == "residual" else x + written
        return x


class Model(nn.Module):
    def __init__(self, without):
        super().__init__()
        self.without = without
        self.tokens, self.places = nn.Embedding(len(letters), DIM), nn.Embedding(CONTEXT, DIM)
        self.layers = nn.Sequential(*(Layer(without) for _ in range(LAYERS)))
        self.head = nn.Linear(DIM, len(letters))

    def forward(self, ids):
        x = self.tokens(ids)
        if self.without != "position":
            x = x + self.places.weight[: ids.shape[1]]
        return self.head(self.layers(x))


def gradient(layer):
    """How large the pull on a layer's weights is."""
    return (
        sum(float(w.grad.square().sum()) for w in layer.parameters() if w.grad is not None) ** 0.5
    )


for without in PARTS:
    torch.manual_seed(1)
    model = Model(without)
    adam = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(STEPS):
        rows = torch.randint(len(SENTENCES), (BATCH,))
        loss = functional.cross_entropy(model(ids[rows]).flatten(0, 1), wanted[rows].flatten())
        adam.zero_grad()
        loss.backward()
        if step == 0:
            pulls = [f"{gradient(layer):.4f}" for layer in model.layers]
        adam.step()
    line = "\n" + OPENING
    while len(line) < CONTEXT and not line.endswith("\n", 1):
        logits = model(torch.tensor([[letters.index(letter) for letter in line]]))
        line += letters[int(logits[0, -1].argmax())]
    print(
        f"without {without:12} loss {float(loss.detach()):.2f}  first pulls {pulls}  {line.strip()}"
    )
