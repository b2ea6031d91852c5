"""Which files below a folder are read."""

import os
from pathlib import Path

import pytest

from engine.documents.discovery import Found, Pattern, walk
from engine.records import Rejection


def tree(base: Path, *names: str) -> Path:
    for name in names:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text("texte")
    return base


def names(base: Path) -> list[str]:
    return [found.name for found in walk(base) if isinstance(found, Found)]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    assert names(tree(tmp_path, "a.txt", ".b.txt", ".c/d.txt", "~$a.docx")) == ["a.txt"]


def test_the_last_pattern_of_the_nearest_ignore_file_decides(tmp_path: Path) -> None:
    tree(tmp_path, "a.txt", "keep.txt", "sub/a.txt", "sub/b.txt", "build/c.txt", "sub/build/d.txt")
    (tmp_path / ".gitignore").write_text("*.txt\n!keep.txt\n/build/\n")
    (tmp_path / "sub/.gitignore").write_text("!*.txt\nb.txt\n")
    assert names(tmp_path) == ["keep.txt", "sub/a.txt", "sub/build/d.txt"]


def test_a_file_below_an_ignored_folder_cannot_come_back(tmp_path: Path) -> None:
    tree(tmp_path, "out/a.txt", "b.txt")
    (tmp_path / ".gitignore").write_text("out/\n!out/a.txt\n")
    assert names(tmp_path) == ["b.txt"]


def test_fouilleignore_has_the_last_word_over_gitignore(tmp_path: Path) -> None:
    tree(tmp_path, "a.txt", "b.txt")
    (tmp_path / ".gitignore").write_text("a.txt\n")
    (tmp_path / ".fouilleignore").write_text("!a.txt\nb.txt\n")
    assert names(tmp_path) == ["a.txt"]


def test_ignore_files_above_hold_up_to_the_root_of_the_repository(tmp_path: Path) -> None:
    base = tree(tmp_path / "repo/docs/fr", "a.txt", "b.txt", "c.txt")
    (tmp_path / "repo/.git").mkdir()
    (tmp_path / ".gitignore").write_text("c.txt")
    (tmp_path / "repo/.gitignore").write_text("/docs/fr/a.txt")
    (tmp_path / "repo/docs/.fouilleignore").write_text("b.txt")
    assert names(base) == ["c.txt"]


def test_an_ignored_folder_is_read_when_it_is_named(tmp_path: Path) -> None:
    base = tree(tmp_path / "repo/build", "a.txt")
    (tmp_path / "repo/.git").mkdir()
    (tmp_path / "repo/.gitignore").write_text("build/\n")
    assert names(base) == ["a.txt"]


def test_a_line_that_is_no_pattern_does_not_spoil_an_ignore_file(tmp_path: Path) -> None:
    tree(tmp_path, "a.txt", "b.txt")
    (tmp_path / ".gitignore").write_bytes(b"!\n//\n**a[\n\xff\na.txt\n")
    assert names(tmp_path) == ["b.txt"]


def test_an_ignore_file_with_a_byte_order_mark_keeps_its_first_pattern(tmp_path: Path) -> None:
    tree(tmp_path, "a.txt", "b.txt")
    (tmp_path / ".gitignore").write_text("a.txt\n", encoding="utf-8-sig")
    assert names(tmp_path) == ["b.txt"]


def test_links_that_lead_back_are_not_followed(tmp_path: Path) -> None:
    base = tree(tmp_path / "base", "sub/a.txt")
    (base / "sub/loop").symlink_to(base)
    (base / "sub/up").symlink_to(tmp_path)
    (base / "again").symlink_to("sub")
    (base / "b.txt").symlink_to("sub/a.txt")
    (base / "self.txt").symlink_to("self.txt")
    assert names(base) == ["sub/a.txt"]


def test_links_to_what_the_walk_leaves_out_are_followed(tmp_path: Path) -> None:
    base = tree(tmp_path / "base", ".store/a.txt", "kept/old/b.txt", "kept/c.txt", "out/.deep/d.txt", "out/e.txt")
    (base / ".gitignore").write_text("/out/\n")
    (base / "kept/.fouilleignore").write_text("old/\n")
    (base / "sl").mkdir()
    for target in (".store/a.txt", "kept/old/b.txt", "kept/c.txt", "out/e.txt"):
        (base / "sl" / Path(target).name).symlink_to(base / target)
    (base / "sl/folder").symlink_to(base / "out/.deep")
    assert names(base) == ["kept/c.txt", "sl/a.txt", "sl/b.txt", "sl/e.txt", "sl/folder/d.txt"]


