"""One reader per format: what it keeps, and what it leaves out."""

import io
import zipfile
from pathlib import Path

import pytest

from engine.documents import open_source
from engine.documents.encoding import decode
from engine.records import Document, Rejection


def read(folder: Path, name: str, content: bytes | str) -> Document:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (document,) = open_source(str(path)).read()
    assert isinstance(document, Document), document
    return document


def html(folder: Path, body: str) -> Document:
    return read(folder, "p.html", f"<!DOCTYPE html><html><head><title>T</title></head><body>{body}</body></html>")


def packed(**members: str | bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), text)
    return content.getvalue()


# Plain text and Markdown


def test_text_keeps_its_lines(tmp_path: Path) -> None:
    document = read(tmp_path, "a_b.txt", "\ufeffun\r\n\r\ndeux\rtrois\n")
    assert document.text == "un\n\ndeux\ntrois\n"
    assert document.has_lines
    assert document.title == "a b"


def test_text_is_composed_and_loses_what_nobody_sees(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", "e\u0301te\u0301 in\u00advi\u200bsible").text == "été invisible"


def test_controls_that_stand_for_characters_of_windows_are_read_as_those(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", "aujourd\x92hui, le c\x9cur\x81").text == "aujourd’hui, le cœur"
    head, body = "<head><title>L&#146;&eacute;t&eacute;</title></head>", "<body><p>l&#146;an</p></body>"
    document = read(tmp_path, "p.xhtml", f'<?xml version="1.0"?><html>{head}{body}</html>')
    assert (document.title, document.text) == ("L’été", "l’an")


@pytest.mark.parametrize(
    ("encoding", "text", "reported"),
    [
        ("cp1252", "Où est passé l’été à Nœux ?", "cp1252 (guessed)"),
        ("iso8859-15", "Le cœur a ses raisons, été comme hiver.", "iso8859-15 (guessed)"),
        ("mac_roman", "Où est passé l’été à Nœux ?", "mac_roman (guessed)"),
        ("cp850", "Où est passé l'été de l'élève à Nîmes ?", "cp850 (guessed)"),
        ("cp1252", "Société Léa™ 30 €", "cp1252 (guessed)"),
        ("cp1252", "10 µg, ±5 %, n° 3, 25 °C", "cp1252 (guessed)"),
        ("cp1252", "Nº 3 © 2020", "cp1252 (guessed)"),
        ("cp1252", "Œuvre", "cp1252 (guessed)"),
        ("iso8859-15", "Facture du café : 12 €", "iso8859-15 (guessed)"),
        ("iso8859-15", "L'œuvre complète coûte 30 €.", "iso8859-15 (guessed)"),
        ("cp1251", "Это довольно длинный русский текст для проверки.", "cp1251 (guessed)"),
        ("utf-8", "été", None),
        ("utf-16", "été", None),
    ],
)
def test_the_encoding_is_reported_when_it_was_guessed(
    tmp_path: Path, encoding: str, text: str, reported: str | None
) -> None:
    document = read(tmp_path, "a.txt", text.encode(encoding))
    assert document.text == text
    assert document.metadata.get("encoding") == reported


def test_a_few_damaged_bytes_do_not_make_utf8_something_else() -> None:
    text, guessed = decode("été à la plage, élève zélé, forêt".encode() * 20 + b"\xc3(")
    assert text.startswith("été à la plage")
    assert guessed == "utf-8 (guessed, 1 character damaged)"


def test_markdown_takes_its_title_from_the_front_matter_and_keeps_its_lines(tmp_path: Path) -> None:
    document = read(tmp_path, "a.md", "---\ntitle: 'Le titre'\ntags: [a, b]\nauteur: Zoé\n---\n# Autre\nligne 7\n")
    assert document.title == "Le titre"
    assert document.text.split("\n")[5:7] == ["# Autre", "ligne 7"]
    assert document.metadata == {"format": "markdown", "tags": ["a", "b"], "auteur": "Zoé"}


def test_lists_in_front_matter_are_metadata(tmp_path: Path) -> None:
    front = "---\ncategories:\n  - droit\n  - 'code civil'\nvide:\nauteurs: [Zoé, \"É. Z.\"]\n---\nTexte.\n"
    metadata = read(tmp_path, "a.md", front).metadata
    assert metadata == {"format": "markdown", "categories": ["droit", "code civil"], "auteurs": ["Zoé", "É. Z."]}


def test_quotes_and_comments_in_front_matter_are_those_of_yaml(tmp_path: Path) -> None:
    lines = ["title: 'L''entretien : s''y préparer' # deux", "lang: fr # français", r'note: "dit \"oui\""', "c: C#"]
    document = read(tmp_path, "a.md", "\n".join(["---", *lines, "---", "Texte."]))
    assert document.title == "L'entretien : s'y préparer"
    assert document.metadata == {"format": "markdown", "lang": "fr", "note": 'dit "oui"', "c": "C#"}


@pytest.mark.parametrize("between", ["\nUne introduction.\n\n", "Un texte sans nom.\n", "titre : oui\nEt du texte.\n"])
def test_text_between_two_rules_is_text(tmp_path: Path, between: str) -> None:
    text = f"---\n{between}---\nSuite.\n"
    assert read(tmp_path, "a.md", text).text == text.rstrip("\n") or read(tmp_path, "a.md", text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "intro\n\n# Un *bon* titre #\n",
        "Un bon titre\n===\n",
        "# [Un bon](http://x) `titre`",
        "## Un bon titre",
        "# Un bon titre {#ancre}",
        '<h1 align="center">Un bon titre</h1>\n\n## Autre',
    ],
)
def test_markdown_takes_its_title_from_the_first_heading(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, "a.md", text).title == "Un bon titre"


def test_a_list_above_a_rule_is_no_title(tmp_path: Path) -> None:
    assert read(tmp_path, "a.md", "- premier\n- second\n---\n\nSuite\n---\n").title == "Suite"


def test_a_comment_in_code_is_no_title(tmp_path: Path) -> None:
    assert read(tmp_path, "mon-petit-guide.md", "```\n# commande\n```\n").title == "mon petit guide"


# HTML


def test_html_loses_scripts_menus_and_page_furniture(tmp_path: Path) -> None:
    document = html(
        tmp_path,
        "<header>Site</header><nav>Menu</nav><div class='navbar x'>Menu</div><aside>Pub</aside><script>x()</script>"
        "<style>p{}</style><div role=navigation>Menu</div><p hidden>non</p><p>Le texte.</p><footer>Pied</footer>",
    )
    assert document.text == "Le texte."


def test_html_keeps_what_unfolds_and_the_menus_of_dishes(tmp_path: Path) -> None:
    answer = "Les encombrants se déposent à la déchetterie, du lundi au samedi, de neuf heures à midi et demi."
    body = f"""<h3><button>Où déposer ?</button></h3><div style="display: none"><p>{answer}</p></div>
        <div role="tabpanel" hidden><p>Deux : {answer}</p></div><div role="alert">Attention : fermé le jeudi.</div>
        <div class="menu"><h2>Menu de la cantine</h2><p>Blanquette. {answer}</p></div>
        <p>Un <a class="related">lien</a> dans le texte.</p><ul><li><button>x</button></li></ul><p>Fin.</p>
        <div hidden>Chargement</div><button>Valider</button>
        <ul class="menu"><li><a href="a">{answer}</a></li><li><a href="b">Contact</a></li></ul>"""
    found = html(tmp_path, body).text
    for kept in ("Où déposer ?", f"\n{answer}", f"Deux : {answer}", "fermé le jeudi", "Blanquette", "Un lien dans le"):
        assert kept in found
    assert found.endswith("\n\nFin.")


def test_html_keeps_the_header_and_the_notes_of_an_article(tmp_path: Path) -> None:
    document = html(tmp_path, "<article><header><h1>A</h1></header><p>B</p><aside>C</aside></article>")
    assert document.text.split() == ["A", "B", "C"]


def test_html_prefers_the_main_element(tmp_path: Path) -> None:
    assert html(tmp_path, "<div>Avant</div><main><p>Le texte.</p></main><div>Après</div>").text == "Le texte."


def test_a_page_that_its_scripts_would_show_is_read(tmp_path: Path) -> None:
    assert (
        html(tmp_path, "<div class='menu' style='display: none'><p>Accueil</p></div><nav>non</nav>").text == "Accueil"
    )


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("<title>Page | Site</title><h1>Page</h1>", "Page"),
        ("<title>Titre</title><h1>Autre</h1>", "Titre"),
        ("<h1>Seul <em>titre</em></h1>", "Seul titre"),
        ("<title>A &amp; B\n  C</title>", "A & B C"),
        ("", "p"),
    ],
)
def test_html_titles(tmp_path: Path, head: str, expected: str) -> None:
    assert read(tmp_path, "p.html", head + "<p>texte").title == expected


