"""Named protocols, run from start to end, with what the models' cards publish beside what was measured."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EvaluationError
from engine.evaluation.batch import run_questions
from engine.evaluation.corpora import IRDS, documents
from engine.evaluation.measures import evaluate
from engine.evaluation.mmarco import MMarco
from engine.evaluation.provenance import file_fingerprint
from engine.evaluation.qrels import Qrels, read_qrels
from engine.evaluation.questions import Question, read_questions
from engine.evaluation.rerank import CorpusPassages, rerank
from engine.evaluation.runs import Run, read_run
from engine.records import FirstStage, SearchOptions

if TYPE_CHECKING:
    import pandas

    from engine.collection import Collection
    from engine.models import CrossEncoder
    from engine.settings import Settings

__all__ = ["PROTOCOLS", "BenchmarkTable", "Protocol", "Row", "Task", "benchmark", "published", "tasks"]

Progress = Callable[[str, int, int | None], None]
SMALL_DEV, TRAIN_500, BEIR, MTEB = "mmarco-fr-small-dev", "mmarco-fr-train500", "beir:", "mteb:"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a benchmark is run; `measures` are what its tables show."""

    name: str
    source: str
    candidates: str
    measures: tuple[str, ...]


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            SMALL_DEV,
            "mMARCO French (Bonifacio et al. 2021), small dev: 6,980 questions, 8.8 million passages",
            "the first stage's top 1000 of the whole collection; and, in a table of its own, the file of positives and "
            "ColBERTv2 hard negatives, 1,000 a question",
            ("MRR@10", "R@10", "R@100", "R@500", "R@1000"),
        ),
        Protocol(
            TRAIN_500,
            "mMARCO French, 500 training questions of msmarco-qidpidtriples.rnd-shuf.train-eval",
            "each question's relevant passages and up to 200 BM25 negatives",
            ("RPrec", "MRR@10", "R@10", "R@20", "R@50", "R@100"),
        ),
        Protocol(
            BEIR,
            "any BEIR folder: beir:PATH, or beir:PATH:SPLIT where it has several",
            "the first stage's top of the whole collection",
            ("nDCG@10", "MRR@10", "R@100"),
        ),
        Protocol(
            IRDS,
            "any ir_datasets id that has documents, questions and qrels: irds:ID",
            "the first stage's top of the whole collection",
            ("nDCG@10", "MRR@10", "R@100"),
        ),
        Protocol(MTEB, "a French task of MTEB: mteb:TASK", "what mteb's own interfaces give", ("main score",)),
    )
}


@dataclass(frozen=True, slots=True)
class Task:
    """Data of one table.

    Attributes:
        title: what is ranked.
        corpus: what `read_corpus` reads.
        questions, qrels: who asks, and what is relevant.
        candidates: what to rerank; None: what a first stage finds in the whole corpus.
        cards: protocol whose published figures are comparable, if any.
    """

    title: str
    corpus: str
    questions: Sequence[Question]
    qrels: Qrels
    candidates: Run | None = None
    cards: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table; values in percent, by measure. Published figures lack the measures their card lacks."""

    system: str
    published: bool
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class BenchmarkTable:
    """What was measured under one protocol, and what the cards say."""

    protocol: str
    title: str
    measures: tuple[str, ...]
    rows: tuple[Row, ...]
    notices: tuple[str, ...] = ()

    def table(self) -> list[dict[str, Any]]:
        """Rows as `reports.render` takes them."""
        return [
            {
                "system": row.system,
                "figures": "published" if row.published else "measured",
                **{name: f"{row.values[name]:.2f}" if name in row.values else "-" for name in self.measures},
            }
            for row in self.rows
        ]

    def to_frame(self) -> "pandas.DataFrame":
        """A DataFrame with a row for each system; percent."""
        import pandas as pd

        return pd.DataFrame(
            [{"system": row.system, "published": row.published, **row.values} for row in self.rows],
            columns=["system", "published", *self.measures],
        )


def published(protocol: str) -> list[Row]:
    """What the models' cards say of a protocol."""
    text = resources.files("engine.evaluation").joinpath("cards.toml").read_text(encoding="utf-8")
    card = tomllib.loads(text).get(protocol)
    if card is None:
        return []
    return [
        Row(model, True, dict(zip(card["measures"], values, strict=True))) for model, values in card["models"].items()
    ]


def protocol_of(name: str) -> Protocol:
    """The protocol that `name` asks for.

    Raises:
        EvaluationError: none does.
    """
    for known, protocol in PROTOCOLS.items():
        if name.startswith(known) and name != known if known.endswith(":") else name == known:
            return protocol
    shown = ", ".join(known + ("…" if known.endswith(":") else "") for known in PROTOCOLS)
    raise EvaluationError(f"no protocol {name!r}", hint=shown)


def tasks(name: str, data: str | Path | None = None) -> list[Task]:
    """The tables that a protocol fills, with their data.

    Args:
        name: a protocol of `PROTOCOLS`, with its path or id where it takes one.
        data: folder of a local copy of mMARCO; None downloads it.

    Raises:
        EvaluationError: no such protocol, or its data is not there.
    """
    protocol = protocol_of(name)
    if protocol.name == SMALL_DEV:
        return _small_dev(MMarco(data))
    if protocol.name == TRAIN_500:
        mmarco = MMarco(data)
        run, qrels = mmarco.train_candidates()
        questions, corpus = mmarco.train_questions(qrels), str(mmarco.collection())
        return [Task("500 training questions, given candidates", corpus, questions, qrels, run, TRAIN_500)]
    if protocol.name == BEIR:
        path, _, split = name.removeprefix(BEIR).partition(":")
        qrels = read_qrels(Path(path) / "qrels" / f"{split}.tsv" if split else path)
        return [Task(Path(path).name, path, read_questions(path, only=qrels), qrels)]
    if protocol.name == IRDS:
        qrels = read_qrels(name)
        return [Task(name.removeprefix(IRDS), name, read_questions(name, only=qrels), qrels)]
    raise EvaluationError("runs through mteb", where=name, hint="see engine.evaluation.mteb")


