"""The heart: questions → candidates → passages → reranked hits."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.documents.text import check_text, normalise
from engine.errors import CollectionDamaged, InvalidOption, InvalidQuestion, ModelNotFound
from engine.reader import check_encoder
from engine.records import FirstStage, Hit, LongPassages, Passage, Ranking, SearchOptions, SearchResult
from engine.settings import model_name, parse
from engine.timing import timed
from indexes import fusion

if TYPE_CHECKING:
    from engine.models import BiEncoder, CrossEncoder
    from engine.reader import Reader
    from engine.records import Ragged

__all__ = ["FIRST_WINDOW", "WINDOW", "Plan", "answer", "begin", "clean", "plan", "search", "tokens_of"]

CANDIDATES = 100
FUSION_WEIGHT = 0.75
FIRST_WINDOW, WINDOW = 4, 64
"""Questions whose pairs go to the reranker in one stream of batches: at first, and at most."""

_SETTINGS = ("first_stage", "k1", "b", "interpolate", "long_passages")
"""Options that are settings too, and are read as such."""

_NOTHING = Ranking(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Plan:
    """Search options with nothing left open."""

    k: int
    candidates: int
    first_stage: FirstStage
    encoder: "BiEncoder | None"
    reranker: "CrossEncoder | None"
    interpolate: float
    fusion_weight: float
    k1: float | None
    b: float | None
    only: "NDArray[np.int64] | None"
    below: int | None
    per_document: int | None
    long_passages: LongPassages
    highlight: bool
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What the first stage found for one question, and each side's part in it."""

    ranking: Ranking
    bm25: Ranking | None
    dense: Ranking | None
    vector: "NDArray[np.float32] | None"

    def only(self, keep: "NDArray[np.bool_]") -> "_Candidates":
        return replace(self, ranking=Ranking(self.ranking.ids[keep], self.ranking.scores[keep]))


def clean(question: str) -> str:
    """A question as it is searched: in the form of documents' text, without what no encoder can read.

    Raises:
        InvalidQuestion: nothing is left.
    """
    if not isinstance(question, str):
        raise InvalidQuestion(f"a question is text, not {type(question).__name__}")
    readable = question.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
    if not (text := normalise(readable).strip()):
        raise InvalidQuestion("the question is empty", hint="ask something, in quotes")
    return text


def plan(reader: "Reader", options: SearchOptions) -> Plan:
    """Options, then what the collection remembers, then defaults; models loaded.

    Raises:
        InvalidOption: a value makes no sense, or asks for an index that the collection lacks.
        ModelNotFound: a model was asked for by name and cannot be had.
    """
    options = _checked(options)
    memory = reader.memory
    notices: list[str] = []
    first_stage, encoder = _first_stage(reader, options, notices)
    # A reader sees one sequence: the lowest that the indexes it uses have applied.
    applied = {index.applied for index in reader.indexes(first_stage)} or {0}
    sequence = min(applied)
    if sequence < reader.catalog.sequence:
        notices.append("what was indexed last is not found yet: an index lags behind (run fouille index again)")
    reranker = _reranker(reader, options, notices)
    is_own = options.reranker is None or model_name(options.reranker) == memory["reranker"]
    tuned = memory if is_own else {}  # for the collection's own reranker
    weight = reranker.recommended_interpolate(first_stage) if reranker else None
    count = reranker.default_candidates if reranker else None
    filtered = options.keys is not None or bool(options.where)
    return Plan(
        k=options.k,
        candidates=max(options.k, options.candidates or tuned.get("candidates") or count or CANDIDATES),
        first_stage=first_stage,
        encoder=encoder,
        reranker=reranker,
        interpolate=float(_first(options.interpolate, tuned.get("interpolate"), weight, 0.0)),
        fusion_weight=float(_first(memory.get("fusion_weight"), FUSION_WEIGHT)),
        k1=_first(options.k1, memory.get("k1")),
        b=_first(options.b, memory.get("b")),
        only=reader.catalog.select(options.keys, options.where, sequence) if filtered else None,
        below=reader.catalog.last_passage(sequence) + 1 if len(applied) > 1 else None,
        per_document=options.per_document,
        long_passages=options.long_passages or memory.get("long_passages") or "truncate",
        highlight=options.highlight,
        notices=tuple(notices),
    )


