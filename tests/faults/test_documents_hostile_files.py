"""Files that are broken, hostile or huge: each is rejected with a reason, and everything else is read."""

import gzip
import io
import json
import logging
import struct
import sys
import zipfile
from pathlib import Path

import pytest

from engine.documents import Splitter, check_text, expansion, extraction, open_source
from engine.documents import lines as line_reading
from engine.records import Document, Rejection


def read_one(path: Path, content: bytes) -> Document | Rejection:
    path.write_bytes(content)
    (item,) = open_source(str(path)).read()
    return item


def reason(path: Path, content: bytes) -> str:
    item = read_one(path, content)
    assert isinstance(item, Rejection), item
    assert item.where == path.name
    assert "\n" not in item.reason
    return item.reason


def zipped(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


# Records


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"_id": "1", "text": ', "malformed JSON"),
        (b'{"_id": "1"}', 'missing field "text"; choose with --text-column'),
        (b'{"_id": "1", "text": null}', 'field "text" is not text'),
        (b'{"_id": "1", "text": ["a"]}', 'field "text" is not text'),
        (b'{"_id": true, "text": "a"}', 'field "_id" is not text'),
        (b'{"_id": "", "text": "a"}', "empty id"),
        (b'{"_id": "1", "text": " "}', "empty document"),
        (b'{"_id": "1", "text": "a\\u0000b"}', 'field "text" holds a NUL byte'),
        (b'{"_id": "1", "text": "a", "url": "\\u0000"}', 'field "metadata" holds a NUL byte'),
        (b'{"_id": "1", "text": "\\ud800"}', 'field "text" holds a lone surrogate, U+D800'),
        (b'{"_id": "1", "text": "a", "title": "\\udfff"}', 'field "title" holds a lone surrogate, U+DFFF'),
        (b'{"_id": "1\\ud800", "text": "a"}', 'field "id" holds a lone surrogate, U+D800'),
        (b'{"_id": "1", "text": "a", "x": {"\\ud800": 1}}', 'field "metadata" holds a lone surrogate, U+D800'),
        (b'{"_id": "1", "text": "\xe9"}', "not UTF-8, at byte 23 of the line"),
        (b'{"_id": "1", "text": "a\x00"}', "malformed JSON"),
        (b'{"_id": "1", "text": "a", "n": NaN}', "malformed JSON, NaN is no number"),
        (b'{"_id": "1", "text": "a", "n": ' + b"9" * 5000 + b"}", "malformed JSON"),
        (b'{"_id": "1", "text": "a", "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "JSON nested too deeply"),
        (b'{"_id": "1", "text": "a", "n": ' + b"[" * 100 + b"]" * 100 + b"}", "JSON nested too deeply"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_bad_line_is_rejected_with_its_number_and_the_rest_is_read(
    tmp_path: Path, line: bytes, expected: str
) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"_id": "a", "text": "un"}\n' + line + b'\n{"_id": "b", "text": "deux"}')
    first, rejection, last = open_source(str(path)).read()
    assert isinstance(first, Document)
    assert isinstance(last, Document)
    assert isinstance(rejection, Rejection)
    assert (rejection.where, rejection.line) == ("c.jsonl", 2)
    assert rejection.reason.startswith(expected)


class _LongLine(io.RawIOBase):
    """100 MB on one line between two records, made as it is read."""

    def __init__(self) -> None:
        self.parts = [b'{"_id": "a", "text": "un"}\n', *[b"x" * 1024 * 1024] * 100, b'\n{"_id": "b", "text": "deux"}\n']

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        if not self.parts:
            return 0
        part = self.parts[0][: len(buffer)]
        self.parts[0] = self.parts[0][len(part) :]
        if not self.parts[0]:
            self.parts.pop(0)
        buffer[: len(part)] = part
        return len(part)


def test_a_line_of_a_hundred_megabytes_is_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    held = max(len(line or b"") for _, line in line_reading.lines(io.BufferedReader(_LongLine())))
    assert held < 100
    stdin = type("Stdin", (), {"buffer": io.BufferedReader(_LongLine())})
    monkeypatch.setattr(sys, "stdin", stdin)
    assert [getattr(item, "key", None) or str(item) for item in open_source("-").read()] == [
        "a",
        "stdin:2: line longer than 16 MB",
        "b",
    ]


def test_a_quote_that_never_closes_does_not_hold_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.documents.readers.table.MOST_LINE", 1000)
    (tmp_path / "t.csv").write_text('id,text\n1,"un\n' + "2,deux\n" * 1000)
    items = list(open_source(str(tmp_path / "t.csv")).read())
    assert any("malformed row" in str(item) for item in items)


# Text


@pytest.mark.parametrize(
    "content", [b"\x7fELF\x02\x01\x01" + bytes(50), bytes(range(256)) * 20, b"\x89PNG\r\n\x1a\n\x00\x00", b"a\x00b"]
)
def test_a_binary_file_named_txt_is_rejected(tmp_path: Path, content: bytes) -> None:
    assert reason(tmp_path / "a.txt", content) in ("binary, not text", "holds a NUL byte")


def test_a_byte_order_mark_that_lies_is_rejected(tmp_path: Path) -> None:
    assert "byte order mark" in reason(tmp_path / "a.txt", b"\xff\xfea")


def test_check_text_names_what_is_wrong() -> None:
    assert check_text("été 🙂 \x1b[31m") is None
    assert check_text("a\0") == "holds a NUL byte"
    assert check_text("a\udc80") == "holds a lone surrogate, U+DC80"


# Markup


@pytest.mark.parametrize("body", ["<div>" * 2000, "<table><tr><td>" * 500, "<ul><li>" * 900])
def test_html_nested_deeply_is_read(tmp_path: Path, body: str) -> None:
    item = read_one(tmp_path / "p.html", f"{body}texte".encode())
    assert isinstance(item, Document)
    assert item.text.endswith("texte")


def test_html_nested_beyond_what_its_parser_keeps_is_rejected(tmp_path: Path) -> None:
    assert reason(tmp_path / "p.html", b"<p>un</p>" + b"<div>" * 50_000 + b"texte") == "HTML nested too deeply"


BILLION_LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "haha">'
    + "".join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefghi", "bcdefghij", strict=True))
    + "]>"
)
XXE = '<!DOCTYPE x [<!ENTITY j SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("prologue", [BILLION_LAUGHS, XXE])
def test_entities_are_not_expanded(tmp_path: Path, prologue: str) -> None:
    odt = zipped({"content.xml": f"<?xml version='1.0'?>{prologue}<d><p>avant &j; après</p></d>".encode()})
    docx = zipped({"word/document.xml": f"{prologue}<d><p><t>avant &j; après</t></p></d>".encode()})
    page = f"<?xml version='1.0'?>{prologue}<html><body><p>avant &j; après</p></body></html>".encode()
    for name, content in (("a.odt", odt), ("a.docx", docx), ("a.xhtml", page), ("a.html", page[21:])):
        item = read_one(tmp_path / name, content)
        assert "haha" not in str(item)
        assert "root:" not in str(item)
        assert len(str(item)) < 5000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", "<pre>a" + " " * 1_000_000 + "b</pre>"),
        ("a.html", "<title>" + "t " * 1_000_000 + "</title><p>a" + " b" * 1_000_000),
        ("a.md", "---\nk: a" + " " * 1_000_000 + "b\n---\n# " + "[" * 1_000_000 + "_" * 1_000_000),
        ("a.md", "#" * 1_000_000 + "a\n" + "=" * 1_000_000 + "x"),
    ],
    ids=["spaces", "title", "front matter", "heading"],
)
@pytest.mark.timeout(20)
def test_long_runs_take_linear_time_and_titles_stay_short(tmp_path: Path, name: str, content: str) -> None:
    item = read_one(tmp_path / name, content.encode())
    assert isinstance(item, Document)
    assert len(item.title) <= extraction.MOST_TITLE


