"""The sample collection is whole: its files decode, and its judgements name documents that exist."""

import csv
import gzip
import json
import re
import zipfile
from collections import Counter
from pathlib import Path

import pypdfium2
import pytest

from engine import Document, sample
from engine.documents import open_source

ROOT = Path(str(sample.DOCUMENTS))
FILES = sorted(path for path in ROOT.rglob("*") if path.is_file())
RECORD_FILES = {".jsonl", ".csv"}


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


QUESTIONS = rows(Path(str(sample.QUESTIONS)))
HEADER, *QRELS = rows(Path(str(sample.QRELS)))


def records(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return [json.loads(line) for line in lines] if path.suffix == ".jsonl" else list(csv.DictReader(lines))


def keys() -> list[str]:
    found = []
    for path in FILES:
        key = path.relative_to(ROOT.parent).as_posix()
        found += [f"{key}#{record['id']}" for record in records(path)] if path.suffix in RECORD_FILES else [key]
    return found


def archived(path: Path, inside: str) -> str:
    with zipfile.ZipFile(path) as archive:
        return "".join(archive.read(name).decode() for name in archive.namelist() if re.fullmatch(inside, name))


def pages(path: Path) -> list[str]:
    with pypdfium2.PdfDocument(path) as document:
        return [page.get_textpage().get_text_range() for page in document]


def decoded(path: Path) -> str:
    match path.suffix:
        case ".pdf":
            return "".join(pages(path))
        case ".docx":
            return archived(path, r"word/document\.xml")
        case ".odt":
            return archived(path, r"content\.xml")
        case ".epub":
            return archived(path, r".*\.xhtml")
        case ".gz":
            return gzip.decompress(path.read_bytes()).decode()
        case ".html":
            declared = re.search(rb'charset="?([\w-]+)', path.read_bytes())
            assert declared is not None
            return path.read_bytes().decode(declared[1].decode())
        case _:
            return path.read_text(encoding="utf-8")


def test_holds_at_least_75_documents() -> None:
    assert len(keys()) >= 75


def test_document_keys_are_unique() -> None:
    assert max(Counter(keys()).values()) == 1


def test_every_format_is_there() -> None:
    formats = {"".join(path.suffixes) for path in FILES}
    assert formats >= {".txt", ".md", ".html", ".pdf", ".docx", ".odt", ".epub", ".jsonl", ".csv", ".txt.gz"}


def test_stays_under_a_megabyte() -> None:
    assert sum(path.stat().st_size for path in FILES) < 1_000_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_decodes_to_french(path: Path) -> None:
    text = decoded(path)
    assert "\ufffd" not in text
    assert "Ã" not in text or path.name == "encodage.txt"  # that page is about mojibake
    assert re.search("[éèàç]", text)
    assert len(text.split()) >= 100


def test_every_record_has_an_id_a_title_and_a_text() -> None:
    for path in FILES:
        if path.suffix in RECORD_FILES:
            assert all(record["id"] and record["title"] and record["text"] for record in records(path))


def test_the_pdf_has_several_pages_with_text() -> None:
    (pdf,) = (path for path in FILES if path.suffix == ".pdf")
    assert len(pages(pdf)) > 1
    assert all(text.strip() for text in pages(pdf))


def test_fouille_reads_every_document_under_the_key_that_the_judgements_use() -> None:
    read = list(open_source(str(ROOT)).read())
    assert [item for item in read if not isinstance(item, Document)] == []
    assert sorted(item.key for item in read) == sorted(keys())


def test_question_ids_are_unique() -> None:
    assert len({row[0] for row in QUESTIONS}) == len(QUESTIONS) >= 25


def test_no_question_is_empty() -> None:
    assert all(len(row) == 2 and row[1].strip() for row in QUESTIONS)


def test_judgements_are_in_the_beir_form() -> None:
    assert HEADER == ["query-id", "corpus-id", "score"]
    assert all(len(row) == 3 and int(row[2]) > 0 for row in QRELS)


def test_every_judged_document_exists() -> None:
    assert {row[1] for row in QRELS} <= set(keys())


def test_every_question_has_a_judgement_and_no_other_is_judged() -> None:
    assert {row[0] for row in QRELS} == {row[0] for row in QUESTIONS}
