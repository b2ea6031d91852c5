"""Documents by the keys and globs that a person types."""

from typing import TYPE_CHECKING

from engine.terminal.options import spellings, typed
from engine.terminal.sanitise import sanitise_line
from engine.terminal.suggestions import did_you_mean

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.records import Document

__all__ = ["document_at", "keys_at", "keys_like", "not_there"]


def document_at(target: "Collection", key: str) -> "Document | None":
    """The document of a key, however its accents were typed, or as it is shown where it holds what is not shown."""
    for one in spellings(key):
        if found := target.document(one):
            return found
    if set(key) & set("*?"):  # a glob, which need not be compared with every key
        return None
    keys = target.keys()
    meant = [one for one in keys if one != key == sanitise_line(one)]
    return target.document(meant[0]) if len(meant) == 1 else None


def keys_like(target: "Collection", glob: str | None) -> list[str]:
    """The keys of all documents, or of those that match a glob, however its accents were typed; in order."""
    return target.keys(None if glob is None else typed(glob))


def keys_at(target: "Collection", wanted: str) -> list[str]:
    """The key that was typed, where a document has it, else those that it matches as a glob and those of a source."""
    if found := document_at(target, wanted):
        return [found.key]
    return sorted({*keys_like(target, wanted), *(key for one in spellings(wanted) for key in target.keys_of(one))})


def not_there(target: "Collection", wanted: str) -> str:
    """What to say of a key or glob that names no document; of a key also which one may have been meant."""
    hint = None if set(wanted) & set("*?[") else did_you_mean(spellings(wanted)[1], target.keys())
    return f"{wanted}: no such document" + (f" ({hint})" if hint else "")
