"""A row as the ids that are learnt from: what is read, and which of it is to be guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lucidlm.errors import TrainError
from lucidlm.text.chat import encode_chat
from lucidlm.text.template import ChatTemplate, PlainFrame
from lucidlm.text.tokenizer import Tokenizer
from lucidlm.train.recipe import Recipe
from lucidlm.train.rows import ChatRow, PairRow, Row, TextRow

WANTED = {
    "next": (TextRow, PairRow, ChatRow),
    "translate": (PairRow,),
    "mask": (TextRow,),
}


@dataclass(frozen=True)
class Document:
    """`ids`, and from which index on each is to be guessed: True in `learn`. `source` is what an
    encoder reads first.
    """

    ids: Sequence[int]
    learn: Sequence[bool] | None = None  # None: all of it
    source: Sequence[int] = ()


@dataclass(frozen=True)
class Renderer:
    """Rows to documents, as a recipe's objective and its tokenizer want them."""

    recipe: Recipe
    tokenizer: Tokenizer
    template: ChatTemplate | PlainFrame

    def __call__(self, row: Row, place: str) -> Document:
        """The document that `row` is. Raises TrainError for a row that the objective cannot use."""
        objective, tokenizer = self.recipe.objective, self.tokenizer
        if not isinstance(row, WANTED[objective]):
            key = f"dataset.not_for_{objective}"
            raise TrainError(key, place=place)
        if objective == "mask":
            return Document(tokenizer.encode(row.texts[0], allow_special=False))
        if objective == "translate":
            assert isinstance(row, PairRow)
            source, target = (
                tokenizer.encode(side, allow_special=False) for side in (row.source, row.target)
            )
            return Document(target, source=source)
        match row:
            case TextRow():
                return Document([*self._start, *self._plain(row.text), self._end])
            case PairRow():
                return self._pair(row)
            case ChatRow():
                return self._chat(row, place)

    @property
    def _start(self) -> list[int]:
        """What the tokenizer puts before a text of its own accord."""
        bos = self.tokenizer.specials.bos
        around = self.tokenizer.encode("", special=True)
        return [bos] if bos is not None and around[:1] == [bos] else []

    @property
    def _end(self) -> int:
        ends = self.tokenizer.specials.eos
        if not ends:
            raise TrainError("dataset.no_end")
        return ends[0]

    def _plain(self, text: str) -> list[int]:
        """Ids of somebody's words, in which no control token is read."""
        return self.tokenizer.encode(text, special=False, allow_special=False)

    def _pair(self, row: PairRow) -> Document:
        """A pair as one text: the template's words before the target, the target, the end."""
        form = self.recipe.data.pair
        try:
            before, behind = form.split("{target}")
            asked = before.format(source=row.source)
        except (ValueError, KeyError, IndexError):
            raise TrainError("dataset.pair_form", form=form) from None
        first = [*self._start, *self._plain(asked)]
        ids = [*first, *self._plain(row.target + behind), self._end]
        if self.recipe.data.loss_on == "all":
            return Document(ids)
        return Document(ids, [False] * len(first) + [True] * (len(ids) - len(first)))

    def _chat(self, row: ChatRow, place: str) -> Document:
        """A conversation by the template; with `loss_on` answers, what the assistant says and the
        token that ends it are to be guessed.
        """
        ids = self._framed(row, len(row.messages), answering=False)
        if self.recipe.data.loss_on == "all":
            end = [] if ids[-1] == self._end else [self._end]
            return Document([*ids, *end])
        learn = [False] * len(ids)
        for at, message in enumerate(row.messages):
            if message["role"] != "assistant":
                continue
            asked = self._framed(row, at, answering=True) if at else []
            said = self._framed(row, at + 1, answering=False)
            if ids[: len(said)] != said or said[: len(asked)] != asked:
                raise TrainError("dataset.unstable_template", place=place)
            stop = len(said)
            while stop > len(asked) and said[stop - 1] not in self.tokenizer.specials.eos:
                stop -= 1  # a line feed that the template puts behind the end token
            stop = stop if stop > len(asked) else len(said)
            learn[len(asked) : stop] = [True] * (stop - len(asked))
        if not any(learn):
            raise TrainError("dataset.no_answer", place=place)
        return Document(ids, learn)

    def _framed(self, row: ChatRow, count: int, *, answering: bool) -> list[int]:
        return encode_chat(
            self.tokenizer,
            self.template,
            row.messages[:count],
            add_generation_prompt=answering,
        )
