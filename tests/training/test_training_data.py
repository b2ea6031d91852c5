"""What is learnt from: every layout read to the same groups, bad data refused with its line, rows drawn from groups."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engine.errors import FouilleError, TrainingError
from engine.evaluation.mmarco import MMarco
from engine.evaluation.runs import Run, write_run
from engine.training.candidates import Candidates, Skipped
from engine.training.draws import Draws, spooled
from engine.training.examples import Group, sample
from engine.training.sources import parse_source, read_held_out, read_source
from engine.training.spool import Spool


def read(spec: object, *, negatives: int = 4, held_out=None, skipped: Skipped | None = None) -> list[Group]:
    source = parse_source(str(spec))
    return list(read_source(source, negatives=negatives, seed=1, held_out=held_out, skipped=skipped or Skipped()))


WANTED = Group("q", ("oui", "non", "peut-être"), (1.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("groups.jsonl", '{"question": "q", "passages": ["oui", "non", "peut-être"], "labels": [1, 0, 0]}'),
        ("pairs.tsv", "q\toui\t1\nq\tnon\t0\nq\tpeut-être\t0.0"),
        ("pairs.tsv", "question\tpassage\tlabel\nq\toui\t1\nq\tnon\t0\nq\tpeut-être\t0.0"),
        ("triples.tsv", "q\toui\tnon\nq\toui\tpeut-être"),
        ("triples.tsv", "Query\tPositive\tNegative\nq\toui\tnon\nq\toui\tpeut-être"),
        ("triples.jsonl", '{"query": "q", "positive": "oui", "negative": ["non", "peut-être"]}'),
        (
            "pairs.jsonl",
            '{"question": "q", "passage": "oui", "label": 1}\n{"question": "q", "passage": "non", "label": 0}\n'
            '{"question": "q", "passage": "peut-être", "label": 0}',
        ),
    ],
)
def test_every_layout_gives_the_same_group(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    assert read(tmp_path / name) == read(tmp_path / f"{name}.gz") == [WANTED]


def test_lines_of_a_question_need_not_be_together(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("q\tnon\t0\nr\toui\t1\nq\toui\t1\n", "utf-8")
    assert [group.labels for group in read(tmp_path / "a.tsv")] == [(0.0, 1.0), (1.0,)]


@pytest.mark.parametrize(
    ("name", "text", "line", "reason"),
    [
        ("a.tsv", "q\toui\t1\nq\tnon\t1.5\n", 2, r"the label 1.5 is not a number in [0, 1]"),
        ("a.tsv", "q\toui\t1\nq\tnon\tbof\n", 2, "the label 'bof'"),
        ("a.tsv", "q\toui\t1\nq\t \t0\n", 2, "the passage has no text"),
        ("a.tsv", "q\toui\n", 1, "2 columns"),
        ("a.tsv", "question\tpassage\tlabel\nq\toui\tbof\n", 2, "the label 'bof'"),
        ("a.tsv", "q\toui\t1\nr\tnon\t0\n", 2, "the question has no positive"),
        ("a.jsonl", '{"question": "q", "positive": "oui"}', 1, "the passage has no text"),
        ("a.jsonl", '{"question": "q", "passages": ["a"], "labels": [NaN]}', 1, "the label nan"),
        ("a.jsonl", '{"question": "q", "passages": ["a", ""], "labels": [1, 0]}', 1, "passage 2 has no text"),
        (
            "a.jsonl",
            '{"question": "q", "passages": ["a", "\\ud800"], "labels": [1, 0]}',
            1,
            "passage 2 holds a lone surr",
        ),
        ("a.jsonl", '{"question": "q", "passages": ["a"], "labels": [0]}', 1, "no positive and no scores"),
        ("a.jsonl", '{"question": "q", "passages": ["a"], "labels": [1, 0]}', 1, "as many labels"),
        ("a.jsonl", '{"question": "q", "passages": ["a"], "labels": [1], "scores": ["x"]}', 1, "as many scores"),
        ("a.jsonl", "{", 1, "not JSON"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, name: str, text: str, line: int, reason: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(FouilleError, match=rf"{name}:{line}: .*{re.escape(reason)}"):
        read(tmp_path / name)


def test_labels_under_a_header_of_other_names_are_not_taken_for_negatives(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("demande\textrait\tnote\nq\toui\t1\nq\tnon\t0\n", "utf-8")
    with pytest.raises(TrainingError, match=r"third column holds numbers.*question, passage, label"):
        read(tmp_path / "a.tsv")


def test_group_without_positive_may_learn_from_scores(jsonl) -> None:
    path = jsonl({"question": "q", "passages": ["a", "b"], "labels": [0, 0], "scores": [2.5, -1]})
    assert read(path)[0].scores == (2.5, -1)


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no such file"):
        read(tmp_path / "absent.jsonl")


def test_weight_takes_each_group_so_often(jsonl) -> None:
    path = jsonl({"question": "q", "passages": ["a", "b"], "labels": [1, 0]})
    assert len(read(f"{path}@3")) == 3


def test_beir_folder_gets_negatives_at_random(beir: Path) -> None:
    found = read(beir, negatives=4)
    assert [group.labels for group in found] == [(1.0, 0.0, 0.0, 0.0, 0.0)] * 8
    assert all(group.passages[0] not in group.passages[1:] for group in found)
    assert len({group.passages[1:] for group in found}) == 8


def test_beir_folder_takes_negatives_of_a_run_in_its_order(beir: Path, tmp_path: Path) -> None:
    ranked = {f"q{n}": {"ours-jardin": 3.0, "chat-maison": 2.0, "loup-forêt": 1.0} for n in range(8)}
    write_run(Run(ranked), tmp_path / "bm25.trec")
    first = read(f"{beir}+{tmp_path / 'bm25.trec'}")[0]
    assert [text.split()[1] for text in first.passages] == ["chat", "ours", "loup"]


def test_question_without_relevant_passage_is_refused(beir: Path) -> None:
    (beir / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tchat-maison\t0\n", "utf-8")
    with pytest.raises(TrainingError, match=r"train.tsv:2: question 'q1' has no relevant passage"):
        read(beir)


def test_what_the_corpus_lacks_is_counted(beir: Path) -> None:
    with (beir / "qrels" / "train.tsv").open("a") as stream:
        stream.write("\nq0\tabsent\t1\nq0\tvide\t1")
    with (beir / "corpus.jsonl").open("a") as stream:
        stream.write('\n{"_id": "vide", "title": "", "text": " "}')
    skipped = Skipped()
    assert len(read(beir, skipped=skipped)) == 8
    assert skipped.lines() == ["left out 2 passages that the corpus does not have, or that are empty"]


def test_evaluation_questions_of_the_protocol_are_never_sampled(mmarco: Path) -> None:
    skipped = Skipped()
    found = read(f"mmarco:{mmarco}", skipped=skipped)
    assert [group.question for group in found] == [
        f"où dort le {animal} ?" for animal in ("cheval", "loup", "ours", "renard", "lapin", "mouton")
    ]
    assert set(MMarco(mmarco).held_out()) == set(MMarco(mmarco).train_candidates()[1]) == {"100", "101"}
    assert skipped.held_out == 2


def test_hard_negatives_are_those_of_dense_retrievers(mmarco: Path) -> None:
    found = read(f"mmarco:{mmarco}+{mmarco / 'hard-negatives.jsonl'}", negatives=10)
    assert len(found) == 6
    assert {len(group.passages) for group in found} == {5, 6}  # 5 to 9 but the positive, never BM25's 31
    assert not any("mouton" in text for group in found[:-1] for text in group.passages)


def test_hard_negatives_without_positive_are_counted(mmarco: Path) -> None:
    path, skipped = mmarco / "hard-negatives.jsonl", Skipped()
    whole = read(f"mmarco:{mmarco}+{path}", negatives=10)
    with path.open("a") as stream:
        stream.write("\n" + json.dumps({"qid": 999, "pos": [], "neg": {"ance": [1]}}))
    with (mmarco / "google/queries/train/french_queries.train.tsv").open("a") as stream:
        stream.write("\n999\tune question de plus ?")
    assert read(f"mmarco:{mmarco}+{path}", negatives=10, skipped=skipped) == whole
    assert skipped.without_positives == 1


def test_ir_datasets_of_msmarco_want_the_held_out_list() -> None:
    with pytest.raises(TrainingError, match="--held-out"):
        read("irds:mmarco/v2/fr/train")


def test_held_out_list_is_read_from_triples_or_ids(mmarco: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("100\n101\n", "utf-8")
    triples = mmarco / "msmarco-qidpidtriples.rnd-shuf.train-eval.tsv"
    assert read_held_out(triples) == read_held_out(tmp_path / "ids.txt") == {"100", "101"}


@pytest.mark.parametrize(
    "text",
    [
        "q1\nq2\n",
        "q1\toù dort le chat ?\nq2\toù dort\tle chien ?\n",
        "q1\toui non\nq2\toui\n",
        "q1 0 d1 1\nq2 0 d2 1\nq2 0 d3 0\n",
        "q1\t0\td1\t1\nq2\t0\td2\t1\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n",
    ],
)
def test_held_out_list_may_be_questions_or_qrels(tmp_path: Path, text: str) -> None:
    (tmp_path / "held.tsv").write_text(text, "utf-8")
    assert read_held_out(tmp_path / "held.tsv") - {"query-id"} == {"q1", "q2"}


def test_line_of_a_held_out_list_that_is_no_id_is_refused(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("q1\nq2 ou q3 peut-être bien\n", "utf-8")
    with pytest.raises(FouilleError, match=r"held.txt:2: an id"):
        read_held_out(tmp_path / "held.txt")


def test_groups_of_which_none_could_be_held_out_are_counted(beir: Path, jsonl) -> None:
    skipped = Skipped()
    path = jsonl({"question": "q", "passages": ["a", "b"], "labels": [1, 0]})
    assert len(read(beir, held_out={"q0"}, skipped=skipped)) == 7
    assert len(read(f"{path}@2", held_out={"q0"}, skipped=skipped)) == 2
    assert (skipped.held_out, skipped.without_ids) == (1, 1)
    assert "took 1 groups whose questions have no ids, held out or not" in skipped.lines()


def test_lone_surrogate_in_a_passage_of_a_corpus_is_refused(beir: Path) -> None:
    text = (beir / "corpus.jsonl").read_text("utf-8").replace("Le chat", "Le chat \\ud800")
    (beir / "corpus.jsonl").write_text(text, "utf-8")
    with pytest.raises(TrainingError, match=r"passage 'chat-maison' holds a lone surrogate \(U\+D800\)"):
        read(beir)


def test_drawn_negatives_are_an_even_sample() -> None:
    counts: Counter[str] = Counter()
    for seed in range(400):
        candidates = Candidates(most=2, seed=seed)
        for name in "abcdefgh":
            candidates.add("q", ["p"], [name])
        names = {number: name for name, number in candidates.names.items()}
        counts.update(names[number] for number in candidates.negatives["q"])
    assert set(counts) == set("abcdefgh")
    assert max(counts.values()) < 2 * min(counts.values())


def test_spool_gives_back_what_it_was_given() -> None:
    spool = Spool()
    records = [{"text": "été"}, ["\ud800", 1.5], None]
    assert [spool.append(record) for record in records] == [0, 1, 2]
    assert [spool[number] for number in (2, 0, 1)] == [records[2], records[0], records[1]]
    with pytest.raises(IndexError):
        spool[3]


def test_sample_takes_a_positive_and_as_many_negatives_as_there_are(groups: list[Group]) -> None:
    import random

    for size in range(2, 12):
        found = sample(groups[0], size, random.Random(size))
        assert len(found.passages) == min(size, 8)
        assert len(set(found.passages)) == len(found.passages)
        assert found.labels == (1.0,) + (0.0,) * (len(found.passages) - 1)


def test_rows_are_a_function_of_seed_and_number(groups: list[Group], recipe_of) -> None:
    one, other = (Draws(spooled(groups, Spool()), recipe_of("mmarco-l6", redraw=True)) for _ in range(2))
    assert [one[number] for number in range(len(one))] == [other[number] for number in reversed(range(len(one)))][::-1]
    assert [one[number] for number in range(8)] != [
        Draws(spooled(groups, Spool()), recipe_of("mmarco-l6", redraw=True, seed=7))[number] for number in range(8)
    ]


def test_binary_rows_keep_the_ratio_whatever_the_limit(groups: list[Group], recipe_of) -> None:
    rows = Draws(spooled(groups, Spool()), recipe_of("mmarco-l6", examples=12, epochs=3, steps=None))
    labels = np.array([rows[number]["label"] for number in range(len(rows))])
    assert (rows.size, rows.passes, len(rows)) == (12, 3, 36)
    assert labels.sum() == 12


def test_every_positive_has_a_pair_and_negatives_of_its_own(recipe_of) -> None:
    passages = tuple(f"passage {row}" for row in range(14))
    few = Group("q", passages[:7], (1.0,) * 3 + (0.0,) * 4)
    many = Group("q", passages, (1.0,) * 3 + (0.0,) * 11)
    for group, negatives in ((few, 4), (many, 6)):
        rows = Draws(spooled([group], Spool()), recipe_of("mmarco-l6", epochs=1, steps=None))
        drawn = {(row["passage"], row["label"]) for row in (rows[number] for number in range(rows.size))}
        assert {passage for passage, label in drawn if label} == set(passages[:3])
        assert (rows.size, len(drawn), rows.undrawn) == (3 + negatives, 3 + negatives, 0)
    assert Draws(spooled([many], Spool()), recipe_of("bi-encoder")).undrawn == 2


def test_fixed_examples_return_in_every_pass_and_redrawn_ones_change(groups: list[Group], recipe_of) -> None:
    def passes(*, redraw: bool) -> list[set[tuple[object, ...]]]:
        recipe = recipe_of("mmarco-l6", redraw=redraw, epochs=2, steps=None)
        rows = Draws(spooled(groups, Spool()), recipe)
        return [{tuple(rows[turn * rows.size + at].values()) for at in range(rows.size)} for turn in range(2)]

    fixed, redrawn = passes(redraw=False), passes(redraw=True)
    assert fixed[0] == fixed[1]
    assert redrawn[0] != redrawn[1]


def test_groups_that_a_loss_cannot_use_are_counted(groups: list[Group], recipe_of) -> None:
    unscored = [Group(one.question, one.passages, one.labels) for one in groups[:3]]
    assert Draws(spooled([*unscored, *groups], Spool()), recipe_of("margin-mse")).unused == 3
    with pytest.raises(TrainingError, match="--teacher"):
        Draws(spooled(unscored, Spool()), recipe_of("margin-mse"))


def test_contrastive_rows_have_the_same_columns(recipe_of) -> None:
    few = Group("q", ("oui", "non"), (1.0, 0.0))
    rows = Draws(spooled([few], Spool()), recipe_of("bi-encoder", negatives=3))
    assert rows[0] == {
        "question": "q",
        "positive": "oui",
        "negative_1": "non",
        "negative_2": "non",
        "negative_3": "non",
    }


def test_listwise_rows_carry_the_teachers_scores_and_the_boost_of_a_label(groups: list[Group], recipe_of) -> None:
    rows = Draws(spooled(groups, Spool()), recipe_of("distill", boost=0.5))
    for row in (rows[number] for number in range(rows.size)):
        group = next(one for one in groups if one.question == row["question"])
        labels = [group.labels[group.passages.index(text)] for text in row["passages"]]
        scores = [group.scores[group.passages.index(text)] for text in row["passages"]]
        assert (row["relevance"], sum(labels)) == (labels, 1.0)
        assert row["scores"] == [score + 0.5 * label for score, label in zip(scores, labels, strict=True)]


def test_a_margin_is_the_positives_score_less_the_negatives(groups: list[Group], recipe_of) -> None:
    scored = [Group(one.question, one.passages, one.labels, tuple(3.0 - row for row in range(8))) for one in groups]
    rows = Draws(spooled(scored, Spool()), recipe_of("margin-mse"))
    for row in (rows[number] for number in range(rows.size)):
        group = next(one for one in scored if one.question == row["question"])
        positive, negative = (group.scores[group.passages.index(row[name])] for name in ("positive", "negative"))
        assert positive == 3.0
        assert row["score"] == positive - negative
