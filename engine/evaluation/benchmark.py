"""Named protocols run from start to end: first stage, reranking, measures, the cards' figures beside."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import CollectionOutdated, EvaluationError
from engine.evaluation.batch import run_questions
from engine.evaluation.corpora import documents
from engine.evaluation.lines import replacing
from engine.evaluation.measures import evaluate
from engine.evaluation.protocols import MTEB, BenchmarkTable, Protocol, Row, Task, protocol_of, published, tasks
from engine.evaluation.rerank import CorpusPassages, rerank
from engine.evaluation.runs import Run, read_run
from engine.records import FirstStage, Progress, SearchOptions

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.models import CrossEncoder
    from engine.settings import Settings

__all__ = ["benchmark"]

_ANEW = "give another --folder, or remove this one"


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
        depth: candidates that the first stage hands to the reranker; those that a protocol gives are all reranked.
        limit: the first questions only: a trial, which the tables say.
        restart: drop interrupted runs.
        progress: called with (part, done, total).

    Raises:
        EvaluationError: no such protocol, no data, a limit below 1 or of mteb, or nothing to measure without a
            reranker.
        CollectionOutdated: the folder's collection has another corpus, or vectors of another encoder.
    """
    protocol = protocol_of(name, limit)
    if protocol.name == MTEB:
        from engine.evaluation.mteb import benchmark_task

        return benchmark_task(name.removeprefix(MTEB), reranker=reranker, encoder=encoder, settings=settings)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    bench = _Bench(protocol, folder, first_stage, encoder, settings, reranker, depth, restart, progress)
    trial = (f"the first {limit} questions only",) if limit else ()
    tables = [
        BenchmarkTable(name, task.title, protocol.measures, *bench.measure(task.first(limit) if limit else task, trial))
        for task in tasks(name, data)
    ]
    if all(row.published for table in tables for row in table.rows):
        raise EvaluationError("nothing to measure without a reranker", where=name, hint="name one with --reranker")
    return tables


@dataclass(frozen=True, slots=True)
class _Bench:
    """Measures the tasks of one benchmark; see `benchmark` for the fields."""

    protocol: Protocol
    folder: Path
    first_stage: FirstStage
    encoder: str | None
    settings: "Settings | None"
    reranker: "CrossEncoder | None"
    depth: int
    restart: bool
    progress: Progress | None

    def measure(self, task: Task, notices: tuple[str, ...]) -> tuple[tuple[Row, ...], tuple[str, ...]]:
        """Rows of the task's table, measured then published, and its notices after those given."""
        rows: list[Row] = []
        run = task.candidates
        if run is None:
            run = self._searched(task)
            row, warnings = self._row(run, task, self.first_stage)
            rows.append(row)
            notices += warnings
        if self.reranker is not None:
            reranked, notice = self._reranked(run, task, self.reranker)
            before = "" if task.candidates else f"{self.first_stage} + "
            row, warnings = self._row(reranked, task, before + Path(self.reranker.name).name)
            rows.append(row)
            notices += (notice, *warnings)
        elif task.candidates is not None:
            notices += ("not measured: no reranker was given",)
        return (*rows, *(published(task.cards) if task.cards else ())), notices

    @property
    def _first_run(self) -> Path:
        return self.folder / f"{self.first_stage}.trec"

    def _searched(self, task: Task) -> Run:
        """The first stage's run over the whole corpus."""
        options = SearchOptions(k=self.depth, first_stage=self.first_stage, rerank=False)
        with self._indexed(task.corpus) as collection:
            run_questions(
                collection, task.questions, self._first_run, options, restart=self.restart, progress=self.progress
            )
        return read_run(self._first_run)

    def _reranked(self, run: Run, task: Task, reranker: "CrossEncoder") -> tuple[Run, str]:
        """The run reranked, and what that took."""
        source = "reranked" if task.candidates is None else "candidates"
        path = self.folder / f"{source}-{Path(reranker.name).name}.trec"
        report = rerank(
            run,
            task.questions,
            CorpusPassages(task.corpus),
            reranker,
            path,
            depth=self.depth if task.candidates is None else None,
            interpolate=0.0,
            restart=self.restart,
            progress=self.progress,
        )
        notice = f"{report.pairs:,} pairs, {report.pairs_per_second:,.0f}/s, {report.truncated:,} truncated"
        return read_run(path), notice

    def _row(self, run: Run, task: Task, system: str) -> tuple[Row, tuple[str, ...]]:
        """The row of a system, and what was missing."""
        evaluation = evaluate(run, task.qrels, self.protocol.measures)
        values = {measure: 100 * mean for measure, mean in evaluation.means.items()}
        return Row(system, False, values), evaluation.warnings

    def _indexed(self, corpus: str) -> "Collection":
        """A collection of the corpus, passages whole under their own ids; what is already indexed is skipped."""
        from engine.collection import Collection

        path, stage, made_of = self.folder / "collection", self.first_stage, self.folder / "collection.json"
        identity = dict(CorpusPassages(corpus).identity)
        if path.exists():
            # What is unchanged would be skipped, but what is gone from the corpus would stay.
            if not made_of.exists() or json.loads(made_of.read_bytes()) != identity:
                raise CollectionOutdated(f"not made of {corpus} as it is now", where=self.folder, hint=_ANEW)
            collection = Collection.open(path, settings=self.settings)
            self._fit(collection)
        else:
            with replacing(made_of) as stream:
                json.dump(identity, stream)
            collection = Collection.create(
                path, first_stage=stage, encoder=self.encoder, splitter="none", settings=self.settings
            )
        report = collection.add(documents(corpus), progress=self.progress)
        if report.rejected:
            collection.close()
            raise EvaluationError(
                f"{report.rejected} passages were rejected, such as {report.rejections[0]}", where=corpus
            )
        return collection

    def _fit(self, collection: "Collection") -> None:
        """See that the first stage can be measured on a collection made before; adds the index that it lacks.

        Raises:
            CollectionOutdated: its vectors are another encoder's.
        """
        from engine.models import registry

        stage, memory = self.first_stage, collection.memory
        if stage != "bm25" and memory["first_stage"] != "bm25":
            wanted = self.encoder or collection.shelf.settings.encoder_or_default
            if registry.model_hash(registry.fetch(wanted)) != memory["encoder_hash"]:
                raise CollectionOutdated(
                    f"made with encoder {memory['encoder']}, not {wanted}", where=self.folder, hint=_ANEW
                )
        if memory["first_stage"] not in (stage, "hybrid"):
            collection.widen("hybrid", self.encoder if stage != "bm25" else None)