def _checked(options: SearchOptions) -> SearchOptions:
    """Options whose values can be used. Raises as `plan`."""
    counts = {name: getattr(options, name) for name in ("k", "candidates", "per_document")}
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
            raise InvalidOption(f"{value!r} is not a whole number from 1 up", where=name)
    if options.keys is not None and not _is_text(options.keys):
        raise InvalidOption(f"{options.keys!r} is no glob", where="keys")
    if not isinstance(options.where, Mapping):
        raise InvalidOption(f"{options.where!r} is no mapping", where="where")
    for name, asked in options.where.items():
        if not all(map(_is_text, (name, *(asked if isinstance(asked, list | tuple) else [asked])))):
            raise InvalidOption(f"{name} is compared as text, not with {asked!r}", where="where")
    read: dict[str, Any] = {name: int(value) for name, value in counts.items() if value is not None}  # numpy's too
    given = {name: getattr(options, name) for name in _SETTINGS}
    read |= {name: parse(name, one, where=name) for name, one in given.items() if one is not None}
    return replace(options, **read)


def _is_text(value: object) -> bool:
    """Whether it is text that the catalog can be asked for."""
    return isinstance(value, str) and check_text(value) is None


def begin(reader: "Reader", options: SearchOptions) -> None:
    """What takes longest of a cold search, at once: models are loaded while Lucene starts, or a person types."""
    memory, shelf = reader.memory, reader.shelf
    encodes = reader.has_dense and (options.first_stage or memory["first_stage"]) != "bm25"
    encoder = memory["encoder"] if encodes else None
    reranker = None if options.rerank is False else options.reranker or memory["reranker"]
    shelf.prepare(*(name if name and shelf.at_hand(name) else None for name in (encoder, reranker)))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _first_stage(reader: "Reader", options: SearchOptions, notices: list[str]) -> "tuple[FirstStage, BiEncoder | None]":
    """Which first stage answers, and its encoder; falls back to BM25 only where nobody asked for more."""
    asked = options.first_stage
    wanted: FirstStage = asked or reader.memory["first_stage"]
    for stage, there in (("bm25", reader.has_bm25), ("dense", reader.has_dense)):
        if wanted in {stage, "hybrid"} and not there:
            raise InvalidOption(
                f"the collection has no {stage} index", where=f"--first-stage {wanted}", hint="index with hybrid"
            )
    if wanted == "bm25":
        return "bm25", None
    name = reader.memory["encoder"]
    reason = None
    if reader.catalog.sequence and (reader.dense is None or not reader.dense.applied):
        reason = "its passages are not encoded yet"
    elif asked is None and not reader.shelf.at_hand(name):
        reason = f"the encoder {name} is not on this machine"
    if reason is None:
        encoder = reader.shelf.encoder(name, fetch=True)
        check_encoder(reader.memory, encoder)
        return wanted, encoder
    if asked is not None or not reader.has_bm25:
        raise ModelNotFound(reason, where=reader.folder.parent, hint="run fouille index again, or search with bm25")
    remedy = " (run fouille index again)" if reader.shelf.at_hand(name) else ""
    notices.append(f"{reason}: BM25 alone answers{remedy}")
    return "bm25", None


def _reranker(reader: "Reader", options: SearchOptions, notices: list[str]) -> "CrossEncoder | None":
    """The cross-encoder, or None where nobody insists on one and none is at hand."""
    if options.rerank is False:
        return None
    name = options.reranker or reader.memory["reranker"]
    insisted = options.reranker is not None or options.rerank is True
    if not insisted and not reader.shelf.at_hand(name):
        notices.append(f"no reranker at hand ({name}): the first stage alone answers; see fouille models")
        return None
    reranker = reader.shelf.reranker(name, fetch=insisted)
    notices.extend(reranker.notices)
    return reranker


