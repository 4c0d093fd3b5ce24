"""Traditional to simplified characters by the tables of OpenCC (Apache-2.0)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

# What old editions print and OpenCC leaves as it is: the variant, and the character of today.
_VARIANTS = (
    "疎疏踈疏隠隐徧遍僊仙邨村幷并筯箸麤粗囘回廻回鴈雁蘂蕊蕋蕊嬾懒煖暖頋顾歩步毎每羮羹荘庄虗虚覇霸"
    "覩睹遶绕閙闹鬬斗黙默皷鼓磵涧堦阶凴凭刼劫呌叫壻婿妬妒寃冤尅克慙惭敍叙旛幡暎映朞期桮杯碁棋氷冰"
    "涙泪澁涩濶阔炤照窻窗牕窗窓窗畧略穉稚粧妆緜绵罇樽聨联膓肠艶艳薫薰覔觅觧解谿溪貎貌輙辄逈迥逰游"
    "遯遁鎻锁鏁锁闗关飜翻髩鬓鬂鬓鵶鸦艸草躭耽邉边峩峨嵓岩巌岩栢柏槩概欝郁欎郁灔滟煑煮甎砖甞尝盌碗"
    "碪砧秪只秖只祇只衹只緐繁緫总聼听胷胸蔕蒂虵蛇襃褒覊羁譌讹賖赊輭软醎咸隄堤鞵鞋顦憔馿驴騣鬃鸎莺"
    "劒剑劔剑懽欢憇憩抝拗攷考攲欹昬昏曵曳朶朵柁舵椶棕檝楫氊毡浄净滛淫濵滨熈熙燄焰牋笺犂犁猨猿瓌瑰"
    "瓈璃甆瓷皐皋臯皋禩祀秔粳箒帚簷檐糓谷繖伞耡锄茆茅荅答藂丛諠喧謌歌貍狸賸剩趂趁蹏蹄迺乃蟇蟆蠭蜂"
    "褭袅菓果罸罚睠眷烱炯翦剪駞驼"
)


@dataclass(frozen=True)
class Simplifier:
    """Phrases are replaced where they stand, the longest first, and every other character alone."""

    phrases: dict[str, str]
    characters: dict[int, str]
    _found: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        longest_first = sorted(self.phrases, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        object.__setattr__(self, "_found", pattern)

    def __call__(self, text: str) -> str:
        parts, end = [], 0
        for match in self._found.finditer(text):
            parts += [text[end : match.start()].translate(self.characters), self.phrases[match[0]]]
            end = match.end()
        return "".join([*parts, text[end:].translate(self.characters)])


def load_simplifier(folder: Path) -> Simplifier:
    """The tables `TSPhrases.txt` and `TSCharacters.txt`, with the variants of old editions."""
    phrases = _table(folder / "TSPhrases.txt") | {"神祇": "神祇", "地祇": "地祇"}
    variants = dict(zip(_VARIANTS[::2], _VARIANTS[1::2], strict=True))
    return Simplifier(phrases, str.maketrans(_table(folder / "TSCharacters.txt") | variants))


def _table(path: Path) -> dict[str, str]:
    """What stands before the tab, and the first of the forms behind it."""
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line)
    return {old: new.split(" ")[0] for old, new in rows}
