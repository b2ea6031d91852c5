"""A multilingual model cut to the pieces that a corpus uses: the same tokens and scores on its text, a smaller table.

What is never on a text's best path can go without moving that path, but for what depends on the vocabulary as a whole:
the penalty of an unknown character in a Unigram model, a word that WordPiece gives up on. So every text is tokenised
again with what was kept, and where the tokens differ, the pieces that the text could be made of come back.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

from engine.errors import TrainingError
from engine.evaluation.corpora import read_corpus
from engine.evaluation.questions import read_questions
from engine.models import registry
from engine.models.architecture import read_json
from engine.models.folders import put_in_place, write
from engine.records import Progress

__all__ = ["Pruned", "prune"]

_TEXTS_AT_ONCE = 1000
_MARKS = ("▁", "##", "Ġ")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_TABLES = re.compile(r"(word_embeddings|embed_tokens|tok_embeddings|lm_head|predictions)\b.*(weight|bias)$")
_OF_THE_OLD = ("sentencepiece.bpe.model", "*.model", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning did.

    Attributes:
        pieces, kept: of the vocabulary, before and after.
        texts: whose tokens were seen to be the same.
        bytes_before, bytes_after: of the weights.
    """

    pieces: int
    kept: int
    texts: int
    bytes_before: int
    bytes_after: int


def prune(
    name_or_path: str, corpus: Sequence[str], folder: Path, *, half: bool = False, progress: Progress | None = None
) -> Pruned:
    """Writes a model with the pieces that a corpus uses, special tokens, single characters and bytes.

    Args:
        name_or_path: a model with a Unigram, WordPiece or BPE tokenizer in `tokenizer.json`.
        corpus: what `read_corpus` reads; of a BEIR folder, its questions too.
        folder: to make; it must not exist, or be empty.
        half: store the weights in fp16.
        progress: called with ("tokens", texts, None) and ("verifying", texts, total).

    Raises:
        TrainingError: the tokenizer is of another kind, or the corpus holds nothing.
        ModelNotFound, ModelDamaged, ModelUnsupported: the model cannot be had.
        StorageError: the folder cannot be written.
    """
    from tokenizers import Tokenizer

    source = registry.fetch(name_or_path)
    record = read_json(source / "tokenizer.json")
    vocabulary = Vocabulary(record, str(source))
    original = _plain(Tokenizer.from_str(json.dumps(record)))
    kept, texts = set(vocabulary.always()), 0
    for block in _blocks(_texts(source, name_or_path, corpus)):
        for ids in _encoded(original, block):
            kept.update(ids)
        texts += len(block)
        if progress:
            progress("tokens", texts, None)
    if not texts:
        raise TrainingError("the corpus holds no text", where=", ".join(corpus))
    kept = vocabulary.closed(kept)
    # Each round adds pieces of the texts that differ, so the last one at most has them all back.
    while missing := _missing(original, vocabulary, kept, _texts(source, name_or_path, corpus), texts, progress):
        kept = vocabulary.closed(kept | missing)
    ids = sorted(kept)
    with put_in_place(folder) as made:
        before, after = _write_weights(source, made, ids, half=half)
        _write_rest(source, made, vocabulary, ids, half=half)
    return Pruned(len(vocabulary.pieces), len(ids), texts, before, after)