def answer(reader: "Reader", questions: Sequence[str], options: SearchOptions) -> list[SearchResult]:
    """Plan, then search the last commit. Raises as `plan`, `search` and `Reader.steady`."""
    begin(reader, options)
    with reader.steady(options.first_stage):
        return search(reader, questions, plan(reader, options))


def search(reader: "Reader", questions: Sequence[str], chosen: Plan) -> list[SearchResult]:
    """Answer a window of questions, in order; their pairs go to the reranker in one stream of batches.

    Raises:
        InvalidQuestion: a question is empty.
        CollectionDamaged: an index names a passage that the catalog lacks.
    """
    texts = [clean(question) for question in questions]
    timings: dict[str, float] = {}
    with timed(timings, "total"):
        with timed(timings, "first_stage"):
            found = _candidates(reader, texts, chosen, timings)
        read = _rerank(reader, texts, found, chosen, timings)
        orders = [_order(one, scores, chosen) for one, scores in zip(found, read, strict=True)]
        shown = {id_ for one, order in zip(found, orders, strict=True) for id_ in one.ranking.ids[order.top].tolist()}
        with timed(timings, "passages"):
            passages = _passages(reader, sorted(shown))
        hits = [tuple(_hits(reader, chosen, *one, passages)) for one in zip(texts, found, orders, strict=True)]
    share = {part: seconds / len(questions) for part, seconds in timings.items()}
    return [
        SearchResult(
            question=question,
            hits=hits[index],
            timings=dict(share),
            notices=(*chosen.notices, *_unread(reader, question, found[index], chosen)),
            candidates=len(found[index].ranking.ids),
            first_stage=chosen.first_stage,
            **_told(chosen.reranker, read[index]),
        )
        for index, question in enumerate(questions)
    ]


def _unread(reader: "Reader", question: str, found: "_Candidates", chosen: Plan) -> list[str]:
    """What to say of a question that found nothing because BM25, which was asked, could not read it."""
    if len(found.ranking.ids) or chosen.first_stage == "dense" or reader.bm25 is None:
        return []
    if reader.bm25.reads(clean(question)):
        return []
    return ["the question has only words that BM25 leaves out: add one that tells more"]


def _told(reranker: "CrossEncoder | None", read: "_Read | None") -> dict[str, Any]:
    """What a result says of its reranking."""
    if reranker is None:
        return {}
    told: dict[str, Any] = {"reranker": reranker.name, "precision": reranker.precision}
    if read is not None:
        told["truncated"] = int(read.truncated.sum())
        if read.drafted.any():
            told |= {"draft_precision": reranker.draft_precision, "rescored": int((~read.drafted).sum())}
    return told


def _candidates(reader: "Reader", texts: Sequence[str], chosen: Plan, timings: dict[str, float]) -> list[_Candidates]:
    """The first stage for every question; deeper where one document's passages crowd out the others."""
    # Without a reranker the first k are the answer, but fusion still wants both sides deep.
    wanted = chosen.k if chosen.reranker is None and chosen.first_stage != "hybrid" else chosen.candidates
    found = _retrieve(reader, texts, chosen, wanted, timings)
    if chosen.per_document is not None:
        for index, text in enumerate(texts):
            found[index] = _spread(reader, text, found[index], chosen, wanted, timings)
    return found


