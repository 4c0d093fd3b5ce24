"""The next word by counting, and by attention. Change TEXT or QUESTION, or how many words the
counting model looks back.
"""

from collections import Counter

import numpy as np

from lucidlm.classical import dog

TEXT = dog.text().replace("，", " ")  # or sentences of your own, a line each
QUESTION = "我 刚才 跑步 我 现在"

sentences = [line.split() for line in TEXT.splitlines()]
words = sorted({word for sentence in sentences for word in sentence})
question = QUESTION.split()


def count(back):
    """Shares of the words that followed the last `back` words of the question."""
    found = Counter(
        sentence[at]
        for sentence in sentences
        for at in range(back, len(sentence))
        if sentence[at - back : at] == question[len(question) - back :]
    )
    return {word: n / found.total() for word, n in found.most_common()}


for back in (1, 2, 3):
    print(f"counting, {back} back:", count(back))


def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def attend(distance, sharpness=20.0):
    """One attention: the last word looks `distance` places to its left and copies the word."""
    places = np.eye(len(question))
    query = sharpness * places[len(question) - 1 - distance]  # "I want that place"
    weights = softmax(places @ query)  # the keys are the places
    values = np.array([[word == known for known in words] for word in question], float)
    return weights, weights @ values


weights, found = attend(distance=2)
for word, weight in zip(question, weights, strict=True):
    print(f"attention to {word}: {weight:.4f}")
print("found:", words[int(found.argmax())])

# the output matrix: for a word found, the shares of the words that end its sentences
ends = np.array([[sum(s[2] == w and s[-1] == v for s in sentences) for v in words] for w in words])
shares = found @ ends
for word, share in zip(words, shares / shares.sum(), strict=True):
    print(word, f"{share:6.1%}", "█" * round(40 * share))
