"""The study behind the default analysis, k1 and b: nDCG@10 and R@100 on dev questions, with significance.

    python -m tests.benchmarks.analysis --data ../shared/data/beir [--grid] [--json]

Each variant is held against the first (Lucene's FrenchAnalyzer), question by question: a paired t-test per collection,
corrected by Holm over the variants of that collection (`*`: p < 0.05). `capitals` asks the same questions in capitals
without accents, as some people type.
"""

import argparse
import gzip
import json
import re
import sys
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import ir_measures
import numpy as np
from ir_measures import R, nDCG
from scipy import stats

from engine.records import passage_input
from indexes.analysis import (
    DEFAULT_ANALYSIS,
    FRENCH_ANALYZER,
    QUESTION_WORDS,
    STOP_WORDS,
    Analysis,
    Folding,
    Stemmer,
)
from indexes.bm25 import DEFAULT_B, DEFAULT_K1, BM25Index, BM25Writer

COLLECTIONS = ("piaf", "service-public", "fiches-travail", "cnil-faq", "questions-fr")
Values = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
MEASURES = (nDCG @ 10, R @ 100)
DEPTH = 100
_SNOWBALL = """
    au aux avec ce ces dans de des du elle en et eux il je la le leur lui ma mais me même mes moi mon ne nos notre
    nous on ou par pas pour qu que qui sa se ses sur ta te tes toi ton tu un une vos votre vous c d j l à m n s t y
    été étée étées étés étant suis es est sommes êtes sont serai seras sera serons serez seront serais serait serions
    seriez seraient étais était étions étiez étaient fus fut fûmes fûtes furent sois soit soyons soyez soient fusse
    fusses fût fussions fussiez fussent ayant eu eue eues eus ai as avons avez ont aurai auras aura aurons aurez auront
    aurais aurait aurions auriez auraient avais avait avions aviez avaient eut eûmes eûtes eurent aie aies ait ayons
    ayez aient eusse eusses eût eussions eussiez eussent ceci cela celà cet cette ici ils les leurs quel quels quelle
    quelles sans soi
"""
SNOWBALL_STOP_WORDS = frozenset(_SNOWBALL.split())
"""Snowball's French stop words, the list that Lucene's FrenchAnalyzer removes."""
GRID = [(k1, b) for k1 in (0.6, 0.9, 1.2, 1.6, 2.0) for b in (0.3, 0.4, 0.5, 0.6, 0.75, 0.9)]


@dataclass(frozen=True, slots=True)
class Collection:
    """Passages by position, dev questions by id, judgements."""

    name: str
    keys: list[str]
    texts: list[str]
    questions: dict[str, str]
    qrels: dict[str, dict[str, int]]


def records(path: Path) -> Iterator[dict[str, str]]:
    """The lines of a JSONL file, plain or gzipped."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def load(folder: Path) -> Collection:
    """A BEIR folder with its dev judgements."""
    corpus = next(path for path in (folder / "corpus.jsonl", folder / "corpus.jsonl.gz") if path.exists())
    passages = [
        (str(record["_id"]), passage_input(record.get("title", ""), record["text"])) for record in records(corpus)
    ]
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "dev.tsv").read_text("utf-8").splitlines()[1:]:
        question, passage, grade = line.split("\t")
        qrels.setdefault(question, {})[passage] = int(grade)
    questions = {str(record["_id"]): record["text"] for record in records(folder / "queries.jsonl")}
    return Collection(
        folder.name,
        [key for key, _ in passages],
        [text for _, text in passages],
        {key: questions[key] for key in qrels},
        qrels,
    )


def variants() -> dict[str, Analysis]:
    """The chains compared, by a name that says what they do."""

    def chain(name: str, stop: frozenset[str], folding: Folding = "before", stemmer: Stemmer = "snowball") -> Analysis:
        return Analysis(re.sub(r"[^\w]+", "-", name), stop, folding, stemmer)

    stop, function, question = (
        SNOWBALL_STOP_WORDS,
        STOP_WORDS - QUESTION_WORDS,
        QUESTION_WORDS,
    )
    choices = {"FrenchAnalyzer": FRENCH_ANALYZER, "default": DEFAULT_ANALYSIS}
    for stemmer in ("snowball", "light", "minimal", "none"):
        for folding in ("before", "after", "none"):
            if folding == "before" or (stemmer != "none" and folding == "after") or stemmer == "snowball":
                name = f"{stemmer}, folding {folding}"
                choices[name] = chain(name, stop, folding, stemmer)
    stemmers: tuple[Stemmer, ...] = ("snowball", "light", "minimal")
    for stemmer in stemmers:
        for label, words in {
            "no stop words": frozenset[str](),
            "function words": function,
            "function + question words": function | question,
            "Snowball's + question words": stop | question,
        }.items():
            name = f"{stemmer}, folding before, {label}"
            choices[name] = chain(name, words, "before", stemmer)
    return choices


def in_capitals(text: str) -> str:
    """The question as typed in capitals without accents."""
    plain = unicodedata.normalize("NFD", text.replace("œ", "oe").replace("æ", "ae"))
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).upper()


def measured(
    index: BM25Index, collection: Collection, questions: Sequence[str], k1: float, b: float
) -> dict[str, Values]:
    """Each measure's values, one per question in the order of `collection.questions`."""
    run = {}
    for key, ranking in zip(collection.questions, index.search_many(questions, DEPTH, k1=k1, b=b), strict=True):
        run[key] = {collection.keys[i - 1]: float(s) for i, s in zip(ranking.ids, ranking.scores, strict=True)}
    values = {str(measure): dict.fromkeys(collection.questions, 0.0) for measure in MEASURES}
    for metric in ir_measures.iter_calc(list(MEASURES), collection.qrels, run):
        values[str(metric.measure)][metric.query_id] = metric.value
    return {name: np.array(list(found.values())) for name, found in values.items()}


