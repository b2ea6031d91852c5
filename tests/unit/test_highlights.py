"""Which words light up."""

import pytest

from engine.highlights import highlights


def lit(question, text):
    return [text[start:end] for start, end in highlights(question, text)]


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("les chevaux", "Un cheval et deux chevaux.", ["cheval", "chevaux"]),
        ("coeur", "Le cœur bat.", ["cœur"]),
        ("ELEVE", "Un élève.", ["élève"]),
        ("qu'est-ce que l'eau", "De l'eau, que d'eau !", ["eau", "eau"]),
        ("comment geler la ligne", "Geler les lignes", ["Geler", "lignes"]),
        ("le la les", "le la les", []),
        ("", "rien", []),
        ("protéger", "Une espèce protégée, des espèces protégées.", ["protégée", "protégées"]),
        ("employé", "Une employée, des employés, employer.", ["employée", "employés", "employer"]),
        ("meublée", "Un studio meublé.", ["meublé"]),
        ("décédée", "Il est décédé.", ["décédé"]),
        ("protegee", "Une espèce protégée.", ["protégée"]),
        ("1789", "En 1789, 17 89", ["1789"]),
    ],
)
def test_words_answer_by_stem_whatever_their_accents(question, text, expected):
    assert lit(question, text) == expected
