"""The English words of days, months and numbers, as patterns (for small letters) and as values."""

from typing import Final

WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
FULL_WEEKDAY: Final = "(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
ANY_WEEKDAY: Final = (
    "(?:mon(?:day)?|tue(?:s(?:day)?)?|wed(?:s|nesday)?|thu(?:r(?:s(?:day)?)?)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)"
)
_WEEKDAY_BEGINS: Final = ("mo", "tu", "we", "th", "fr", "sa", "su")

MONTH: Final = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?)"
)
_MONTH_BEGINS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

DAY_OF_MONTH: Final = "(?:3[01]|[12][0-9]|0?[1-9])"
ORDINAL: Final = "(?:[23]?1st|2?2nd|2?3rd|(?:[4-9]|1[0-9]|2[04-9]|30)th)"
_NTH: Final = ("first", "second", "third", "fourth", "fifth")
NTH: Final = "(?:first|1st|second|2nd|third|3rd|fourth|4th|fifth|5th|last)"

_NUMBERS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NUMBER: Final = f"(?:[1-9][0-9]{{0,2}}|{'|'.join(_NUMBERS)})"


def weekday_of(word: str) -> int:
    """Give the day of the week of a word, Monday as 0."""
    return _WEEKDAY_BEGINS.index(word[:2])


def month_of(word: str) -> int:
    """Give the month of a word, January as 1."""
    return _MONTH_BEGINS.index(word[:3]) + 1


def number_of(word: str) -> int:
    """Give the number of a word or of digits; `a` and `an` are 1."""
    if word in {"a", "an"}:
        return 1
    return _NUMBERS.index(word) + 1 if word in _NUMBERS else int(word)


def nth_of(word: str) -> int:
    """Give the number of an ordinal, -1 for the last."""
    if word == "last":
        return -1
    return _NTH.index(word) + 1 if word in _NTH else int(word[:-2])
