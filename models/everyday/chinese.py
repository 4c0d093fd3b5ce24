"""Chinese numbers in words."""

_DIGITS = "零一二三四五六七八九"


def number(value: int) -> str:
    """0 to 9999 as it is read: 205 二百零五, 15 十五."""
    assert 0 <= value < 10_000
    if value < 10:
        return _DIGITS[value]
    if value < 20:
        return "十" + (_DIGITS[value - 10] if value > 10 else "")
    size, name = (1000, "千") if value >= 1000 else (100, "百") if value >= 100 else (10, "十")
    high, rest = divmod(value, size)
    text = _DIGITS[high] + name
    if not rest:
        return text
    if rest * 10 < size:
        return text + "零" + number(rest)
    return text + ("一" if 10 <= rest < 20 else "") + number(rest)


def counted(value: int) -> str:
    """A number before a measure word: 2 is 两."""
    return "两" if value == 2 else number(value)
