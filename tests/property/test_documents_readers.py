"""What the readers promise of any content."""

import io
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.documents import check_text
from engine.documents.encoding import decode
from engine.documents.extraction import Columns, Record, Unreadable
from engine.documents.readers import html, jsonl, markdown, table
from engine.documents.text import normalise
from engine.records import Rejection

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
RESERVED = {"_id", "id", "key", "title", "text", "contents", "metadata"}
EXTRA = st.dictionaries(TEXT.filter(lambda name: name not in RESERVED), JSON, max_size=3)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, EXTRA), max_size=5), st.booleans())
def test_records_written_as_jsonl_come_back(
    records: list[tuple[str, str, str, dict[str, object]]], ascii_only: bool
) -> None:
    lines = (
        json.dumps({"_id": key, "title": title, "text": text, "metadata": extra}, ensure_ascii=ascii_only)
        for key, title, text, extra in records
    )
    read = list(jsonl.read(io.BytesIO("\n".join(lines).encode()), Columns()))
    # What filters compare is text in the form that they are typed in.
    expected = [
        (*texts, {name: normalise(value) if isinstance(value, str) else value for name, value in extra.items()})
        for *texts, extra in records
    ]
    assert [(item.id, item.title, item.text, item.metadata) for item in read if isinstance(item, Record)] == expected


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"{", b"}", b'"_id"', b":", b'"\\ud800"', b"\n", b"\xff", b'"text"', b","])).map(
        b"".join
    )
)
def test_any_bytes_give_records_or_rejections(content: bytes) -> None:
    for item in jsonl.read(io.BytesIO(content), Columns()):
        assert isinstance(item, Record | Rejection)


PLAIN = st.lists(st.text("aé '.", max_size=8), max_size=8)


@given(PLAIN, PLAIN)
def test_rows_around_a_lone_quote_are_all_read(before: list[str], after: list[str]) -> None:
    rows = (f"{number},{text}\n" for number, text in enumerate([*before, '"ouvert', *after]))
    found = list(table.read(io.BytesIO("".join(["id,text\n", *rows]).encode()), Columns()))
    assert [item.line for item in found] == list(range(2, 3 + len(before) + len(after)))
    assert [item.line for item in found if isinstance(item, Rejection)] == [2 + len(before)]


@given(st.binary(max_size=500))
def test_any_bytes_decode_or_are_refused(content: bytes) -> None:
    try:
        text = decode(content).text
    except Unreadable:
        return
    assert check_text(text.replace("\0", "")) is None


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


TAGS = "<p> </p> <div> <table> <td> <tr> </table> <ul> <li> </ul> <pre> </pre> <br> <main> <nav> &amp; <!-- --> a é"
MARKUP = st.lists(st.sampled_from(TAGS.split()) | TEXT.filter(bool), max_size=40).map("".join)


@given(MARKUP)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_markup_is_read(content: str) -> None:
    body = html.read(content.encode()).text
    assert body == body.strip()
    assert check_text(body) is None


@given(st.lists(st.sampled_from(["---", "title: x", "# a", "b", "```", "===", "\r", ""]), max_size=12).map("\n".join))
def test_markdown_keeps_its_lines(content: str) -> None:
    expected = normalise(content).split("\n")
    lines = markdown.read(content.encode()).text.split("\n")
    assert len(lines) == len(expected)
    assert all(line in ("", wanted) for line, wanted in zip(lines, expected, strict=True))