def _small_dev(mmarco: MMarco) -> list[Task]:
    corpus, questions = str(mmarco.collection()), mmarco.dev_questions()
    found = [Task("full ranking", corpus, questions, mmarco.dev_qrels())]
    if mmarco.folder is None or mmarco.has_dev_candidates():
        run, qrels = mmarco.dev_candidates()
        asked = [question for question in questions if question.id in qrels]
        found.append(Task("given candidates (positives and hard negatives)", corpus, asked, qrels, run, SMALL_DEV))
    return found


def benchmark(
    name: str,
    folder: str | Path,
    *,
    reranker: "CrossEncoder | None",
    data: str | Path | None = None,
    first_stage: FirstStage = "bm25",
    encoder: str | None = None,
    settings: "Settings | None" = None,
    depth: int = 1000,
    limit: int | None = None,
    restart: bool = False,
    progress: Progress | None = None,
) -> list[BenchmarkTable]:
    """Runs a protocol and gives its tables; runs, provenance and the collection stay in `folder`.

    Args:
        name: a protocol of `PROTOCOLS`.
        folder: where the work lies; an interrupted benchmark goes on there.
        reranker: the cross-encoder to measure; None measures the first stage alone.
        data: folder of a local copy of mMARCO.
        first_stage: bm25, dense or hybrid.
        encoder: bi-encoder of a dense or hybrid first stage.
        settings: device and precision of the first stage.
        depth: candidates that the first stage hands to the reranker.
        limit: the first questions only: a trial, which the tables say.
        restart: drop interrupted runs.
        progress: called with (part, done, total).

    Raises:
        EvaluationError: no such protocol, no data, or nothing to measure without a reranker.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    protocol = protocol_of(name)
    if protocol.name == MTEB:
        from engine.evaluation.mteb import benchmark_task

        return benchmark_task(name.removeprefix(MTEB), reranker=reranker, encoder=encoder, settings=settings)
    tables = []
    for task in (_limited(one, limit) for one in tasks(name, data)):
        measured: list[Row] = []
        run = task.candidates
        if run is None:
            collection = _indexed(task.corpus, folder / "collection", first_stage, encoder, settings, progress)
            with collection:
                path = folder / f"{first_stage}.trec"
                options = SearchOptions(k=depth, first_stage=first_stage, rerank=False)
                run_questions(collection, task.questions, path, options, restart=restart, progress=progress)
            run = read_run(path)
            measured.append(_measured(run, task, protocol, first_stage))
        notices = [f"the first {limit} questions only"] if limit else []
        if reranker is not None:
            path = folder / f"{'reranked' if task.candidates is None else 'candidates'}-{Path(reranker.name).name}.trec"
            inputs = {"candidates": "given" if task.candidates else file_fingerprint(folder / f"{first_stage}.trec")}
            report = rerank(
                run,
                task.questions,
                CorpusPassages(task.corpus),
                reranker,
                path,
                depth=depth,
                interpolate=0.0,
                inputs=inputs,
                restart=restart,
                progress=progress,
            )
            notices += [f"{report.pairs:,} pairs, {report.pairs_per_second:,.0f}/s, {report.truncated:,} truncated"]
            before = "" if task.candidates else f"{first_stage} + "
            measured.append(_measured(read_run(path), task, protocol, before + Path(reranker.name).name))
        elif task.candidates is not None:
            notices += ["not measured: no reranker was given"]
        rows = (*measured, *(published(task.cards) if task.cards else ()))
        tables.append(BenchmarkTable(name, task.title, protocol.measures, rows, tuple(notices)))
    if not any(not row.published for table in tables for row in table.rows):
        raise EvaluationError("nothing to measure without a reranker", where=name, hint="name one with --reranker")
    return tables


def _limited(task: Task, limit: int | None) -> Task:
    if limit is None:
        return task
    questions = task.questions[:limit]
    kept = {question.id for question in questions}
    candidates = task.candidates
    if candidates is not None:
        scored = {q: dict(zip(r.documents, r.scores.tolist(), strict=True)) for q, r in candidates.items() if q in kept}
        candidates = Run(scored, name=candidates.name)
    qrels = Qrels({q: grades for q, grades in task.qrels.items() if q in kept}, name=task.qrels.name)
    return replace(task, questions=questions, qrels=qrels, candidates=candidates)


def _measured(run: Run, task: Task, protocol: Protocol, system: str) -> Row:
    means = evaluate(run, task.qrels, protocol.measures).means
    return Row(system, False, {measure: 100 * mean for measure, mean in means.items()})


def _indexed(
    corpus: str,
    path: Path,
    first_stage: FirstStage,
    encoder: str | None,
    settings: "Settings | None",
    progress: Progress | None,
) -> "Collection":
    """A collection of the corpus, passages whole under their own ids; what is already indexed is skipped."""
    from engine.collection import Collection

    if path.exists():
        collection = Collection.open(path, settings=settings)
        if first_stage not in (collection.info()["first_stage"], "bm25"):
            collection.widen(first_stage, encoder)
    else:
        collection = Collection.create(
            path, first_stage=first_stage, encoder=encoder, splitter="none", settings=settings
        )
    report = collection.add(documents(corpus), progress=progress)
    if report.rejected:
        collection.close()
        raise EvaluationError(f"{report.rejected} passages were rejected, such as {report.rejections[0]}", where=corpus)
    return collection
