"""What no model may see before it is asked, and which rows are kept for measuring.

我爱你 and its translation, and the pair of 我很开心, are shown in the documentation as
sentences that the models had to work out: so no row of any corpus contains them.
`allowed_text` and `allowed_pair` are asked about every row by every builder.
"""

import re
import unicodedata
from hashlib import blake2b

_LOVE_ZH = ("我爱你", "我愛你")
_HAPPY_ZH = ("我很开心", "我很開心")
_LOVE_EN = "i love you"
_HAPPY_EN = ("i am very happy", "im very happy")
_NO_APOSTROPHE = str.maketrans("", "", "'’‘ʼ＇`´")


def _joined(text: str) -> str:
    """Letters and digits alone, folded: what stands between the characters of 我 爱，你 is gone."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())


def _words(text: str) -> str:
    """The English words, folded, between single spaces and one at each end: "I'm" is "im"."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_NO_APOSTROPHE)
    words = " ".join(re.findall(r"[a-z0-9]+", folded))
    return f" {words} "


def _says(text: str, sentence: str) -> bool:
    return f" {sentence} " in _words(text)


def allowed_text(text: str) -> bool:
    """Whether a row of text, in any language and of any kind, may be learnt from."""
    # Joined, not only searched: spaces and punctuation must not hide the sentence.
    if any(love in _joined(text) for love in _LOVE_ZH):
        return False
    return not _says(text, _LOVE_EN)


def allowed_pair(source: str, target: str) -> bool:
    """Whether a translation pair may be learnt from; either side may be the Chinese one."""
    for side in (source, target):
        if not allowed_text(side):
            return False
        if any(happy in _joined(side) for happy in _HAPPY_ZH):
            return False
        if any(_says(side, happy) for happy in _HAPPY_EN):
            return False
    return True


def normalised(text: str) -> str:
    """What two rows share that differ in case, width, spaces and punctuation only."""
    return _joined(text)


def is_held_out(text: str, share: float) -> bool:
    """Whether a row is kept for measuring, for a `share` (0 to 1) of all rows.

    A pure function of the normalised text, so a row is on the same side in every corpus
    and run, with and without its final punctuation. Pairs of the grammar are keyed by
    their Chinese side.
    """
    assert 0 <= share <= 1
    digest = blake2b(normalised(text).encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64