def test_html_blocks_become_lines_and_inline_elements_do_not(tmp_path: Path) -> None:
    document = html(
        tmp_path, "<h2>A<b>b</b>c</h2><p>un  <i>deux</i>\n trois<br>quatre</p><div>cinq</div><div>six</div>"
    )
    assert document.text == "Abc\n\nun deux trois\nquatre\n\ncinq\nsix"


def test_html_lists_keep_their_marks_and_numbers(tmp_path: Path) -> None:
    document = html(tmp_path, "<ul><li>a<ul><li><p>b</p></li></ul></li></ul><ol start=3><li>c<li>d</ol>")
    assert document.text == "- a\n  - b\n\n3. c\n4. d"


def test_html_tables_are_read_row_by_row(tmp_path: Path) -> None:
    document = html(tmp_path, "<table><tr><th>Nom<th>Âge<tr><td><p>Zoé</p><td>7<br>ans</table>")
    assert document.text == "Nom | Âge\nZoé | 7 ans"


def test_html_tables_that_arrange_the_page_are_not(tmp_path: Path) -> None:
    document = html(tmp_path, "<table><tr><td><h2>A</h2><p>B</p></td><td><p>C</p></td></tr></table>")
    assert document.text == "A\n\nB\n\nC"


def test_html_keeps_preformatted_text(tmp_path: Path) -> None:
    assert html(tmp_path, "<p>a</p><pre>\nun\n  <b>deux</b>\n\n</pre><p>b</p>").text == "a\n\nun\n  deux\n\nb"


