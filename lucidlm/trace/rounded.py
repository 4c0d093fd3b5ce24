"""Where an engine rounds vectors before it multiplies them: the sites that this adds."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from lucidlm.engine import Rounding
from lucidlm.trace.operations import Round
from lucidlm.trace.site import Length, Site


class Rounded:
    """The sites of rounded vectors: one wherever a first weight wants it."""

    def __init__(self, rounding: Mapping[str, Rounding]) -> None:
        self.rounding = rounding
        self.there: set[str] = set()

    def __call__(
        self,
        weight: str,
        source: str,
        at: str,
        noun: str,
        sizes: tuple[int | Length, ...],
        part: str,
        scale: float = 1.0,
    ) -> Generator[Site, None, str]:
        """Yield the site `noun` at `at`, if `weight` is the first to want it; return what `weight`
        is multiplied with.
        """
        to = self.rounding.get(weight)
        if to is None:
            return source
        name = noun if to == "int8" else f"{noun}_{to}"
        address = f"{at}.{name}"
        if address not in self.there:
            self.there.add(address)
            yield Site(
                address=address,
                key=f"{at.rpartition('.')[2].removeprefix('cross_')}.{noun}",
                sizes=sizes,
                operation=Round(source, to, scale),
                part=part,
                derived=True,
            )
        return address