class Vocabulary:
    """The pieces of a `tokenizer.json`, and the same file with some of them.

    Args:
        record: the file's content.
        where: for messages.

    Raises:
        TrainingError: the tokenizer is of another kind.
    """

    def __init__(self, record: Mapping[str, Any] | None, where: str) -> None:
        if record is None:
            raise TrainingError("holds no tokenizer.json", where=where, hint="save its fast tokenizer first")
        self._record, self.where = record, where
        self._model = record["model"]
        self._kind = self._model.get("type") or ("BPE" if "merges" in self._model else None)
        if self._kind not in ("Unigram", "WordPiece", "BPE"):
            raise TrainingError(f"a {self._kind} tokenizer cannot be pruned", where=where)
        vocabulary = self._model["vocab"]
        named = enumerate(piece for piece, _ in vocabulary) if self._kind == "Unigram" else _by_id(vocabulary)
        self.pieces: dict[int, str] = dict(named)
        self._added = {token["id"]: token["content"] for token in record.get("added_tokens") or []}
        self.pieces.update(self._added)

    def always(self) -> Iterator[int]:
        """Pieces that stay whatever the corpus: special ones, what stands before them, characters, bytes."""
        special = [number for number, piece in self.pieces.items() if piece in ("<pad>", "[PAD]")]
        yield from range(max(special, default=-1) + 1)  # XLM-R counts positions from the padding's id
        yield from self._added
        for number, piece in self.pieces.items():
            if len(_bare(piece)) <= 1 or _BYTE.fullmatch(piece) or piece == self._model.get("unk_token"):
                yield number
        if self._kind == "Unigram":
            # An unknown character costs so much less than the least likely piece, which must therefore stay the same.
            yield min(range(len(self._model["vocab"])), key=lambda number: self._model["vocab"][number][1])
            if self._model.get("unk_id") is not None:
                yield self._model["unk_id"]

    def closed(self, kept: Iterable[int]) -> set[int]:
        """The pieces with all that they are merged from, in BPE."""
        found = {number for number in kept if number in self.pieces}
        if self._kind != "BPE":
            return found
        parts: dict[str, set[str]] = {}
        for left, right in self._merges():
            parts.setdefault(left + right, set()).update((left, right))
        number_of = {piece: number for number, piece in self.pieces.items()}
        waiting = [self.pieces[number] for number in found]
        while waiting:
            for part in parts.get(waiting.pop(), ()):
                if part in number_of and number_of[part] not in found:
                    found.add(number_of[part])
                    waiting.append(part)
        return found

    def made_of(self, text: str) -> set[int]:
        """Every piece that stands somewhere in a text, by its bare letters."""
        lowered = text.lower()
        return {number for number, piece in self.pieces.items() if _bare(piece) in text or _bare(piece) in lowered}

    def record(self, ids: Sequence[int]) -> dict[str, Any]:
        """The content of `tokenizer.json` with these pieces, numbered in their order."""
        new = {old: place for place, old in enumerate(ids)}
        model = dict(self._model)
        if self._kind == "Unigram":
            model["vocab"] = [self._model["vocab"][old] for old in ids if old < len(self._model["vocab"])]
            if model.get("unk_id") is not None:
                model["unk_id"] = new[model["unk_id"]]
        else:
            model["vocab"] = {piece: new[old] for piece, old in self._model["vocab"].items() if old in new}
        if self._kind == "BPE":
            there = model["vocab"]
            pairs = zip(self._model["merges"], self._merges(), strict=True)
            model["merges"] = [merge for merge, (a, b) in pairs if a in there and b in there and a + b in there]
        added = [{**token, "id": new[token["id"]]} for token in self._record.get("added_tokens") or []]
        padding = self._record.get("padding")
        return {
            **self._record,
            "model": model,
            "added_tokens": added,
            "post_processor": _renumbered(self._record.get("post_processor"), new),
            "padding": padding and {**padding, "pad_id": new[padding["pad_id"]]},
        }

    def _merges(self) -> Iterator[tuple[str, str]]:
        for merge in self._model["merges"]:
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            yield left, right