def test_html_decodes_entities_and_declared_encodings(tmp_path: Path) -> None:
    document = read(tmp_path, "p.html", '<meta charset="iso-8859-1"><p>&eacute;t\xe9 &#8364; &nbsp;!'.encode("latin-1"))
    assert document.text == "été € \u00a0!"
    assert "encoding" not in document.metadata


@pytest.mark.parametrize(
    ("declared", "written", "guessed"),
    [
        ("iso-8859-1", "cp1252", None),  # as browsers read it: what Windows wrote under that name
        ("us-ascii", "cp1252", None),
        ("macintosh", "mac-roman", None),
        ("utf-16", "cp1252", "cp1252 (guessed)"),  # cannot be: the declaration itself was read as ASCII
        ("unicode_escape", "cp1252", "cp1252 (guessed)"),
        ("utf-7", "cp1252", "cp1252 (guessed)"),
    ],
)
def test_declared_encoding_is_believed_where_it_can_be(
    tmp_path: Path, declared: str, written: str, guessed: str | None
) -> None:
    text = "L’œuvre dépasse déjà tout prix…"
    document = read(tmp_path, "p.html", f'<meta charset="{declared}"><p>{text}'.encode(written))
    assert (document.text, document.metadata.get("encoding")) == (text, guessed)


def test_xhtml_is_read_as_xml(tmp_path: Path) -> None:
    page = (
        '<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://x/x.dtd">'
        '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>T</title><script src="x"/></head>'
        "<body><p>caf&eacute;<!-- non --> ici</p></body></html>"
    )
    document = read(tmp_path, "p.xhtml", page)
    assert (document.title, document.text) == ("T", "café ici")


def test_the_number_of_a_note_is_no_part_of_the_word_before_it(tmp_path: Path) -> None:
    body = """<p>Le phare brille<a href="#n1">1</a>, dit-on<sup><a href="#n2">2</a></sup> [<a href="#n3">3</a>].</p>
    <p>Au XIX<sup>e</sup> siècle, 3 km<sup>2</sup>.</p>"""
    assert html(tmp_path, body).text == "Le phare brille 1, dit-on 2 [3].\n\nAu XIXe siècle, 3 km2."


def test_of_alternatives_that_a_script_chooses_among_one_is_read(tmp_path: Path) -> None:
    choices = '<span><span hidden class="MAC">Commande</span><span hidden>Ctrl</span></span>'
    assert html(tmp_path, f"<p>Tapez {choices}+F.<span hidden>x</span></p>").text == "Tapez Ctrl+F."


