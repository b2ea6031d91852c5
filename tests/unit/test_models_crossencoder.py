import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from engine.errors import InvalidOption, ModelDamaged, ModelUnsupported
from engine.models import CrossEncoder
from engine.models.crossencoder import sigmoid

WORDS = {word: at for at, word in enumerate(["<s>", "</s>", "<unk>", "a", "b", "c", "d"])}


class SumRuntime:
    """The logit of a sequence is the sum of its ids, so that a test can count on its fingers."""

    architecture = SimpleNamespace(vocabulary=len(WORDS), types=2, max_length=12, labels=1)
    device, precision, preferred_batch_tokens, in_flight, most_tokens = "cpu", "fp32", 1000, 2, None

    def __init__(self):
        self.batches = []

    def submit(self, batch):
        self.batches.append(batch)
        return np.add.reduceat(batch.tokens, batch.starts[:-1]).astype(np.float32)[:, None]

    def collect(self, values):
        return values

    def drop(self, _handle):
        pass

    def out_of_memory(self, _error):
        return False


@pytest.fixture
def runtime(monkeypatch):
    made = SumRuntime()
    opened = SimpleNamespace(
        architecture=made.architecture,
        device=made.device,
        precisions=lambda _asked: ("fp32", None),
        runtime=lambda _precision: made,
    )
    monkeypatch.setattr("engine.models.model.Model", lambda *_, **__: opened)
    return made


@pytest.fixture
def folder(tmp_path):
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "model.safetensors").touch()
    configure(tmp_path)
    return tmp_path


def configure(folder: Path, **config) -> Path:
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "LABEL_0"}, **config}))
    return folder


def test_pairs_are_scored_in_order(folder, runtime):
    model = CrossEncoder(folder)
    assert model.score("a", ["b", "d d d", "", "c"], activation="none").tolist() == [9, 23, 5, 10]
    assert model.score_pairs([("a", "b"), ("d", "b"), ("a", "b")], activation="none").tolist() == [9, 12, 9]


@pytest.mark.parametrize("pair", ["ab", ("a",), ("a", "b", "c"), ("a", None), (3, "b")])
def test_what_is_no_pair_of_texts_is_refused(folder, runtime, pair):
    with pytest.raises(InvalidOption, match=r"in row [01], is no (question with a passage|text)"):
        CrossEncoder(folder).score_pairs([("a", "b"), pair])


def test_unknown_activation_is_refused(folder, runtime):
    with pytest.raises(InvalidOption, match="activation: 'softmax' is not one of sigmoid, none"):
        CrossEncoder(folder).score("a", ["b"], activation="softmax")


@pytest.mark.parametrize("ask", ["score", "rank"])
def test_one_text_is_not_a_list_of_its_letters(folder, runtime, ask):
    with pytest.raises(InvalidOption, match="one passage, not several"):
        getattr(CrossEncoder(folder), ask)("une question", "un passage")


def test_no_passages_give_no_scores(folder, runtime):
    model = CrossEncoder(folder)
    assert model.score("a", []).shape == (0,)
    scores = model.score_tokens([], model.tokenize_passages([]), np.empty((0, 2), np.int32))
    assert scores.logits.shape == scores.truncated.shape == (0,)
    assert runtime.batches == []


def test_many_questions_share_a_batch(folder, runtime):
    CrossEncoder(folder).score_pairs([(question, passage) for question in "abcd" for passage in "abcd"])
    assert [len(batch) for batch in runtime.batches] == [16]


def test_the_budget_of_tokens_is_kept(folder, runtime):
    CrossEncoder(folder, batch_tokens=10).score_pairs([("a", "b")] * 5)
    assert [len(batch.tokens) for batch in runtime.batches] == [10, 10, 5]


def test_blocks_of_pairs_join_up(folder, runtime, monkeypatch):
    monkeypatch.setattr("engine.models.crossencoder._PAIRS_AT_ONCE", 3)
    pairs = [("a", "b" if at % 2 else "c") for at in range(10)]
    assert CrossEncoder(folder).score_pairs(pairs, activation="none").tolist() == [10, 9] * 5


def test_a_sigmoid_is_applied_in_single_precision_without_overflow():
    scores = sigmoid(np.array([-1000, -2, 0, 2, 1000], np.float32))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [0, 0.11920292, 0.5, 0.880797, 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "own", "activation"),
    [
        ({}, None, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, None, "none"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, None, "none"),
        ({}, {"activation_fn": "torch.nn.modules.linear.Identity"}, "none"),
        (
            {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
            {"activation_fn": "torch.nn.modules.activation.Sigmoid"},
            "sigmoid",
        ),
    ],
)
def test_the_default_activation_is_the_folders(folder, runtime, config, own, activation):
    configure(folder, **config)
    if own is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(own))
    model = CrossEncoder(folder)
    assert model.default_activation == activation
    expected = model.score("a", ["b"], activation=activation)
    assert model.score("a", ["b"]).tolist() == expected.tolist()


def test_an_unknown_activation_is_unsupported(folder, runtime):
    configure(folder, sentence_transformers={"activation_fn": "torch.nn.Tanh"})
    with pytest.raises(ModelUnsupported, match=r"torch\.nn\.Tanh is neither"):
        CrossEncoder(folder)