def test_links_to_what_a_pattern_leaves_out_are_followed(tmp_path: Path) -> None:
    base = tree(tmp_path, "a.txt", "sub/b.txt")
    (base / "again.txt").symlink_to("a.txt")
    (base / "link.txt").symlink_to("sub/b.txt")
    found = [item.name for item in walk(base, Pattern("*.txt")) if isinstance(item, Found)]
    assert found == ["a.txt", "link.txt"]


def test_links_that_lead_outside_are_followed_once(tmp_path: Path) -> None:
    outside = tree(tmp_path / "outside", "a.txt")
    (outside / "loop").symlink_to(outside)
    base = tree(tmp_path / "base", "b.txt")
    (base / "out").symlink_to(outside)
    (base / "out2").symlink_to(outside)
    assert names(base) == ["b.txt", "out/a.txt"]


@pytest.mark.parametrize("target", ["missing", "b.txt/missing"])
def test_a_link_to_nothing_is_reported_whatever_its_name(tmp_path: Path, target: str) -> None:
    tree(tmp_path, "b.txt")
    (tmp_path / "a.txt").symlink_to(target)
    (tmp_path / "folder").symlink_to(target)
    assert [str(item) for item in walk(tmp_path) if isinstance(item, Rejection)] == [
        "a.txt: a link to nothing",
        "folder: a link to nothing",
    ]


def test_a_link_to_nothing_that_is_hidden_or_ignored_is_left_out(tmp_path: Path) -> None:
    tree(tmp_path, "b.txt")
    (tmp_path / ".gitignore").write_text("build/\n*.o\n")
    for name in ("build", "a.o", ".#lock"):
        (tmp_path / name).symlink_to("missing")
    assert [str(item) for item in walk(tmp_path) if isinstance(item, Rejection)] == []


def test_a_link_to_itself_is_reported(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert [str(item) for item in walk(tmp_path)] == ["loop: cannot be read, too many levels of symbolic links"]


def test_what_a_folder_names_and_does_not_show_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "closed/a.txt", "closed/sub/b.txt", "c.txt")
    asked = Path.stat

    def stat(path: Path, **named: bool) -> os.stat_result:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied")
        return asked(path, **named)

    monkeypatch.setattr(Path, "stat", stat)
    assert [str(item) for item in walk(tmp_path) if isinstance(item, Rejection)] == [
        "closed/a.txt: cannot be read, permission denied",
        "closed/sub: cannot be read, permission denied",
    ]


def test_a_folder_too_deep_to_enter_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(25):  # beyond the 4,096 bytes of a path, step by step
        Path("d" * 200).mkdir()
        os.chdir("d" * 200)
    Path("a.txt").write_text("x")
    (rejection,) = walk(tmp_path)
    assert isinstance(rejection, Rejection)
    assert rejection.where.startswith("ddd")
    assert rejection.reason == "cannot be read, file name too long"


def test_special_files_are_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert names(tree(tmp_path, "a.txt")) == ["a.txt"]


def test_names_that_are_no_utf8_become_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    assert names(tmp_path) == ["caf\\xe9.txt"]


def test_names_with_line_ends_and_escapes_are_kept(tmp_path: Path) -> None:
    assert names(tree(tmp_path, "a\n\x1b[31m.txt")) == ["a\n\x1b[31m.txt"]


def test_decomposed_names_are_composed(tmp_path: Path) -> None:
    assert names(tree(tmp_path, "e\u0301te\u0301.txt")) == ["été.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_without_permission_is_reported(tmp_path: Path) -> None:
    tree(tmp_path, "a.txt", "closed/b.txt")
    (tmp_path / "closed").chmod(0)
    found = list(walk(tmp_path))
    (tmp_path / "closed").chmod(0o700)
    assert found[1] == Rejection("closed", "folder cannot be read, permission denied")


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a.txt", "closed/b.txt")
    listed = Path.iterdir

    def iterdir(folder: Path) -> object:
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert [str(item) for item in walk(tmp_path) if isinstance(item, Rejection)] == [
        "closed: folder cannot be read, permission denied"
    ]


def test_deeply_nested_folders_are_no_trouble(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(300):
        deep /= "dossier"
    deep.mkdir(parents=True)
    (deep / "a.txt").write_text("x")
    assert len(names(tmp_path)) == 1
