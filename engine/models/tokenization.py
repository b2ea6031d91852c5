"""From text to token ids, with the `tokenizers` library alone, and the templates that special tokens stand in.

What `tokenizer.json` says of padding and of a length is ignored, as transformers does: the length limit comes from the
tokenizer's and the model's configuration.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import FouilleError, InvalidOption, ModelDamaged, ModelUnsupported, StorageError
from engine.models.architecture import read_json, sentence_settings
from engine.models.fingerprint import content_hash
from engine.ragged import offsets_of
from engine.records import Ragged
from engine.remembered import write_atomically
from engine.settings import cache_dir

__all__ = ["LONGEST_KEPT", "Template", "TextTokenizer", "check_texts", "length_limit"]

LONGEST_KEPT = 8192
"""Tokens kept of one text; no model of the family reads more."""

_TEXTS_AT_ONCE = 1024
_PROBES = ("a", "le", "1", ".", "the", "un", "?", "0", "é")
_WITHOUT_TYPES = ("XLMRoberta", "Roberta", "Camembert")
_CONFIG = "tokenizer_config.json"
_CONVERTED = ("sentencepiece.bpe.model", "spiece.model", "spm.model", "vocab.txt", "vocab.json", "merges.txt")


@dataclass(frozen=True, slots=True)
class Template:
    """Where special tokens stand: `gaps[0] text gaps[1]` for one text, `gaps[0] first gaps[1] second gaps[2]` for two.

    Attributes:
        gaps: token ids ahead of, between and after the texts.
        gap_types: their token type ids.
        text_types: the token type id of each text.
    """

    gaps: tuple[tuple[int, ...], ...]
    gap_types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]

    @property
    def specials(self) -> int:
        """How many special tokens it adds."""
        return sum(map(len, self.gaps))

    @property
    def has_types(self) -> bool:
        """Whether any token has a type other than 0."""
        return any(self.text_types) or any(map(any, self.gap_types))


class TextTokenizer:
    """A model's tokenizer: texts in, ids without special tokens out.

    Args:
        folder: the model's folder.

    Attributes:
        hash: of what decides the tokens of a text.
        highest: the highest id that it can give.
        single: the template of one text.

    Raises:
        ModelDamaged: the tokenizer cannot be read.
        ModelUnsupported: it truncates on the left, or its template is none that arrays can fill.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer, normalizers

        self._file = _tokenizer_file(folder)
        config = read_json(folder / _CONFIG) or {}
        with _sound(self._file):
            self._tokenizer = Tokenizer.from_file(str(self._file))
        stored = str((self._tokenizer.truncation or {}).get("direction", "right")).lower()
        if config.get("truncation_side", stored) != "right":
            named = "truncation_side" in config
            raise ModelUnsupported("truncates on the left", where=folder / _CONFIG if named else self._file)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._lowers = bool(sentence_settings(folder).get("do_lower_case"))
        if self._lowers:
            steps = [normalizers.Lowercase(), *filter(None, [self._tokenizer.normalizer])]
            self._tokenizer.normalizer = normalizers.Sequence(steps)
        self._with_types = _reads_types(config)
        self.highest = self._highest()
        with _sound(self._file):
            self.single = self._probe(pair=False)

    @property
    def hash(self) -> str:
        """Hash of what decides the tokens of a text; 32 hexadecimal digits."""
        return content_hash([self._file], f"longest={LONGEST_KEPT} lower={self._lowers}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest of uint16 and uint32 that holds every id."""
        return np.dtype(np.uint16 if self.highest <= np.iinfo(np.uint16).max else np.uint32)

    def pair_template(self) -> Template:
        """The template of a question and a passage.

        Raises:
            ModelUnsupported: the tokenizer does not place the first text before the second, once each.
        """
        with _sound(self._file):
            return self._probe(pair=True)

    def check_fits(self, template: Template, rows: int, types: int) -> None:
        """See that the embedding tables have a row for every id and every token type; they may have more.

        Args:
            template: that the texts will stand in.
            rows: of the table of tokens.
            types: rows of the table of token types, 0 where the model reads none.

        Raises:
            ModelDamaged: an id or a type reaches past its table.
        """
        highest = max([self.highest, *chain.from_iterable(template.gaps)])
        highest_type = max([*template.text_types, *chain.from_iterable(template.gap_types)], default=0)
        for what, given, table in (("ids", highest, rows), ("token types", highest_type, types)):
            if given >= table > 0:
                raise ModelDamaged(
                    f"gives {what} up to {given}, the model's embedding table has {table} rows",
                    where=self._file,
                    hint="the tokenizer is not this model's",
                )

    def tokenize(self, texts: Sequence[str]) -> Ragged:
        """Token ids of texts, without special tokens, at most `LONGEST_KEPT` of each.

        Returns:
            Ragged of uint16, or of uint32 where the vocabulary needs it; one row a text.
        """
        counts: list[int] = []
        parts = [np.empty(0, self.dtype)]
        for encoded in self._encode(texts):
            counts += map(len, encoded)
            parts.append(np.fromiter(chain.from_iterable(encoded), self.dtype, sum(map(len, encoded))))
        return Ragged(np.concatenate(parts), offsets_of(counts))

    def _highest(self) -> int:
        """The highest id; a Unigram model has no gaps, and a look through its 250,000 pieces slows a cold start."""
        if type(self._tokenizer.model).__name__ == "Unigram":
            return max([self._tokenizer.get_vocab_size() - 1, *self._tokenizer.get_added_tokens_decoder()])
        return max(self._tokenizer.get_vocab().values(), default=0)

    def _encode(self, texts: Sequence[str]) -> Iterator[list[list[int]]]:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            block = list(texts[start : start + _TEXTS_AT_ONCE])
            try:
                encodings = self._tokenizer.encode_batch_fast(block, add_special_tokens=False)
            except (TypeError, UnicodeEncodeError):  # half of a surrogate pair, as a terminal may hand over
                check_texts(block)
                whole = [text.encode("utf-8", "replace").decode() for text in block]
                encodings = self._tokenizer.encode_batch_fast(whole, add_special_tokens=False)
            yield [encoding.ids[:LONGEST_KEPT] for encoding in encodings]

    def _probe(self, *, pair: bool) -> Template:
        """Read the template off what the post-processor makes of texts whose ids are known."""
        first, second = self._probe_texts()
        inputs = (first, second) if pair else (first,)
        texts = [self._tokenizer.encode(text, add_special_tokens=False).ids for text in inputs]
        whole = self._tokenizer.encode(first, second if pair else None)
        types = whole.type_ids if self._with_types else [0] * len(whole.ids)
        gaps, gap_types, text_types = [], [], []
        at = 0
        for text in texts:
            start = _find(text, whole.ids, whole.special_tokens_mask, at)
            if start is None:
                raise ModelUnsupported("its template is not one text after the other", where=self._file)
            gaps.append(tuple(whole.ids[at:start]))
            gap_types.append(tuple(types[at:start]))
            text_types.append(types[start])
            at = start + len(text)
        gaps.append(tuple(whole.ids[at:]))
        gap_types.append(tuple(types[at:]))
        if not all(whole.special_tokens_mask[at:]):
            raise ModelUnsupported("its template repeats a text", where=self._file)
        return Template(tuple(gaps), tuple(gap_types), tuple(text_types))

    def _probe_texts(self) -> tuple[str, str]:
        """Two short texts that give different ids, and at least one each."""
        seen: dict[tuple[int, ...], str] = {}
        for text in _PROBES:
            ids = tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
            if ids:
                seen.setdefault(ids, text)
            if len(seen) == 2:
                first, second = seen.values()
                return first, second
        raise ModelDamaged("gives no tokens for plain text", where=self._file, hint="fetch the model again")


def length_limit(folder: Path, positions: int, asked: int | None = None) -> int:
    """Tokens of a sequence, special ones included, as sentence-transformers limits them.

    The first that is set of `sentence_bert_config.json`'s `max_seq_length` and `tokenizer_config.json`'s
    `model_max_length`, and never more than the model has positions for.

    Args:
        folder: the model's folder.
        positions: tokens that the model has positions for.
        asked: a lower limit that the user wants.

    Raises:
        ModelDamaged: what is set is no length.
    """
    where, own = folder / "sentence_bert_config.json", sentence_settings(folder).get("max_seq_length")
    if not own:
        where = folder / _CONFIG
        own = (read_json(where) or {}).get("model_max_length")
    # transformers writes 1e30 for "no limit".
    if own and (not isinstance(own, int | float) or not 1 <= own < float("inf")):
        raise ModelDamaged(f"{own!r} is no length of a sequence", where=where, hint="mend it")
    return min([positions, *(int(limit) for limit in (own or None, asked) if limit is not None)])


def check_texts(texts: Iterable[object]) -> None:
    """See that all are texts, as a column of a table with gaps is not.

    Raises:
        InvalidOption: one is not.
    """
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidOption(f"{text!r}, in row {row}, is no text", where="texts")


@contextmanager
def _sound(file: Path) -> Iterator[None]:
    """Turn whatever `tokenizers` raises on a damaged file, Rust's panics included, into `ModelDamaged`."""
    try:
        yield
    except (FouilleError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ModelDamaged(f"cannot be read: {error}", where=file, hint="fetch the model again") from error


def _find(text: list[int], whole: list[int], specials: list[int], at: int) -> int | None:
    """Where a text's ids begin, after special tokens only."""
    while at < len(whole) and specials[at]:
        at += 1
    return at if whole[at : at + len(text)] == text and not any(specials[at : at + len(text)]) else None


def _reads_types(config: dict[str, Any]) -> bool:
    """Whether the model is handed token types, as the tokenizer's class decides in transformers."""
    names = config.get("model_input_names")
    if isinstance(names, list):
        return "token_type_ids" in names
    return not str(config.get("tokenizer_class", "")).startswith(_WITHOUT_TYPES)


def _tokenizer_file(folder: Path) -> Path:
    """`tokenizer.json`, made once by transformers from a SentencePiece model or a vocabulary where it is missing."""
    file = folder / "tokenizer.json"
    if file.is_file():
        return file
    sources = [folder / name for name in _CONVERTED if (folder / name).is_file()]
    if not sources:
        raise ModelDamaged("holds no tokenizer (tokenizer.json)", where=folder, hint="fetch the model again")
    config = folder / _CONFIG
    key = content_hash([*sources, config] if config.is_file() else sources)
    converted = cache_dir() / "tokenizers" / key / "tokenizer.json"
    if not converted.is_file():
        from transformers import AutoTokenizer

        try:
            fast = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            serialized: str = fast.backend_tokenizer.to_str()
        except Exception as error:  # whatever the converter meets, the reader needs the file's name
            raise ModelUnsupported(f"cannot be converted: {error}", where=sources[0]) from error
        try:
            write_atomically(converted, serialized.encode())
        except OSError as error:
            hint = "give a folder that can be written in FOUILLE_CACHE_DIR"
            raise StorageError(error.strerror or str(error), where=converted.parent, hint=hint) from error
    return converted