def _retrieve(
    reader: "Reader",
    texts: Sequence[str],
    chosen: Plan,
    depth: int,
    timings: dict[str, float],
    encoded: "NDArray[np.float32] | None" = None,
) -> list[_Candidates]:
    """`depth` passages by each side that the plan uses, fused where it uses both; `encoded`: the texts' vectors."""
    rows = range(len(texts))
    bm25: Sequence[Ranking | None] = [None for _ in rows]
    dense: Sequence[Ranking | None] = bm25
    vectors: Sequence[NDArray[np.float32] | None] = [None for _ in rows]
    if chosen.first_stage != "dense" and reader.bm25 is not None:
        with timed(timings, "bm25"):
            bm25 = reader.bm25.search_many(texts, depth, k1=chosen.k1, b=chosen.b, ids=chosen.only, below=chosen.below)
    if chosen.encoder is not None and reader.dense is not None:
        if encoded is None:
            with timed(timings, "encode"):
                encoded = chosen.encoder.encode_queries(texts)
        with timed(timings, "dense"):
            dense = reader.dense.search(encoded, depth, ids=chosen.only, below=chosen.below)
            vectors = list(encoded)
    return [_fused(reader, bm25[row], dense[row], vectors[row], chosen, depth) for row in rows]


def _fused(
    reader: "Reader",
    bm25: Ranking | None,
    dense: Ranking | None,
    vector: "NDArray[np.float32] | None",
    chosen: Plan,
    depth: int,
) -> _Candidates:
    """Both sides as one ranking; a passage that only BM25 found gets its exact dense score."""
    index = reader.dense
    if bm25 is None or dense is None or index is None or vector is None:
        return _Candidates(bm25 or dense or _NOTHING, bm25, dense, vector)

    def dense_at(ids: "NDArray[np.int64]") -> "NDArray[np.float32]":
        return index.scores(vector, ids)

    both = fusion.convex(bm25, dense, weight=chosen.fusion_weight, dense_at=dense_at)
    return _Candidates(Ranking(both.ids[:depth], both.scores[:depth]), bm25, dense, vector)


def _spread(
    reader: "Reader", text: str, found: _Candidates, chosen: Plan, wanted: int, timings: dict[str, float]
) -> _Candidates:
    """At most `per_document` candidates of each document, as if the first stage had ranked only those."""
    depth, limit, most = wanted, chosen.per_document or 1, None
    encoded = None if found.vector is None else found.vector[None]
    while True:
        owners = reader.catalog.owners(found.ranking.ids)
        seen: defaultdict[int, int] = defaultdict(int)
        keep = np.zeros(len(found.ranking.ids), np.bool_)
        for place, id_ in enumerate(found.ranking.ids.tolist()):
            owner = owners.get(id_)
            if owner is None:
                raise _lacking(reader)
            seen[owner] += 1
            keep[place] = seen[owner] <= limit
        exhausted = len(keep) < depth
        if not exhausted and keep.sum() < wanted and most is None:
            most = limit * reader.catalog.counts()["documents"]
        if exhausted or keep.sum() >= wanted or keep.sum() == most:
            keep[np.flatnonzero(keep)[wanted:]] = False
            return found.only(keep)
        depth *= 4
        found = _retrieve(reader, [text], chosen, depth, timings, encoded)[0]


@dataclass(frozen=True)
class _Read:
    """What the reranker found in one question's candidates, and their standardised first-stage scores."""

    logits: "NDArray[np.float32]"
    truncated: "NDArray[np.bool_]"
    drafted: "NDArray[np.bool_]"
    z: "NDArray[np.float32]"

    @cached_property
    def sigmoids(self) -> "NDArray[np.float32]":
        """Of the logits."""
        from engine.models.crossencoder import sigmoid

        return sigmoid(self.logits)


def _rerank(
    reader: "Reader", texts: Sequence[str], found: Sequence[_Candidates], chosen: Plan, timings: dict[str, float]
) -> "list[_Read | None]":
    """Logits of every candidate, exact for those that will be shown, question by question; None without a reranker."""
    sizes = [len(one.ranking.ids) for one in found]
    if chosen.reranker is None or not sum(sizes):
        return [None] * len(found)
    ids = np.concatenate([one.ranking.ids for one in found])
    unique, rows = np.unique(ids, return_inverse=True)
    with timed(timings, "tokens"):
        tokens = tokens_of(reader, chosen.reranker, unique)
    pairs = np.stack([np.repeat(np.arange(len(found)), sizes), rows], axis=1).astype(np.int32)
    z = [fusion.standardised(one.ranking.scores) for one in found]
    with timed(timings, "rerank"):
        scores = chosen.reranker.score_top(
            texts,
            tokens,
            pairs,
            chosen.k,
            added=np.float32(chosen.interpolate) * np.concatenate(z),
            long_passages=chosen.long_passages,
        )
    cuts = np.cumsum(sizes)[:-1]
    parts = zip(*(np.split(values, cuts) for values in scores), z, strict=True)
    return [_Read(*part) for part in parts]