def test_a_box_beside_the_text_is_read_and_a_sidebar_of_links_is_not(tmp_path: Path) -> None:
    prose = "Les abeilles dansent pour dire où se trouvent les fleurs, et à quelle distance de la ruche."
    links = '<a href="/a">Accueil</a> <a href="/b">Nos autres pages</a> ' * 4
    boxes = [f'<div class="{kind}">{text}</div>' for kind, text in (("sidebar", prose), ("sidebar", links))]
    assert html(tmp_path, "".join([*boxes, '<p class="fr-sr-only">nouvelle fenêtre</p>'])).text == prose


def test_the_title_is_not_said_twice(tmp_path: Path) -> None:
    assert html(tmp_path, "<h1>T</h1><p>Le texte.</p>").text == "Le texte."


# Books and office documents

_CONTAINER = '<container><rootfiles><rootfile full-path="o/p.opf"/></rootfiles></container>'


def test_epub_chapters_come_in_reading_order_without_the_table_of_contents(tmp_path: Path) -> None:
    package = (
        '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>Livre</dc:title><dc:creator>Zoé'
        "</dc:creator></metadata><manifest>"
        + "".join(
            f'<item id="{i}" href="{h}" media-type="application/xhtml+xml" {p}/>'
            for i, h, p in (("n", "n.xhtml", 'properties="nav"'), ("b", "b%20b.xhtml", ""), ("a", "a.xhtml", ""))
        )
        + '</manifest><spine><itemref idref="n"/><itemref idref="b"/><itemref idref="a"/></spine></package>'
    )
    book = {"o/p.opf": package, "o/n.xhtml": "<p>Table</p>", "o/b b.xhtml": "<p>Un</p>", "o/a.xhtml": "<p>Deux</p>"}
    document = read(tmp_path, "l.epub", packed(**{"META-INF/container.xml": _CONTAINER}, **book))
    assert (document.title, document.text) == ("Livre", "Un\n\nDeux")
    assert document.metadata == {"format": "epub", "author": "Zoé"}


def book(**files: str | bytes) -> bytes:
    """An EPUB of one chapter, `o/a.xhtml`."""
    package = (
        '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>Livre</dc:title></metadata>'
        '<manifest><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="a"/></spine></package>'
    )
    return packed(**{"META-INF/container.xml": _CONTAINER, "o/p.opf": package} | files)


def test_headers_notes_and_boxes_of_a_book_are_text(tmp_path: Path) -> None:
    chapter = "<html><body><header><h1>Un</h1></header><p>Le phare.</p><aside><p>Une note.</p></aside></body></html>"
    assert read(tmp_path, "l.epub", book(**{"o/a.xhtml": chapter})).text == "Un\n\nLe phare.\n\nUne note."


def test_a_book_that_is_encrypted_is_rejected_as_such(tmp_path: Path) -> None:
    (tmp_path / "l.epub").write_bytes(book(**{"o/a.xhtml": bytes(range(256)) * 9, "META-INF/encryption.xml": "<e/>"}))
    assert [str(item) for item in open_source(str(tmp_path / "l.epub")).read()] == ["l.epub: encrypted EPUB"]


def test_odt_leaves_out_what_stands_for_an_image_and_the_notes_of_a_title(tmp_path: Path) -> None:
    svg = "xmlns:svg='urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0'"
    names = f"xmlns:office='o' xmlns:text='t' xmlns:draw='d' {svg}"
    cited = "<text:note-citation>1</text:note-citation><text:note-body><text:p>Voir.</text:p></text:note-body>"
    heading = f"<text:h/><text:h>Le<text:s/>conseil<text:note>{cited}</text:note></text:h>"
    image = "<draw:frame><svg:title>Un phare</svg:title><svg:desc>la nuit</svg:desc></draw:frame>"
    body = f"{heading}<text:p>Avant {image}après, <text:title>Titre</text:title>.</text:p>"
    content = f"<office:document {names}><office:body><office:text>{body}</office:text></office:body></office:document>"
    document = read(tmp_path, "d.ott", packed(content_dot_xml=content))
    assert document.title == "Le conseil"
    assert document.text == "Le conseil [Voir.]\n\nAvant après, Titre."


