"""Many questions at once over one collection, written as a TREC run."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import generation
from engine.errors import EvaluationError
from engine.evaluation.lines import odd_character
from engine.evaluation.provenance import Provenance
from engine.evaluation.questions import Question
from engine.evaluation.resumable import ResumableRun
from engine.reader import Reader
from engine.records import FirstStage, Progress, SearchOptions, document_scores
from engine.search import Plan, plan

if TYPE_CHECKING:
    from engine.collection import Collection

__all__ = [
    "RunReport",
    "collection_identity",
    "questions_fingerprint",
    "run_questions",
]

_COUNTS = ("name", "documents", "passages", "sequence")
_REMEMBERED = ("first_stage", "encoder_hash", "splitter", "analysis", "k1", "b", "fusion_weight", "interpolate")
_MOST_CHECKED = 1_000_000  # documents whose keys are looked at beforehand; later ones when they are found
_IDENTITY = (*_COUNTS, *_REMEMBERED, "candidates", "long_passages")


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a batch search did.

    Attributes:
        questions: answered in this run.
        lines: documents ranked in this run.
        without_hits: questions to which nothing was found; the run has no line for them.
        resumed: questions found answered by an interrupted run.
        seconds: wall time.
        first_stage: which answered.
        reranker: its name; None where the first stage answered alone.
        notices: one line each, as searches gave them, and what run was replaced.
    """

    questions: int
    lines: int
    without_hits: int
    resumed: int
    seconds: float
    first_stage: FirstStage
    reranker: str | None
    notices: tuple[str, ...]


def run_questions(
    collection: "Collection",
    questions: Sequence[Question],
    output: str | Path,
    options: SearchOptions,
    *,
    tag: str = "fouille",
    restart: bool = False,
    progress: Progress | None = None,
) -> RunReport:
    """Searches a collection for every question and writes a TREC run that names each document once.

    Rankings are written as they come, nothing is held; an interrupted run goes on where it stopped. Scores are what the
    hits were ordered by: logits where a cross-encoder alone ordered them, since sigmoids near 1 tie.

    Args:
        collection: what to search.
        questions: in the order of the run.
        output: the file; its provenance goes beside it.
        options: of the search; `per_document` is 1 whatever they say.
        tag: last column of the run.
        restart: drop an interrupted run.
        progress: called with ("questions", done, total).

    Raises:
        EvaluationError: a key that no TREC run can hold, before anything is searched, or an interrupted run made with
            other options is in the way.
        StorageError: the system refused to write.
        InvalidOption, ModelNotFound: as a search with these options.
    """
    options = replace(options, per_document=1, highlight=False)
    identity = collection_identity(collection)
    if identity["documents"] <= _MOST_CHECKED:
        _check_keys(collection, options)
    chosen = _planned(collection, options)
    settings, models = {**given_options(options), **_resolved(chosen)}, _model_hashes(chosen)
    inputs = {"questions": questions_fingerprint(questions)}
    decisive = {"options": settings, "collection": identity, "models": models, "inputs": inputs}
    started = time.monotonic()
    lines = without_hits = 0
    notices = dict.fromkeys(_depth_notice(options, chosen))
    with ResumableRun(output, decisive, tag=tag, restart=restart) as writer:
        left = [question for question in questions if question.id not in writer.done]
        if progress:
            progress("questions", 0, len(left))
        results = collection.search_many([question.text for question in left], options)
        for done, (question, result) in enumerate(zip(left, results, strict=True), 1):
            documents, scores = document_scores(result)
            writer.add(question.id, documents, scores)
            lines += len(documents)
            without_hits += not documents
            notices.update(dict.fromkeys(result.notices))
            if progress:
                progress("questions", done, len(left))
        seconds = time.monotonic() - started
        writer.finish(Provenance("run", identity, models, settings, inputs, round(seconds, 3)))
    return RunReport(
        questions=len(left),
        lines=lines,
        without_hits=without_hits,
        resumed=writer.resumed,
        seconds=seconds,
        first_stage=chosen.first_stage,
        reranker=Path(chosen.reranker.name).name if chosen.reranker else None,
        notices=(*notices, *writer.replaced),
    )


