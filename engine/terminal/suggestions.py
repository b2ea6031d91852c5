"""What a person may have meant by a name that is not there."""

from collections.abc import Iterable

__all__ = ["did_you_mean", "meant"]

_MOST_COMPARED = 10_000


def meant(wanted: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `wanted`; None where none comes near.

    The first record of that file (KEY#1), or a path that ends so, goes before a longer name, and that before one that
    is spelt alike. Where there are more names than can be compared in a moment, only the first two are looked for.
    """
    from difflib import get_close_matches

    names = list(known)
    if at_an_end := next((one for one in names if one.startswith(f"{wanted}#") or one.endswith(f"/{wanted}")), None):
        return at_an_end
    if len(names) > _MOST_COMPARED:
        return None
    like, folded = wanted.casefold(), {name.casefold(): name for name in reversed(names)}
    longer = (name for name in reversed(folded) if len(like) > 1 and name.startswith(like))
    if close := next(longer, None):
        return folded[close]
    close = next(iter(get_close_matches(like, folded, n=1)), None)
    # A folder that both share makes any two paths alike.
    return folded[close] if close and get_close_matches(_last(like), [_last(close)]) else None


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def did_you_mean(wanted: str, known: Iterable[str], *, mark: str = "") -> str | None:
    """`did you mean NAME?`, the name behind `mark`; None where none comes near."""
    name = meant(wanted, known)
    return None if name is None else f"did you mean {mark}{name}?"