def test_odt_keeps_headings_lists_and_tables_and_drops_comments(tmp_path: Path) -> None:
    names = "xmlns:office='o' xmlns:text='t' xmlns:table='b'"
    body = (
        "<text:tracked-changes><text:p>supprimé</text:p></text:tracked-changes><text:h>Titre</text:h>"
        "<text:p>Un<text:s text:c='3'/>deux<text:line-break/>trois"
        "<office:annotation><text:p>non</text:p></office:annotation></text:p>"
        "<text:p>Avant<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>la note</text:p>"
        "</text:note-body></text:note> après.</text:p>"
        "<text:list><text:list-item><text:p>a</text:p></text:list-item>"
        "<text:list-item><text:p>b</text:p></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>A</text:p></table:table-cell>"
        "<table:table-cell><text:p>B</text:p>"
        "</table:table-cell></table:table-row></table:table>"
    )
    content = f"<office:document {names}><office:body><office:text>{body}</office:text></office:body></office:document>"
    document = read(tmp_path, "d.odt", packed(content_dot_xml=content))
    assert document.title == "Titre"
    assert document.text == "Titre\n\nUn deux\ntrois\n\nAvant [la note] après.\n\n- a\n- b\n\nA | B"


def test_docx_as_python_docx_writes_it(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    made = docx.Document()
    made.core_properties.title = "Contrat"
    made.add_heading("Article 1", level=1)
    made.add_paragraph("Le salarié est engagé.")
    made.add_paragraph("un", style="List Bullet")
    table = made.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "A", "B"
    made.save(str(tmp_path / "c.docx"))
    document = read(tmp_path, "c.docx", (tmp_path / "c.docx").read_bytes())
    assert document.title == "Contrat"
    assert document.text == "Article 1\n\nLe salarié est engagé.\n\nun\n\nA | B"


def test_docx_reads_insertions_and_neither_deletions_nor_hidden_text(tmp_path: Path) -> None:
    body = (
        "<w:p><w:pPr><w:pStyle w:val='Titre'/></w:pPr><w:r><w:t>Le titre</w:t></w:r></w:p>"
        "<w:p><w:ins><w:r><w:t>ajouté</w:t></w:r></w:ins><w:del><w:r><w:delText>retiré</w:delText></w:r></w:del>"
        "<w:r><w:tab/><w:t>fin</w:t></w:r><w:r><w:rPr><w:vanish/></w:rPr><w:t>caché</w:t></w:r>"
        "<w:r><w:rPr><w:vanish w:val='0'/></w:rPr><w:t>.</w:t></w:r></w:p>"
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>champ</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    )
    document = read(
        tmp_path,
        "d.docx",
        packed(word__document_dot_xml=f"<w:document xmlns:w='w'><w:body>{body}</w:body></w:document>"),
    )
    assert document.title == "Le titre"
    assert document.text == "Le titre\n\najouté fin.\n\nchamp"


def test_docx_of_word_on_the_web_is_read_without_its_table_of_contents(tmp_path: Path) -> None:
    def paragraph(text: str, style: str) -> str:
        return f"<w:p><w:pPr><w:pStyle w:val='{style}'/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"

    body = (
        paragraph("Congés 3", "TM1")
        + paragraph("", "Titre1")
        + paragraph("Règlement", "Titre1")
        + paragraph("Congés", "Titre2")
    )
    notes = (
        "<w:footnotes xmlns:w='w'><w:footnote><w:p><w:r><w:t>Voir la loi.</w:t></w:r></w:p></w:footnote></w:footnotes>"
    )
    main = f"<w:document xmlns:w='w'><w:body>{body}</w:body></w:document>"
    document = read(tmp_path, "r.docm", packed(**{"word/document2.xml": main, "word/footnotes2.xml": notes}))
    assert document.title == "Règlement"
    assert document.text == "Règlement\n\nCongés\n\nVoir la loi."


def test_a_word_file_with_a_password_is_told_from_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (tmp_path / "b.docx").write_bytes(b"PK\x03\x04rien")
    found = [str(item) for item in open_source(str(tmp_path)).read()]
    assert found == [
        "a.docx: no DOCX: one with a password, or an older Word file",
        "b.docx: broken DOCX, not a sound zip archive",
    ]


@pytest.mark.parametrize("name", ["m.eml", "m.msg", "m.mht"])
def test_mail_is_refused_with_a_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("Subject: r=C3=A9union\n\nLa r=C3=A9union est report=C3=A9e.\n")
    (rejection,) = open_source(str(tmp_path / name)).read()
    assert "save it as HTML, PDF or text" in str(rejection)


# PDF


def pdf(*pages: list[str], title: str = "") -> bytes:
    """A PDF with these lines on its pages."""
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    kids = []
    for lines in pages:
        shown = " ".join(f"({line}) Tj 0 -14 Td" for line in lines)
        stream = f"BT /F1 10 Tf 50 780 Td {shown} ET"
        objects.append(f"<</Length {len(stream.encode('cp1252'))}>>stream\n{stream}\nendstream")
        kids.append(len(objects) + 1)
        drawn = f"/Contents {len(objects)} 0 R/Resources<</Font<</F1 3 0 R>>>>"
        objects.append(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]{drawn}>>")
    objects[1] = f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(f'{kid} 0 R' for kid in kids)}]>>"
    objects.append(f"<</Title({title})>>")
    body, offsets = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj{text}endobj\n".encode("cp1252")
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    trailer = f"trailer<</Size {len(objects) + 1}/Root 1 0 R/Info {len(objects)} 0 R>>\nstartxref\n{len(body)}\n%%EOF"
    return body + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()