def _check_keys(collection: "Collection", options: SearchOptions) -> None:
    """See that a run can name every document that may be found, before the first search.

    Raises:
        EvaluationError: one has a key that no line of a run can hold.
    """
    if options.where:
        return  # it may leave out just those keys; one that is found is refused when it is written
    keys = collection.keys(options.keys)
    odd = [key for key in keys if odd_character(key)]
    if odd:
        raise EvaluationError(
            f"{len(odd):,} of {len(keys):,} documents have keys that a TREC run cannot hold: {odd_character(odd[0])}",
            where=collection.name,
            hint="leave them out with --in, or index them under other names",
        )


def _planned(collection: "Collection", options: SearchOptions) -> Plan:
    """How the collection answers, read at one moment whatever a writer does beside. Raises as a search."""
    with (
        closing(Reader(generation.current(collection.path), collection.shelf)) as reader,
        reader.steady(options.first_stage),
    ):
        return plan(reader, options)


def given_options(options: SearchOptions) -> dict[str, Any]:
    """Search options as JSON values; what was left open is left out, and models go by name, not by folder."""
    named = {**asdict(replace(options, where={})), "where": dict(options.where)}
    named["reranker"] = options.reranker and Path(options.reranker).name
    del named["highlight"]  # changes no ranking
    return {name: value for name, value in named.items() if value is not None and value != {}}


def _resolved(chosen: Plan) -> dict[str, Any]:
    """Values that the options left unset, as the plan resolved them."""
    values: dict[str, Any] = {"first_stage": chosen.first_stage, **_first_stage_parameters(chosen)}
    if chosen.encoder is not None:
        values["encoder_precision"] = chosen.encoder.precision
    if chosen.reranker is not None or chosen.first_stage == "hybrid":
        values["candidates"] = chosen.candidates
    if chosen.reranker is not None:
        values |= {name: getattr(chosen.reranker, name) for name in ("precision", "max_length")}
        values |= {"interpolate": chosen.interpolate, "long_passages": chosen.long_passages}
        # Where all candidates are ranked none is drafted: they are scored once.
        if chosen.candidates > chosen.k and chosen.reranker.draft_precision is not None:
            values["draft_precision"] = chosen.reranker.draft_precision
    return values


def _first_stage_parameters(chosen: Plan) -> dict[str, float]:
    """What `fouille tune` may change of the first stage, as far as it takes part."""
    values: dict[str, float] = {}
    if chosen.first_stage != "dense":
        from indexes.bm25 import DEFAULT_B, DEFAULT_K1

        values["k1"] = DEFAULT_K1 if chosen.k1 is None else chosen.k1
        values["b"] = DEFAULT_B if chosen.b is None else chosen.b
    if chosen.first_stage == "hybrid":
        values["fusion_weight"] = chosen.fusion_weight
    return values


def _depth_notice(options: SearchOptions, chosen: Plan) -> list[str]:
    """A notice where fewer candidates were asked for than documents to rank."""
    if chosen.reranker is None or options.candidates is None or options.candidates >= options.k:
        return []
    return [f"{options.k:,} candidates are reranked, not {options.candidates:,}: k asks for as many documents"]


def collection_identity(collection: "Collection") -> dict[str, Any]:
    """What decides a collection's answers, as `info` tells it, without where it lies."""
    info = collection.info()
    return {name: info[name] for name in _IDENTITY if name in info}


def _model_hashes(chosen: Plan) -> dict[str, str]:
    """Hash by name of the models that answer."""
    models = (model for model in (chosen.encoder, chosen.reranker) if model is not None)
    return {Path(model.name).name: model.hash for model in models}


def questions_fingerprint(questions: Sequence[Question]) -> str:
    """sha256 of ids and texts, whatever file they came from."""
    digest = hashlib.sha256()
    for question in questions:
        digest.update(f"{question.id}\t{question.text}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()