# Archives


def test_a_zip_bomb_is_rejected_before_it_expands(tmp_path: Path) -> None:
    bomb = zipped({"content.xml": bytes(100 * 1024 * 1024)})
    assert len(bomb) < 200_000
    assert "expands to more than 200 times" in reason(tmp_path / "a.odt", bomb)


def test_a_zip_that_lies_about_its_sizes_is_rejected(tmp_path: Path) -> None:
    content = bytearray(zipped({"content.xml": b"<p>" + b"a" * 100_000 + b"</p>"}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(signature) + offset
        content[at : at + 4] = struct.pack("<I", 10)
    assert "damaged" in reason(tmp_path / "a.odt", bytes(content))


def test_a_gzip_bomb_is_rejected(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(expansion.HARMLESS_BYTES + 1024 * 1024))
    assert "expands to more than 200 times" in reason(tmp_path / "a.txt.gz", bomb)
    assert "expands to more than 200 times" in str(list(open_source(str(tmp_path / "a.txt.gz")).read()))


def test_a_file_that_is_too_large_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "MOST_BYTES", 1024 * 1024)
    assert extraction.MOST_BYTES > 1024 * 1024
    assert reason(tmp_path / "a.txt", b"a" * (1024 * 1024 + 1)) == "larger than 1 MB"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt.gz", b"texte", "broken gzip file"),
        ("a.txt.gz", gzip.compress(b"texte" * 100)[:-4], "truncated gzip file"),
        ("a.jsonl.gz", b"texte", "broken gzip file"),
        ("a.csv.gz", gzip.compress(b"id,text\n")[:-9], "truncated gzip file"),
        ("a.docx", b"texte", "broken DOCX, not a sound zip archive"),
        ("a.odt", zipped({"content.xml": b"<a>"}), "content.xml is no well-formed XML"),
        ("a.odt", zipped({"x": b""}), "broken ODT, 'content.xml' is missing"),
        ("a.epub", zipped({"x": b""}), "broken EPUB, 'META-INF/container.xml' is missing"),
        ("a.epub", zipped({"META-INF/container.xml": b"<a/>"}), "broken EPUB, its container names no package"),
        ("a.pdf", b"%PDF-1.4 rien", "broken PDF"),
        ("a.pdf", b"", "broken PDF"),
        ("a.html", b"", "empty document"),
        ("a.html", b"<!-- -->", "empty document"),
        ("a.csv", b"", "no header"),
        ("a.csv", b"a,b\n1,2\n", 'no column "text"'),
        ("a.csv", "id,texte\n1,été".encode("utf-16"), "encoded in UTF-16"),
    ],
)
def test_a_broken_file_says_what_is_wrong(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    assert reason(tmp_path / name, content).startswith(expected)


def test_an_encrypted_pdf_says_so(tmp_path: Path) -> None:
    key = "<" + "41" * 32 + ">"
    content = (
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Count 0/Kids[]>>endobj\n"
        f"3 0 obj<</Filter/Standard/V 1/R 2/O{key}/U{key}/P -4>>endobj\n"
        "trailer<</Size 4/Root 1 0 R/Encrypt 3 0 R/ID[<41><41>]>>\n%%EOF"
    )
    assert reason(tmp_path / "a.pdf", content.encode()) == "encrypted PDF, it asks for a password"


def test_a_reader_that_fails_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(content: bytes) -> None:
        raise ZeroDivisionError("par zéro")

    monkeypatch.setattr("engine.documents.readers.html.read", broken)
    (tmp_path / "a.html").write_text("x")
    (tmp_path / "b.txt").write_text("texte")
    rejection, document = open_source(str(tmp_path)).read()
    assert str(rejection) == "a.html: the html reader failed, ZeroDivisionError: par zéro"
    assert isinstance(document, Document)


def test_a_file_that_cannot_be_opened_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "b.jsonl", "c.txt"):
        (tmp_path / name).write_text("texte")
    opened = Path.open

    def refuse(path: Path, *arguments: object, **named: object) -> object:
        if path.name in ("a.txt", "b.jsonl"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **named)  # type: ignore[call-overload]

    source = open_source(str(tmp_path))
    monkeypatch.setattr(Path, "open", refuse)
    first, second, document = source.read()
    assert str(first) == "a.txt: cannot be read, permission denied"
    assert str(second) == "b.jsonl: cannot be read, permission denied"
    assert isinstance(document, Document)


def test_broken_files_are_read_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for extension in ("pdf", "docx", "odt", "epub", "html", "csv", "jsonl", "txt.gz"):
        (tmp_path / f"a.{extension}").write_bytes(b"%PDF-1.4 <a \xff\x00 PK\x03\x04" * 50)
    with caplog.at_level(logging.WARNING):
        list(open_source(str(tmp_path)).read())
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


# The splitter


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10_000_000,
        "." * 10_000_000,
        "a. " * 300_000,
        "\n" * 10_000_000,
        "« " * 300_000,
        "e\u0301" * 1_000_000,
        "- a\n" * 200_000,
    ],
    ids=["word", "dots", "sentences", "lines", "quotes", "marks", "items"],
)
@pytest.mark.timeout(60)
def test_a_huge_text_without_the_usual_ends_is_split_in_bounded_passages(text: str) -> None:
    spans = Splitter.parse("words:150:30").split(text)
    assert all(end - start <= 1800 for start, end in spans)
    assert json.dumps(spans)