def _by_id(vocabulary: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    return ((number, piece) for piece, number in vocabulary.items())


def _bare(piece: str) -> str:
    """A piece without the mark of a word's begin or middle."""
    for mark in _MARKS:
        if piece.startswith(mark):
            return piece[len(mark) :]
    return piece.removesuffix("</w>")


def _renumbered(node: Any, new: Mapping[int, int]) -> Any:
    """A post-processor with the new numbers of its special tokens."""
    if not isinstance(node, dict):
        return node
    found = dict(node)
    if isinstance(node.get("special_tokens"), dict):
        tokens = node["special_tokens"].items()
        found["special_tokens"] = {name: {**one, "ids": [new[old] for old in one["ids"]]} for name, one in tokens}
    for side in ("sep", "cls"):
        if isinstance(node.get(side), list):
            found[side] = [node[side][0], new[node[side][1]]]
    if isinstance(node.get("processors"), list):
        found["processors"] = [_renumbered(one, new) for one in node["processors"]]
    return found


def _texts(source: Path, name: str, corpus: Sequence[str]) -> Iterator[str]:
    """The prompts of the model, then the corpus."""
    known = registry.describe(name)
    prompts = (read_json(source / "config_sentence_transformers.json") or {}).get("prompts") or {}
    yield from (prompt for prompt in (*prompts.values(), *(known.prompts.values() if known else ())) if prompt)
    for spec in corpus:
        yield from (passage.input for passage in read_corpus(spec))
        if any((Path(spec) / name).is_file() for name in ("queries.jsonl", "queries.jsonl.gz")):
            yield from (question.text for question in read_questions(spec))


def _blocks(texts: Iterator[str]) -> Iterator[list[str]]:
    while block := list(islice(texts, _TEXTS_AT_ONCE)):
        yield block


def _plain(tokenizer: Any) -> Any:
    """A tokenizer that neither cuts nor pads."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _encoded(tokenizer: Any, block: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(block, add_special_tokens=True)]


def _missing(
    original: Any, vocabulary: Vocabulary, kept: set[int], texts: Iterator[str], total: int, progress: Progress | None
) -> set[int]:
    """Pieces of the texts that are tokenised otherwise without them."""
    from tokenizers import Tokenizer

    ids = sorted(kept)
    pruned = _plain(Tokenizer.from_str(json.dumps(vocabulary.record(ids))))
    found: set[int] = set()
    done = 0
    for block in _blocks(texts):
        for text, old, new in zip(block, _encoded(original, block), _encoded(pruned, block), strict=True):
            if [ids[number] for number in new] != old:
                found |= vocabulary.made_of(text)
        done += len(block)
        if progress:
            progress("verifying", done, total)
    if found and found <= kept:
        raise TrainingError("its tokens depend on more than the pieces of a text", where=vocabulary.where)
    return found


def _write_weights(source: Path, made: Path, ids: Sequence[int], *, half: bool) -> tuple[int, int]:
    """Weights with the rows of these pieces; their bytes before and after."""
    import torch
    from safetensors.torch import load_file, save

    rows = (read_json(source / "config.json") or {})["vocab_size"]
    chosen, before, after = torch.tensor(ids), 0, 0
    for path in sorted(source.glob("*.safetensors")):
        tensors = load_file(path)
        for name, tensor in tensors.items():
            if _TABLES.search(name) and tensor.shape[0] == rows:
                tensors[name] = tensor[chosen]
            if half and tensor.is_floating_point():
                tensors[name] = tensors[name].half()
        content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"format": "pt"})
        write(made / path.name, [content])
        before, after = before + path.stat().st_size, after + len(content)
    return before, after


def _write_rest(source: Path, made: Path, vocabulary: Vocabulary, ids: Sequence[int], *, half: bool) -> None:
    """Tokenizer and configuration with the new numbers, and every other file of the model as it is."""
    new = {old: place for place, old in enumerate(ids)}
    config = read_json(source / "config.json") or {}
    config |= {key: _token_id(value, new) for key, value in config.items() if key.endswith("_token_id")}
    config["vocab_size"] = len(ids)
    if half:
        config |= {key: "float16" for key in ("dtype", "torch_dtype") if key in config}
    rewritten = {"config.json": config, "tokenizer.json": vocabulary.record(ids)}
    tokenizer = read_json(source / "tokenizer_config.json")
    if tokenizer is not None:
        decoder = tokenizer.get("added_tokens_decoder")
        if isinstance(decoder, dict):
            tokenizer["added_tokens_decoder"] = {str(new[int(old)]): token for old, token in decoder.items()}
        rewritten["tokenizer_config.json"] = tokenizer
    for name, content in rewritten.items():
        write(made / name, [json.dumps(content, ensure_ascii=False, indent=1).encode()])
    weights = {path.name for path in source.glob("*.safetensors")}  # but not those of a module in a folder of its own
    for name in registry.model_files(source):
        if name not in {*rewritten, *weights} and not any(fnmatch(name, pattern) for pattern in _OF_THE_OLD):
            write(made / name, [(source / name).read_bytes()])


def _token_id(value: Any, new: Mapping[int, int]) -> Any:
    if isinstance(value, list):
        return [new.get(one) for one in value]
    return new.get(value) if isinstance(value, int) else value