def _passages(reader: "Reader", ids: Sequence[int]) -> dict[int, Passage]:
    found = reader.catalog.passages(ids)
    if len(found) < len(ids):
        raise _lacking(reader)
    return found


def _lacking(reader: "Reader") -> CollectionDamaged:
    return CollectionDamaged("an index names a passage that the catalog lacks", where=reader.folder.parent)


def tokens_of(reader: "Reader", reranker: "CrossEncoder", ids: "NDArray[np.int64]") -> "Ragged":
    """Passages' tokens, as `PassageTokens.of`, read from the catalog where they are stored nowhere."""

    def inputs(missing: "NDArray[np.int64]") -> list[str]:
        passages = _passages(reader, missing.tolist())
        return [passages[id_].input for id_ in missing.tolist()]

    return reader.tokens.of(ids, reranker, inputs)


@dataclass(frozen=True, slots=True)
class _Order:
    """How one question's candidates end up: rows of the top k, best first, and what ordered them."""

    top: "NDArray[np.int64]"
    scores: "NDArray[np.float32]"
    read: _Read | None


def _order(found: _Candidates, read: _Read | None, chosen: Plan) -> _Order:
    """By logit + W z, z being the first-stage score standardised over the candidates; ties by passage id."""
    if read is None:
        return _Order(np.arange(min(chosen.k, len(found.ranking.ids))), found.ranking.scores, None)
    key = read.logits + np.float32(chosen.interpolate) * read.z
    top = np.lexsort((found.ranking.ids, -key))[: chosen.k]
    return _Order(top, key if chosen.interpolate else read.sigmoids, read)


def _hits(
    reader: "Reader",
    chosen: Plan,
    text: str,
    found: _Candidates,
    order: _Order,
    passages: Mapping[int, Passage],
) -> Iterator[Hit]:
    from engine.highlights import highlights

    ids = found.ranking.ids[order.top]
    sides = [
        {id_: place for place, id_ in enumerate(side.ids.tolist())} if side else {}
        for side in (found.bm25, found.dense)
    ]
    exact = reader.dense.scores(found.vector, ids) if reader.dense is not None and found.vector is not None else None
    for rank, (row, id_) in enumerate(zip(order.top.tolist(), ids.tolist(), strict=True), start=1):
        passage = passages[id_]
        bm25_at, dense_at = (side.get(id_) for side in sides)
        logit = None if order.read is None else float(order.read.logits[row])
        yield Hit(
            key=passage.key,
            passage_id=id_,
            text=passage.text,
            title=passage.title,
            start=passage.start,
            end=passage.end,
            page=passage.page,
            last_page=passage.last_page,
            line=passage.line,
            metadata=passage.metadata,
            rank=rank,
            score=float(order.scores[row]),
            highlights=highlights(text, passage.text) if chosen.highlight else (),
            bm25_rank=None if bm25_at is None else bm25_at + 1,
            bm25_score=None if bm25_at is None or found.bm25 is None else float(found.bm25.scores[bm25_at]),
            dense_rank=None if dense_at is None else dense_at + 1,
            dense_score=None if exact is None else float(exact[rank - 1]),
            fused_score=float(found.ranking.scores[row]) if found.bm25 and found.dense else None,
            first_stage_z=None if order.read is None else float(order.read.z[row]),
            rerank_logit=logit,
            rerank_score=None if order.read is None else float(order.read.sigmoids[row]),
            truncated=bool(order.read is not None and order.read.truncated[row]),
        )