def study(
    collections: Sequence[Collection], choices: Mapping[str, Analysis], settings: Sequence[tuple[float, float]]
) -> list[dict[str, object]]:
    """One row per variant, collection and setting, with the values of each question."""
    rows: list[dict[str, object]] = []
    for name, analysis in choices.items():
        for collection in collections:
            with tempfile.TemporaryDirectory() as folder:
                with BM25Writer(Path(folder), analysis) as writer:
                    writer.add(range(1, len(collection.texts) + 1), collection.texts)
                    writer.commit(1)
                with BM25Index.open(Path(folder), analysis) as index:
                    plain = list(collection.questions.values())
                    capitals = [in_capitals(question) for question in plain]
                    for k1, b in settings:
                        asked = {"plain": plain} | ({"capitals": capitals} if (k1, b) == settings[0] else {})
                        for form, questions in asked.items():
                            values = measured(index, collection, questions, k1, b)
                            rows.append(
                                {"variant": name, "collection": collection.name, "k1": k1, "b": b, "form": form}
                                | values
                            )
        print(name, "done", file=sys.stderr)
    return rows


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979)."""
    order = np.argsort(p_values)
    corrected, highest = np.zeros(len(p_values)), 0.0
    for place, position in enumerate(order):
        highest = max(highest, min(1.0, p_values[position] * (len(p_values) - place)))
        corrected[position] = highest
    return [float(value) for value in corrected]


def table(rows: Sequence[dict[str, object]], form: str, measure: str) -> list[str]:
    """Means per collection, their mean, and a star where the difference from the first line is significant.

    The column `all` holds every question of every collection together.
    """
    values: dict[tuple[object, ...], dict[object, Values]] = {}
    for row in rows:
        if row["form"] == form:
            found = values.setdefault((row["variant"], row["k1"], row["b"]), {})
            found[row["collection"]] = cast("Values", row[measure])
    for found in values.values():
        found["all"] = np.concatenate(list(found.values()))
    baseline, *others = values
    columns = list(values[baseline])
    stars: dict[tuple[object, object], bool] = {}
    for column in columns:
        differences = [values[name][column] - values[baseline][column] for name in others]
        p_values = [float(stats.ttest_1samp(each, 0.0).pvalue) if each.any() else 1.0 for each in differences]
        stars |= {(name, column): p < 0.05 for name, p in zip(others, holm(p_values), strict=True)}
    lines = [f"{measure}, {form} questions (* differs from the first line, paired t-test, Holm)"]
    lines.append(
        f"{'analysis':50} {'k1':>4} {'b':>4}" + "".join(f"{str(column)[:14]:>15}" for column in columns) + "   mean"
    )
    for name, found in values.items():
        cells = [
            f"{found[column].mean():.4f}{'*' if stars.get((name, column)) else ' '}".rjust(15) for column in columns
        ]
        mean = np.mean([found[column].mean() for column in columns[:-1]])
        lines.append(f"{name[0]!s:50} {name[1]!s:>4} {name[2]!s:>4}" + "".join(cells) + f"  {mean:.4f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2].parent / "shared" / "data" / "beir")
    parser.add_argument("--collections", nargs="+", default=list(COLLECTIONS))
    parser.add_argument("--variants", nargs="+", help="only those whose name holds one of these")
    parser.add_argument("--grid", action="store_true", help="k1 and b over a grid, for the default analysis")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    collections = [load(options.data / name) for name in options.collections]
    choices = variants()
    if options.variants:
        choices = {name: found for name, found in choices.items() if any(part in name for part in options.variants)}
    settings = [(DEFAULT_K1, DEFAULT_B)]
    if options.grid:
        settings += [pair for pair in GRID if pair not in settings]
    rows = study(collections, choices, settings)
    if options.json:
        means = [
            {name: float(np.mean(value)) if isinstance(value, np.ndarray) else value for name, value in row.items()}
            for row in rows
        ]
        print(json.dumps(means, ensure_ascii=False, indent=1))
        return
    for measure in map(str, MEASURES):
        print("\n".join(table(rows, "plain", measure)), end="\n\n")
    print("\n".join(table(rows, "capitals", str(MEASURES[0]))))


if __name__ == "__main__":
    main()
