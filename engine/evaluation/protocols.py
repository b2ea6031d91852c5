"""Named protocols: their data, their measures, their tables, and what the models' cards publish under each."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EvaluationError
from engine.evaluation.corpora import IRDS
from engine.evaluation.mmarco import MMarco
from engine.evaluation.qrels import Qrels, read_qrels
from engine.evaluation.questions import Question, read_questions
from engine.evaluation.runs import Run

if TYPE_CHECKING:
    import pandas

__all__ = ["MTEB", "PROTOCOLS", "BenchmarkTable", "Protocol", "Row", "Task", "protocol_of", "published", "tasks"]

SMALL_DEV, TRAIN_500, BEIR, MTEB = "mmarco-fr-small-dev", "mmarco-fr-train500", "beir:", "mteb:"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a benchmark is run; `measures` are what its tables show, `fouille benchmark --help` describes the rest."""

    name: str
    measures: tuple[str, ...]


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(SMALL_DEV, ("MRR@10", "R@10", "R@100", "R@500", "R@1000")),
        Protocol(TRAIN_500, ("RPrec", "MRR@10", "R@10", "R@20", "R@50", "R@100")),
        Protocol(BEIR, ("nDCG@10", "MRR@10", "R@100")),
        Protocol(IRDS, ("nDCG@10", "MRR@10", "R@100")),
        Protocol(MTEB, ("main score",)),
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

    def first(self, count: int) -> "Task":
        """The task with its first questions alone."""
        questions = self.questions[:count]
        kept = {question.id for question in questions}
        qrels = Qrels({q: grades for q, grades in self.qrels.items() if q in kept}, name=self.qrels.name)
        candidates = self.candidates
        if candidates is not None:
            scored = {
                q: dict(zip(r.documents, r.scores.tolist(), strict=True)) for q, r in candidates.items() if q in kept
            }
            candidates = Run(scored, name=candidates.name)
        return replace(self, questions=questions, qrels=qrels, candidates=candidates)


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


def protocol_of(name: str, limit: int | None = None) -> Protocol:
    """The protocol that `name` asks for, of whose questions `limit` are wanted.

    Raises:
        EvaluationError: there is no such protocol, or it cannot be limited so.
    """
    if limit is not None and limit < 1:
        raise EvaluationError(f"a limit of {limit} leaves no question", where=name)
    for known, protocol in PROTOCOLS.items():
        if name.startswith(known) and name != known if known.endswith(":") else name == known:
            if known == MTEB and limit is not None:
                raise EvaluationError("mteb runs a task whole", where=name, hint="leave out --limit")
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
        return [_beir(name.removeprefix(BEIR))]
    if protocol.name == IRDS:
        qrels = read_qrels(name)
        return [Task(name.removeprefix(IRDS), name, read_questions(name, only=qrels), qrels)]
    raise EvaluationError("runs through mteb", where=name, hint="see engine.evaluation.mteb")


def _beir(asked: str) -> Task:
    path, split = (asked, "") if Path(asked).is_dir() else asked.rpartition(":")[::2]
    if not Path(path).is_dir() or not path:
        raise EvaluationError("no BEIR folder", where=asked, hint="beir:PATH, or beir:PATH:SPLIT")
    splits = sorted(file.stem for file in (Path(path) / "qrels").glob("*.tsv"))
    if len(splits) > 1 and not split:
        shown = " or ".join(f"beir:{path}:{one}" for one in splits)
        raise EvaluationError(f"{len(splits)} splits under qrels/", where=path, hint=f"name one: {shown}")
    qrels = read_qrels(Path(path) / "qrels" / f"{split}.tsv" if split else path)
    return Task(Path(path).name, path, read_questions(path, only=qrels), qrels)


def _small_dev(mmarco: MMarco) -> list[Task]:
    corpus, questions = str(mmarco.collection()), mmarco.dev_questions()
    wanted = [Task("full ranking", corpus, questions, mmarco.dev_qrels())]
    if mmarco.folder is None or mmarco.has_dev_candidates():
        run, qrels = mmarco.dev_candidates()
        judged = [question for question in questions if question.id in qrels]
        wanted.append(Task("given candidates (positives and hard negatives)", corpus, judged, qrels, run, SMALL_DEV))
    return wanted
