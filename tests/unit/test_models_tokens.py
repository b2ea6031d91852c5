import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from engine.errors import ModelDamaged, ModelUnsupported
from engine.models import tokenization
from engine.models.tokenization import Template, TextTokenizer, length_limit

WORDS = ["<s>", "</s>", "<unk>", "a", "le", "chat", "mange"]


def write_tokenizer(folder: Path, words=WORDS, *, pair="<s> $A </s> $B </s>", extra: int = 0, **config) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: at for at, word in enumerate([*words, *(f"w{at}" for at in range(extra))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    specials = [("<s>", 0), ("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair=pair, special_tokens=specials)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def rows(ragged):
    return [row.tolist() for row in np.split(ragged.values, ragged.offsets[1:-1])]


def test_tokens_come_without_special_ones(tmp_path):
    ragged = TextTokenizer(write_tokenizer(tmp_path)).tokenize(["le chat", "", "mange"])
    assert rows(ragged) == [[4, 5], [], [6]]
    assert ragged.offsets.dtype == np.int64


def test_no_texts_give_no_rows(tmp_path):
    ragged = TextTokenizer(write_tokenizer(tmp_path)).tokenize([])
    assert ragged.offsets.tolist() == [0]
    assert len(ragged.values) == 0


def test_truncation_and_padding_of_the_file_are_ignored(tmp_path):
    folder = write_tokenizer(tmp_path)
    stored = Tokenizer.from_file(str(folder / "tokenizer.json"))
    stored.enable_truncation(3, strategy="only_second")
    stored.enable_padding()
    stored.save(str(folder / "tokenizer.json"))
    assert rows(TextTokenizer(folder).tokenize(["le chat le chat le", "a"])) == [[4, 5, 4, 5, 4], [3]]


def test_two_bytes_hold_a_small_vocabulary(tmp_path):
    small = TextTokenizer(write_tokenizer(tmp_path / "small"))
    large = TextTokenizer(write_tokenizer(tmp_path / "large", extra=65_530))
    assert small.tokenize(["le chat"]).values.dtype == np.uint16
    assert large.highest == 65_536
    assert large.tokenize(["le w65529"]).values.tolist() == [4, 65_536]
    assert large.tokenize(["le"]).values.dtype == np.uint32


def test_absurd_lengths_are_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenization, "LONGEST_KEPT", 5)
    assert rows(TextTokenizer(write_tokenizer(tmp_path)).tokenize(["le " * 9])) == [[4] * 5]


def test_many_blocks_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenization, "_TEXTS_AT_ONCE", 2)
    assert rows(TextTokenizer(write_tokenizer(tmp_path)).tokenize(["a", "le", "chat", "a a", "mange"])) == [
        [3],
        [4],
        [5],
        [3, 3],
        [6],
    ]


def test_half_a_surrogate_pair_is_read_as_a_question_mark(tmp_path):
    tokenizer = TextTokenizer(write_tokenizer(tmp_path))
    assert rows(tokenizer.tokenize(["le \ud800 chat"])) == rows(tokenizer.tokenize(["le ? chat"]))


def test_templates_are_read_off_the_post_processor(tmp_path):
    tokenizer = TextTokenizer(write_tokenizer(tmp_path, pair="<s>:0 $A:0 </s>:0 </s>:1 $B:1 </s>:1"))
    assert tokenizer.single == Template(((0,), (1,)), ((0,), (0,)), (0,))
    pair = tokenizer.pair_template()
    assert pair == Template(((0,), (1, 1), (1,)), ((0,), (0, 1), (1,)), (0, 1))
    assert (pair.specials, pair.has_types) == (4, True)


@pytest.mark.parametrize(
    ("config", "has_types"),
    [
        ({"tokenizer_class": "BertTokenizer"}, True),
        ({"tokenizer_class": "XLMRobertaTokenizerFast"}, False),
        ({"model_input_names": ["input_ids", "attention_mask"]}, False),
        ({"tokenizer_class": "CamembertTokenizer", "model_input_names": ["input_ids", "token_type_ids"]}, True),
    ],
)
def test_types_are_handed_over_as_the_tokenizers_class_says(tmp_path, config, has_types):
    folder = write_tokenizer(tmp_path, pair="<s>:0 $A:0 </s>:0 $B:1 </s>:1", **config)
    assert TextTokenizer(folder).pair_template().has_types is has_types


@pytest.mark.parametrize("pair", ["<s> $B </s> $A </s>", "$A $A </s> $B"])
def test_a_template_out_of_order_is_unsupported(tmp_path, pair):
    with pytest.raises(ModelUnsupported, match=r"tokenizer\.json: its template"):
        TextTokenizer(write_tokenizer(tmp_path, pair=pair)).pair_template()


def test_truncation_on_the_left_is_unsupported(tmp_path):
    with pytest.raises(ModelUnsupported, match=r"tokenizer_config\.json: truncates on the left"):
        TextTokenizer(write_tokenizer(tmp_path, truncation_side="left"))


def test_truncation_on_the_left_is_seen_in_the_tokenizer_itself(tmp_path):
    folder = write_tokenizer(tmp_path)
    file = folder / "tokenizer.json"
    stored = {"direction": "Left", "max_length": 20, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncation": stored}))
    with pytest.raises(ModelUnsupported, match=r"tokenizer\.json: truncates on the left"):
        TextTokenizer(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"truncation_side": "right"}))
    TextTokenizer(folder)


@pytest.mark.parametrize("charsmap", ["!!", "/" * 64])
def test_a_broken_file_is_named(tmp_path, charsmap):
    folder = write_tokenizer(tmp_path)
    file = folder / "tokenizer.json"
    normalizer = {"type": "Precompiled", "precompiled_charsmap": charsmap}  # makes the library panic
    for damaged in ("{", json.dumps(json.loads(file.read_text()) | {"normalizer": normalizer})):
        file.write_text(damaged)
        with pytest.raises(ModelDamaged, match=r"tokenizer\.json: cannot be read"):
            TextTokenizer(folder)


@pytest.mark.parametrize("limit", ["abc", [1], -5, float("inf"), float("nan")])
def test_a_length_that_is_none_names_its_file(tmp_path, limit):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": limit}))
    with pytest.raises(ModelDamaged, match=r"tokenizer_config\.json: .* is no length"):
        length_limit(tmp_path, 514)


def test_ids_past_the_embedding_table_are_damage_and_fewer_are_not(tmp_path):
    tokenizer = TextTokenizer(write_tokenizer(tmp_path))
    template = tokenizer.pair_template()
    tokenizer.check_fits(template, len(WORDS), 2)
    tokenizer.check_fits(template, len(WORDS) + 10, 2)
    with pytest.raises(ModelDamaged, match="ids up to 6, the model's embedding table has 6 rows"):
        tokenizer.check_fits(template, len(WORDS) - 1, 2)


def test_special_tokens_and_types_of_the_template_are_held_against_the_tables(tmp_path):
    tokenizer = TextTokenizer(write_tokenizer(tmp_path))
    tokenizer.check_fits(Template(((9,), (9,), ()), ((0,), (1,), ()), (0, 1)), 10, 2)
    with pytest.raises(ModelDamaged, match=r"tokenizer\.json: gives ids up to 9, .* has 9 rows"):
        tokenizer.check_fits(Template(((9,), (9,), ()), ((0,), (0,), ()), (0, 0)), 9, 2)
    typed = Template(((0,), (0,), ()), ((0,), (1,), ()), (0, 1))
    with pytest.raises(ModelDamaged, match=r"gives token types up to 1, .* has 1 rows"):
        tokenizer.check_fits(typed, len(WORDS), 1)
    tokenizer.check_fits(typed, len(WORDS), 0)  # DistilBERT reads no types


def test_gaps_in_the_ids_are_seen(tmp_path):
    folder = write_tokenizer(tmp_path)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["mange"] = 70_000
    (folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = TextTokenizer(folder)
    assert tokenizer.highest == 70_000
    assert tokenizer.tokenize(["mange"]).values.tolist() == [70_000]


def test_text_is_lowered_where_sentence_transformers_lowers_it(tmp_path):
    as_it_is = TextTokenizer(write_tokenizer(tmp_path))
    assert rows(as_it_is.tokenize(["LE Chat"])) == [[2, 2]]
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    assert rows(TextTokenizer(tmp_path).tokenize(["LE Chat"])) == [[2, 2]], "it reads that file beside modules.json"
    (tmp_path / "modules.json").write_text("[]")
    lowered = TextTokenizer(tmp_path)
    assert rows(lowered.tokenize(["LE Chat"])) == [[4, 5]]
    assert lowered.hash != as_it_is.hash


def test_the_hash_is_that_of_the_tokenizer(tmp_path):
    first = TextTokenizer(write_tokenizer(tmp_path / "a")).hash
    assert TextTokenizer(write_tokenizer(tmp_path / "b", model_max_length=7)).hash == first
    assert TextTokenizer(write_tokenizer(tmp_path / "c", extra=1)).hash != first


@pytest.mark.parametrize(
    ("sentence", "tokenizer", "asked", "limit"),
    [
        (None, None, None, 514),
        (None, 512, None, 512),
        (None, 10**30, None, 514),
        (256, 512, None, 256),
        (1000, 512, None, 514),
        (256, 512, 300, 256),
        (None, 512, 128, 128),
        (None, 0, None, 514),
        (None, 512, 0, 0),  # no length at all, which whoever cuts by it refuses
    ],
)
def test_the_limit_is_that_of_sentence_transformers(tmp_path, sentence, tokenizer, asked, limit):
    if sentence is not None:
        (tmp_path / "modules.json").write_text("[]")
        (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": sentence}))
    if tokenizer is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": tokenizer}))
    assert length_limit(tmp_path, 514, asked) == limit


def test_a_vocabulary_alone_is_converted_once(tmp_path, monkeypatch):
    import transformers

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "le", "chat", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert rows(TextTokenizer(tmp_path).tokenize(["le chats"])) == [[5, 6, 7]]
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: pytest.fail("converted again"))
    assert rows(TextTokenizer(tmp_path).tokenize(["le chats"])) == [[5, 6, 7]]


def test_a_folder_without_tokenizer_is_damage(tmp_path):
    folder = write_tokenizer(tmp_path / "m")
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(ModelDamaged, match="holds no tokenizer"):
        TextTokenizer(folder)
