"""Assembled pairs equal the tokenizer's own, for any two texts, any limit and every kind of post-processor."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from engine.models.pairs import longest_first, pair_sequences, single_sequences
from engine.models.tokenization import TextTokenizer

SHARED = Path(__file__).parents[2].parent / "shared" / "models" / "xenc-fr-l12"
WORDS = ["le", "la", "préavis", "cœur", "bail", "l'œuf", "1989", "?", ";", "</s>", "[SEP]", "<pad>"]
ALPHABET = "abcdefghijklmnopqrstuvwxyzéèàçœ'?.;0123456789"
texts = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))


def unigram() -> Tokenizer:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *ALPHABET, "le", "▁le", "▁la", "▁préa", "vis", "▁bail"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(at)) for at, piece in enumerate(pieces)], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def wordpiece() -> Tokenizer:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *ALPHABET, *(f"##{letter}" for letter in ALPHABET), "le", "bail"]
    tokenizer = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def byte_level() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *letters, "Ġl", "le"]
    merges = [("Ġ", "l"), ("l", "e")]
    tokenizer = Tokenizer(models.BPE({piece: at for at, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def bare() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


MADE = {maker.__name__: maker for maker in (unigram, wordpiece, byte_level, bare)}


@pytest.fixture(scope="module", params=[*MADE, "xenc-fr-l12"])
def both(request, tmp_path_factory):
    """The library's tokenizer and ours, of one folder."""
    if request.param == "xenc-fr-l12":
        if not SHARED.is_dir():
            pytest.skip("no real tokenizer at ../shared/models")
        folder, reference = SHARED, Tokenizer.from_file(str(SHARED / "tokenizer.json"))
        reference.no_padding()
    else:
        folder = tmp_path_factory.mktemp(request.param)
        reference = MADE[request.param]()
        reference.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return reference, TextTokenizer(folder)


@settings(max_examples=120, deadline=None)
@given(pairs=st.lists(st.tuples(texts, texts), min_size=1, max_size=6), room=st.integers(2, 40))
def test_ids_and_types_equal_the_tokenizers(both, pairs, room):
    reference, ours = both
    template = ours.pair_template()
    limit = room + template.specials
    reference.enable_truncation(limit, strategy="longest_first")
    expected = reference.encode_batch(pairs)
    questions, passages = ([pair[side] for pair in pairs] for side in (0, 1))
    rows = np.column_stack([np.arange(len(pairs))] * 2)
    sequences, _, _ = pair_sequences(template, ours.tokenize(questions), ours.tokenize(passages), rows, limit)
    batch = sequences.pack(np.arange(len(pairs)))
    assert batch.tokens.tolist() == [token for encoding in expected for token in encoding.ids]
    assert np.diff(batch.starts).tolist() == [len(encoding) for encoding in expected]
    if batch.types is not None:
        assert batch.types.tolist() == [kind for encoding in expected for kind in encoding.type_ids]


@settings(max_examples=60, deadline=None)
@given(several=st.lists(texts, min_size=1, max_size=6), room=st.integers(1, 40))
def test_ids_of_single_texts_equal_the_tokenizers(both, several, room):
    reference, ours = both
    limit = room + ours.single.specials
    reference.enable_truncation(limit)
    expected = reference.encode_batch(several)
    batch = single_sequences(ours.single, ours.tokenize(several), limit).pack(np.arange(len(several)))
    assert batch.tokens.tolist() == [token for encoding in expected for token in encoding.ids]


counts = st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), min_size=1, max_size=30)


@given(counts=counts, room=st.integers(2, 600))
def test_truncation_fills_the_room_and_invents_nothing(counts, room):
    first, second = np.array(counts, np.int64).T
    kept_first, kept_second = longest_first(first, second, room)
    assert ((kept_first >= 0) & (kept_first <= first) & (kept_second >= 0) & (kept_second <= second)).all()
    assert (kept_first + kept_second == np.minimum(first + second, room)).all()


@given(counts=counts, limit=st.integers(9, 80), seed=st.integers(0, 9))
def test_windows_cover_every_token_of_a_passage(both, counts, limit, seed):
    from engine.records import Ragged

    template = both[1].pair_template()
    generator = np.random.default_rng(seed)
    ragged = []
    for lengths in np.array(counts, np.int64).T:
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        ragged.append(Ragged(generator.integers(0, 9, offsets[-1]).astype(np.uint16), offsets))
    rows = np.column_stack([np.arange(len(counts))] * 2)
    sequences, owners, truncated = pair_sequences(template, *ragged, rows, limit, "maxp")
    assert (sequences.lengths <= limit).all()
    assert not truncated.any()
    for row, (_, length) in enumerate(counts):
        windows = np.flatnonzero(owners == row)
        read = np.zeros(length, bool)
        for window in windows:
            start = sequences.starts[window, 1] - ragged[1].offsets[row]
            read[start : start + sequences.counts[window, 1]] = True
        assert read.all()


def test_windows_stand_half_a_window_apart_and_the_last_ends_where_the_passage_ends(both):
    from engine.records import Ragged

    template = both[1].pair_template()
    question, passage = (Ragged(np.zeros(n, np.uint16), np.array([0, n])) for n in (2, 23))
    rows = np.zeros((1, 2), np.int64)
    sequences, owners, _ = pair_sequences(template, question, passage, rows, template.specials + 12, "maxp")
    assert sequences.counts.tolist() == [[2, 10]] * 4
    assert sequences.starts[:, 1].tolist() == [0, 5, 10, 13]
    assert owners.tolist() == [0] * 4
