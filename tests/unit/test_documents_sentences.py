"""Where the splitter sees the ends of French sentences: with a target of one sentence, each stands alone."""

import pytest

from engine.documents import Splitter
from engine.documents.sentences import units


def sentences(text: str) -> list[str]:
    return [text[unit.start : unit.end] for unit in units(text, 1000, 10000)]


@pytest.mark.parametrize(
    "sentence",
    [
        "M. Dupont et Mme. Durand ont vu le Dr. Martin.",
        "Voir l'art. 5 et l'art. L. 1234-5 du code du travail.",
        "Il cite la p. 12, la fig. 3 et le chap. IV du vol. 2.",
        "On prendra des agrumes, p. ex. des citrons.",
        "J.-P. Sartre et A. Camus se sont brouillés.",
        "Le prix est de 3.50 euros, soit 1.000 pièces.",
        "Il hésita... puis il partit.",
        "« Qui est là ? » demanda-t-il.",
        "« Sortez ! » cria Jean.",
        "L'arrêt (Cass. Soc., 12 mai 2001) fait date.",
        "Le n° 5 de la rue, cf. Annexe 2.",
        "Au XIIe siècle av. Jésus-Christ.",
        "Yahoo! est une société.",
    ],
)
def test_a_sentence_stays_whole(sentence: str) -> None:
    assert sentences(sentence) == [sentence]


@pytest.mark.parametrize(
    "first",
    [
        "Il est parti.",
        "Est-il parti ?",
        "Il est parti !",
        "Il est parti…",
        "« Il est parti. »",
        "Il a dit : « Partez ! »",
        "(Il est parti.)",
        "C'était en 1998.",
        "Il aime les pommes, les poires, etc.",
        "Ils vivent au bord de la mer.",
        "Elle vit de son art.",
        "C'était en 52 av. J.-C.",
        'Il a dit "partez."',
    ],
)
@pytest.mark.parametrize(
    "second", ["Elle reste.", "À demain.", "« Reste ! » dit-elle.", "Douze restent.", "Œuvre finie."]
)
def test_two_sentences_are_told_apart(first: str, second: str) -> None:
    assert sentences(f"{first} {second}") == [first, second]


def test_other_scripts_have_their_own_full_stops() -> None:
    assert sentences("我去。你来。") == ["我去。", "你来。"]
    assert sentences("هل ذهب؟ نعم ذهب.") == ["هل ذهب؟", "نعم ذهب."]


def test_paragraphs_end_sentences() -> None:
    assert sentences("sans point\n \nni majuscule") == ["sans point", "ni majuscule"]


def test_a_wrapped_line_goes_on() -> None:
    text = "Une phrase assez longue que son auteur a coupée à la\nColonne cinquante, comme le veut\nune habitude."
    assert sentences(text) == [text]


def test_a_line_that_had_room_was_ended_on_purpose() -> None:
    assert sentences("Titre\nUne phrase qui suit le titre sans ligne vide.") == [
        "Titre",
        "Une phrase qui suit le titre sans ligne vide.",
    ]


def test_list_items_are_told_apart() -> None:
    assert sentences("À prendre :\n- du pain\n- du vin\n  2. du sel\n* et a) rien") == [
        "À prendre :",
        "- du pain",
        "- du vin",
        "2. du sel",
        "* et a) rien",
    ]


def test_markdown_headings_are_told_apart() -> None:
    assert sentences("# Un titre\nSuite. Fin\n## Autre\nfin") == ["# Un titre", "Suite.", "Fin", "## Autre", "fin"]


def test_a_passage_begins_at_a_heading_near_its_end_and_repeats_nothing() -> None:
    text = "Un deux trois quatre cinq six sept. Huit.\n\nTitre deux\n\nNeuf dix onze douze. Treize quatorze quinze."
    spans = Splitter(12, 6).split(text)
    assert [text[a:b] for a, b in spans] == [
        "Un deux trois quatre cinq six sept. Huit.",
        "Titre deux\n\nNeuf dix onze douze. Treize quatorze quinze.",
    ]


def test_passages_overlap_by_whole_sentences() -> None:
    text = "Un deux trois. Quatre cinq. Six sept. Huit neuf dix. Onze."
    spans = Splitter(7, 3).split(text)
    assert [text[a:b] for a, b in spans] == [
        "Un deux trois. Quatre cinq. Six sept.",
        "Six sept. Huit neuf dix. Onze.",
    ]


def test_a_sentence_that_is_too_long_is_cut_after_a_comma_when_one_is_near() -> None:
    text = "un deux trois quatre cinq, six sept huit neuf dix"
    assert [text[a:b] for a, b in Splitter(6).split(text)] == ["un deux trois quatre cinq,", "six sept huit neuf dix"]


def test_a_gigantic_word_is_cut_but_not_inside_a_letter_with_accents() -> None:
    text = "e\u0301" * 5000
    spans = Splitter(150).split(text)
    assert len(spans) > 5
    assert all(text[start] == "e" for start, _ in spans)


def passages(text: str, splitter: Splitter) -> list[str]:
    return [text[a:b] for a, b in splitter.split(text)]


def test_an_overlap_may_be_as_long_as_was_asked_for() -> None:
    text = "Un deux trois. Quatre cinq. Six sept. Huit neuf dix. Onze."
    assert passages(text, Splitter(7, 2)) == ["Un deux trois. Quatre cinq. Six sept.", "Six sept. Huit neuf dix. Onze."]


@pytest.mark.parametrize(
    ("overlap", "following"), [("Trois quatre.", "Cinq six sept huit neuf dix."), ("Trois.", f"Quatre {'x' * 988}.")]
)
def test_nothing_is_repeated_before_what_would_not_fit_beside_it(overlap: str, following: str) -> None:
    assert passages(f"Un deux. {overlap} {following}", Splitter(7, 3)) == [f"Un deux. {overlap}", following]


@pytest.mark.parametrize(("words", "at_a_heading", "at_a_paragraph"), [(8, 0, 0), (11, 1, 0), (15, 1, 1)])
def test_a_passage_may_end_at_a_heading_from_half_of_its_target_on_and_at_a_paragraph_from_seven_tenths(
    words: int, at_a_heading: bool, at_a_paragraph: bool
) -> None:
    before, after = " ".join(["Mot."] * words), "Il pleut. " * 12
    for following, ends in ((f"# Suite\n\n{after}", at_a_heading), (after, at_a_paragraph)):
        assert (passages(f"{before}\n\n{following}", Splitter(20))[0] == before) is bool(ends)


def test_a_passage_does_not_end_with_a_heading() -> None:
    text = "Un deux trois quatre.\n\n# Un titre long de six\n\nSept huit."
    assert passages(text, Splitter(10)) == ["Un deux trois quatre.", "# Un titre long de six\n\nSept huit."]


def test_long_words_shorten_no_passage_of_ordinary_size() -> None:
    text = " ".join(["abcdefghij"] * 150)
    assert passages(text, Splitter(150)) == [text]