@pytest.mark.parametrize(
    ("told", "weights"),
    [
        (None, [None, None, None]),
        (2, [2.0, 2.0, 2.0]),
        ({"bm25": 1, "hybrid": 2.5}, [1.0, 2.5, 1.0]),
        ({"hybrid": 2.5}, [2.5, 2.5, 2.5]),
    ],
)
def test_the_weight_of_the_first_stage_is_read(folder, runtime, told, weights):
    model = CrossEncoder(configure(folder, **({} if told is None else {"fouille": {"interpolate": told}})))
    assert [model.recommended_interpolate(stage) for stage in ("bm25", "hybrid", None)] == weights


@pytest.mark.parametrize("weight", [-1, "2", True, float("inf"), {}, {"bm25": -1}, {"terrier": 1}, {"bm25": True}])
def test_a_weight_that_is_none_is_named(folder, runtime, weight):
    with pytest.raises(ModelDamaged, match=r"config\.json: fouille\.interpolate is"):
        CrossEncoder(configure(folder, fouille={"interpolate": weight}))


@pytest.mark.parametrize(("config", "count"), [({}, None), ({"fouille": {"candidates": 40}}, 40)])
def test_how_many_candidates_a_model_recommends_is_read(folder, runtime, config, count):
    assert CrossEncoder(configure(folder, **config)).default_candidates == count


@pytest.mark.parametrize("count", [0, "40", True, 2.5])
def test_a_count_of_candidates_that_is_none_is_named(folder, runtime, count):
    with pytest.raises(ModelDamaged, match=r"config\.json: fouille\.candidates is"):
        CrossEncoder(configure(folder, fouille={"candidates": count}))


def test_several_labels_are_unsupported(folder, runtime):
    with pytest.raises(ModelUnsupported, match="gives 3 labels"):
        CrossEncoder(configure(folder, id2label={"0": "a", "1": "b", "2": "c"}))


def test_an_empty_budget_is_refused(folder, runtime):
    with pytest.raises(InvalidOption, match="batch_tokens: "):
        CrossEncoder(folder, batch_tokens=0)


def test_a_passage_longer_than_the_model_reads_is_cut_and_told(folder, runtime):
    model = CrossEncoder(folder)
    passages = model.tokenize_passages(["b " * 20, "b"])
    scores = model.score_tokens(["a"], passages, np.array([[0, 0], [0, 1]]))
    assert scores.logits.tolist() == [0 + 3 + 1 + 8 * 4 + 1, 9]
    assert scores.truncated.tolist() == [True, False]


def test_the_best_window_counts(folder, runtime):
    model = CrossEncoder(folder)
    passages = model.tokenize_passages(["b " * 10 + "d " * 8, "b"])
    scores = model.score_tokens(["a"], passages, np.array([[0, 1], [0, 0]]), long_passages="maxp")
    assert scores.logits.tolist() == [9, 0 + 3 + 1 + 8 * 6 + 1]
    assert not scores.truncated.any()


def test_a_change_of_configuration_changes_the_models_hash_and_not_the_tokenizers(folder, runtime):
    model = CrossEncoder(folder)
    tokens, whole = model.tokenizer_hash, model.hash
    configure(folder, fouille={"interpolate": 1})
    assert CrossEncoder(folder).tokenizer_hash == tokens
    assert CrossEncoder(folder).hash != whole


def test_public_names_load_on_first_use():
    import engine.models

    assert {"BiEncoder", "CrossEncoder"} == set(dir(engine.models))
    with pytest.raises(AttributeError, match="no attribute 'Encoder'"):
        engine.models.Encoder  # noqa: B018


def test_a_length_without_room_for_two_texts_is_refused(folder, runtime):
    with pytest.raises(InvalidOption, match=r"4 tokens leaves no room beside 3 special ones .*give 5 or more"):
        CrossEncoder(folder, max_length=4)
    assert CrossEncoder(folder, max_length=5).score("a", ["b b"], activation="none").tolist() == [9]


def test_a_tokenizer_with_more_tokens_than_the_model_is_damage(folder, runtime, monkeypatch):
    monkeypatch.setattr(runtime.architecture, "vocabulary", len(WORDS) - 1)
    with pytest.raises(ModelDamaged):
        CrossEncoder(folder)


@pytest.mark.parametrize("passage", ["d " * 8 + "b " * 10, "b " * 10 + "d " * 8])
def test_the_best_window_counts_wherever_it_stands(folder, runtime, passage):
    model = CrossEncoder(folder)
    scores = model.score_tokens(["a"], model.tokenize_passages([passage]), np.array([[0, 0]]), long_passages="maxp")
    assert scores.logits.tolist() == [0 + 3 + 1 + 8 * 6 + 1]


@pytest.mark.parametrize("long_passages", ["truncate", "maxp"])
def test_what_was_cut_when_it_was_stored_is_told(folder, runtime, monkeypatch, long_passages):
    for module in ("pairs", "tokenization"):
        monkeypatch.setattr(f"engine.models.{module}.LONGEST_KEPT", 6)
    model = CrossEncoder(folder)
    passages = model.tokenize_passages(["b " * 7, "b " * 5])
    scores = model.score_tokens(["a"], passages, np.array([[0, 0], [0, 1]]), long_passages=long_passages)
    assert scores.truncated.tolist() == [True, False]