def test_pdf_keeps_where_its_pages_begin(tmp_path: Path) -> None:
    document = read(tmp_path, "a.pdf", pdf(["un"], [], ["trois été"], title="Le titre"))
    assert document.title == "Le titre"
    first, second, third = document.pages
    assert document.text[first:second].strip() == "un"
    assert document.text[second:third].strip() == ""
    assert document.text[third:].strip() == "trois été"


def test_pdf_loses_running_heads_and_page_numbers(tmp_path: Path) -> None:
    document = read(
        tmp_path, "a.pdf", pdf(*(["Manuel", f"Texte {name}", f"page {n}"] for n, name in enumerate("abcd")))
    )
    assert document.text.split("\n\n")[:4] == ["Texte a", "Texte b", "Texte c", "Texte d"]


def test_pdf_words_cut_at_line_ends_are_mended(tmp_path: Path) -> None:
    lines = [
        "C'est une longue phrase dont le dernier mot est cou-",
        "pé en deux, tandis que celui-",
        "là garde son trait.",
    ]
    text = " ".join(read(tmp_path, "a.pdf", pdf(lines)).text.split())
    assert "mot est coupé en deux" in text
    assert "celui-là garde" in text


def test_pdf_words_keep_the_hyphen_that_they_own(tmp_path: Path) -> None:
    lines = [
        "Cette phrase assez longue pour tenir une ligne entière finit par Île-",
        "de-France, et la deuxième, longue aussi jusqu'au bout, c'est-à-",
        "dire la suivante, finit tout autant sur un prénom tel que Jean-",
        "Marie, quand la dernière ne dit que ceci, de la même façon : MAJUS-",
        "CULES. Et l'on va en Île-de-France.",
    ]
    text = " ".join(read(tmp_path, "a.pdf", pdf(lines)).text.split())
    for expected in ("par Île-de-France,", "c'est-à-dire", "Jean-Marie,", "MAJUSCULES."):
        assert expected in text


@pytest.mark.parametrize(
    "title", ["Microsoft Word - x.doc", "untitled", "rapport.docx", "Présentation PowerPoint", "Mise en page 1", ""]
)
def test_pdf_titles_left_by_a_program_are_not_taken(tmp_path: Path, title: str) -> None:
    assert read(tmp_path, "mon_rapport.pdf", pdf(["texte"], title=title)).title == "mon rapport"


def test_a_pdf_of_images_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(pdf([]))
    (rejection,) = open_source(str(tmp_path / "scan.pdf")).read()
    assert isinstance(rejection, Rejection)
    assert "OCR" in rejection.reason


# Records


@pytest.mark.parametrize("number", ["1e999", "-1E+400", "9" * 400 + ".5"])
def test_a_number_beyond_all_numbers_is_rejected_with_its_line(tmp_path: Path, number: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "un", "x": 1.5e3}}\n{{"text": "deux", "x": [{number}]}}\n')
    document, rejection = open_source(str(tmp_path / "a.jsonl")).read()
    assert isinstance(document, Document)
    assert document.metadata["x"] == 1500.0
    assert str(rejection) == f"a.jsonl:2: malformed JSON, {number[:24]} is no number"


# Tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_seen_in_the_header(tmp_path: Path, delimiter: str) -> None:
    rows = [["ID", "Titre", "Texte", "année"], ["1", "T", '"a, b; c\n""d"""', "1998"]]
    (tmp_path / "t.csv").write_text("\n".join(delimiter.join(row) for row in rows), encoding="utf-8-sig")
    (document,) = open_source(str(tmp_path / "t.csv")).read()
    assert document == Document("1", 'a, b; c\n"d"', "T", {"format": "csv", "année": "1998"})


def test_a_table_from_excel_is_decoded_with_a_guess(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("id;texte\r\n1;déjà vu\r\n".encode("cp1252"))
    (document,) = open_source(str(tmp_path / "t.csv")).read()
    assert isinstance(document, Document)
    assert document.text == "déjà vu"
    assert document.metadata["encoding"] == "cp1252 (guessed)"


def test_rows_that_do_not_fit_the_header_are_rejected_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,text\n1,"a\nb"\n2\n3,c,d\n4,"e"\n')
    found = list(open_source(str(tmp_path / "t.csv")).read())
    assert [item.key for item in found if isinstance(item, Document)] == ["1", "4"]
    assert [str(item) for item in found if isinstance(item, Rejection)] == [
        't.csv:4: missing field "text"',
        "t.csv:5: 3 fields under 2 columns",
    ]


def test_a_table_without_a_text_column_names_those_it_has(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a\tb\n1\t2\n")
    (rejection,) = open_source(str(tmp_path / "t.tsv")).read()
    assert str(rejection) == 't.tsv: no column "text" in its header; choose with --text-column: a, b'


def test_empty_rows_and_fields_around_a_table_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id;text;\n1;un;;;\n;;\n ; ;\n2;deux\n")
    found = list(open_source(str(tmp_path / "t.csv")).read())
    assert [(item.key, item.text) for item in found if isinstance(item, Document)] == [("1", "un"), ("2", "deux")]
    assert len(found) == 2


def test_a_table_whose_lines_end_in_a_return_alone_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id;text\r1;un\r")
    (tmp_path / "b.csv").write_bytes(b"id;text\n1;un\n")
    rejected, read_one = open_source(str(tmp_path)).read()
    assert str(rejected) == "a.csv: its lines end in a carriage return alone: save it as CSV UTF-8"
    assert isinstance(read_one, Document)


def test_jsonl_may_name_its_fields_in_french(tmp_path: Path) -> None:
    rows = ['{"identifiant": 7, "titre": "Un", "texte": "Le chat."}', '{"id": "8", "corps": "Le chien."}']
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    document, rejection = open_source(str(tmp_path / "t.jsonl")).read()
    assert (document.key, document.title, document.text) == ("7", "Un", "Le chat.")
    assert str(rejection) == 't.jsonl:2: missing field "text"; choose with --text-column'


def test_a_table_may_begin_with_the_line_by_which_excel_names_its_separator(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sep=;\nid;text\n1;un, deux\n")
    assert [item.text for item in open_source(str(tmp_path / "t.csv")).read()] == ["un, deux"]


def test_a_name_of_a_column_may_go_on_over_lines_as_spreadsheets_write_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,"autre\ncolonne","text"\n1,x,un\n2,y,deux\n')
    found = open_source(str(tmp_path / "t.csv")).read()
    assert [(item.key, item.text) for item in found] == [("1", "un"), ("2", "deux")]


def test_what_is_quoted_in_a_header_sets_no_fields_apart(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id;"a, b, c, d";text\n1;x;un\n')
    assert [item.text for item in open_source(str(tmp_path / "t.csv")).read()] == ["un"]


def test_a_quote_that_stays_open_in_the_header_swallows_no_row(tmp_path: Path) -> None:
    rows = "".join(f"{n},texte {n}\n" for n in range(30))
    (tmp_path / "t.csv").write_text(f'id,"text\n{rows}')
    assert len(list(open_source(str(tmp_path / "t.csv")).read())) == 30


def test_quotes_in_a_table_of_tabs_are_text_unless_they_are_around_a_field(tmp_path: Path) -> None:
    rows = [
        '1\t"Bonjour" dit-il.',
        '2\t"Au revoir, dit-elle.',
        '3\t"Un ""mot"" et\tun autre"',
        '"4"\tun "mot"',
        '"deux\nlignes"\tcinq',
    ]
    (tmp_path / "t.tsv").write_text("\n".join(["id\ttext", *rows]) + "\n")
    found = list(open_source(str(tmp_path / "t.tsv")).read())
    assert [(item.key, item.text) for item in found if isinstance(item, Document)] == [
        ("1", '"Bonjour" dit-il.'),
        ("2", '"Au revoir, dit-elle.'),
        ("3", 'Un "mot" et\tun autre'),
        ("4", 'un "mot"'),
        ("deux\nlignes", "cinq"),
    ]


def test_a_record_of_a_title_alone_is_found_by_it_and_a_long_title_is_cut(tmp_path: Path) -> None:
    rows = ['{"_id": "1", "title": "Le tabac", "text": ""}', '{"_id": "2", "title": "%s", "text": "t"}' % ("mot " * 99)]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    alone, long = open_source(str(tmp_path / "t.jsonl")).read()
    assert (alone.title, alone.text) == ("", "Le tabac")
    assert 200 < len(long.title) <= 300


def test_a_record_of_a_folder_needs_an_id_that_is_not_blank(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"_id": " ", "text": "un"}\n')
    (rejection,) = open_source(str(tmp_path)).read()
    assert str(rejection) == "t.jsonl:1: empty id"


@pytest.mark.parametrize(("name", "tab"), [("t.csv", ","), ("u.csv", ";")])
def test_a_lone_quote_is_rejected_and_the_rows_that_it_swallowed_are_read(tmp_path: Path, name: str, tab: str) -> None:
    rows = ["id,text", "1,Le chat dort", '2,"Le chien court', "3,La souris", "", "4,seule,x", '5,L""oie']
    (tmp_path / name).write_text("\n".join(rows).replace(",", tab))
    found = list(open_source(str(tmp_path / name)).read())
    assert [(item.key, item.text) for item in found if isinstance(item, Document)] == [
        ("1", "Le chat dort"),
        ("3", "La souris"),
        ("5", 'L""oie'),
    ]
    assert [str(item) for item in found if isinstance(item, Rejection)] == [
        f"{name}:3: malformed row, its quote stays open",
        f"{name}:6: 3 fields under 2 columns",
    ]


def test_a_lone_quote_swallows_a_bounded_part_of_the_file_and_all_of_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.documents.readers.table.MOST_LINE", 1000)
    rows = [f"{row},texte" for row in range(1000)]
    rows[1] = '1,"texte'
    rows[900:902] = ['900,"sur', 'deux lignes"', "901,texte"]
    (tmp_path / "t.csv").write_text("\n".join(["id,text", *rows]))
    found = list(open_source(str(tmp_path / "t.csv")).read())
    documents = {item.key: item.text for item in found if isinstance(item, Document)}
    assert list(documents) == [str(row) for row in range(1000) if row != 1]
    assert documents["900"] == "sur\ndeux lignes"
    assert [str(item) for item in found if isinstance(item, Rejection)] == [
        "t.csv:3: malformed row, its quote stays open"
    ]


@pytest.mark.timeout(20)
def test_quotes_that_stay_open_on_every_line_take_linear_time(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,text\n1,"a\n' + 'b","c\n' * 40_000)
    found = list(open_source(str(tmp_path / "t.csv")).read())
    assert len(found) == 40_001


# A real collection


def test_the_help_pages_of_libreoffice_read_as_their_reader_sees_them() -> None:
    folder = Path(__file__).parents[2].parent / "shared/data/documents/libreoffice"
    if not folder.is_dir():
        pytest.skip("the shared data is not on this machine")
    documents = {item.key: item for item in open_source(str(folder)).read() if isinstance(item, Document)}
    assert len(documents) == 423  # 06/calcsamplefiles.html has a title and nothing else
    page = documents["libreoffice/guide/line_fix.html"]
    assert page.title == "Fixation de lignes ou de colonnes en tant qu'en-têtes"
    assert page.text.startswith("Fixation de lignes ou colonnes comme titre\n\nSi des lignes ou colonnes de données")
    assert "Appuyez sur Ctrl+1." in documents["libreoffice/01/05020000.html"].text
    furniture = (
        "Aide LibreOffice 7.4",
        "Help content debug info",
        "Rechercher dans un module",
        "Title is:",
        "function(",
    )
    assert not [key for key, item in documents.items() if any(text in item.text for text in furniture)]
