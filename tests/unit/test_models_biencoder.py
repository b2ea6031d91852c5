import json
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from engine.errors import InvalidOption
from engine.models import BiEncoder
from engine.models.biencoder import Prompts

WORDS = {word: at for at, word in enumerate(["<s>", "</s>", "<unk>", "a", "b", "q", "p"])}


class FirstTokens:
    """The vector of a text is (its first token, its length), not normalised."""

    architecture = SimpleNamespace(vocabulary=len(WORDS), types=2, max_length=12, hidden=2)
    device, precision, preferred_batch_tokens, in_flight, most_tokens = "cpu", "fp32", 20, 2, None

    def submit(self, batch):
        return np.column_stack([batch.tokens[batch.starts[:-1] + 1], np.diff(batch.starts)]).astype(np.float32)

    def collect(self, values):
        return values

    def drop(self, _handle):
        pass

    def out_of_memory(self, _error):
        return False


@pytest.fixture(autouse=True)
def _runtime(monkeypatch):
    made = FirstTokens()
    opened = SimpleNamespace(
        architecture=made.architecture, device="cpu", fastest=lambda _asked: "fp32", runtime=lambda _precision: made
    )
    monkeypatch.setattr("engine.models.model.Model", lambda *_, **__: opened)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "modele"
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_text("{}")
    return folder


def set_prompts(folder, **prompts):
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    return folder


@pytest.mark.parametrize("encode", ["encode_queries", "encode_passages"])
def test_one_text_is_not_a_list_of_its_letters(folder, encode):
    with pytest.raises(InvalidOption, match="one text, not several"):
        getattr(BiEncoder(folder), encode)("une question")
    with pytest.raises(InvalidOption, match="texts: None, in row 1, is no text"):
        getattr(BiEncoder(folder), encode)(["a", None])


def test_vectors_have_length_one_and_keep_their_order(folder):
    vectors = BiEncoder(folder).encode_passages(["a", "b b b b", "", "b"] * 4)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(vectors[4:8, 0] / vectors[4:8, 1], [3 / 3, 4 / 6, 1 / 2, 4 / 3], rtol=1e-6)


def test_prompts_stand_in_front(folder):
    model = BiEncoder(set_prompts(folder, query="q ", passage="p "))
    first = [vector[0] / vector[1] for vector in (*model.encode_queries(["a"]), *model.encode_passages(["a"]))]
    np.testing.assert_allclose(first, [5 / 4, 6 / 4], rtol=1e-6)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ({"query": "q: ", "passage": "p: "}, Prompts("q: ", "p: ")),
        ({"query": "q: ", "document": "", "passage": "p: "}, Prompts("q: ", "p: ")),
        ({"query": "q: ", "document": "d: "}, Prompts("q: ", "d: ")),
        ({"query": "q: "}, Prompts("q: ", "")),
        ({"query": "", "document": ""}, Prompts("", "")),
    ],
)
def test_prompts_are_the_folders(folder, prompts, expected):
    assert BiEncoder(set_prompts(folder, **prompts)).prompts == expected


def test_prompts_of_a_known_model_are_used_where_the_folder_names_none(folder):
    known = folder.rename(folder.with_name("multilingual-e5-large"))
    assert BiEncoder(known).prompts == Prompts("query: ", "passage: ")


def test_progress_counts_every_passage_once(folder, monkeypatch):
    monkeypatch.setattr("engine.models.biencoder._CPU_WINDOW", 3)
    done: list[int] = []
    vectors = BiEncoder(folder).encode_passages(["a", "b"] * 5, done.append)
    assert sum(done) == 10
    np.testing.assert_array_equal(vectors[::2], np.repeat(vectors[:1], 5, axis=0))


def test_windows_come_back_under_their_labels(folder):
    done: list[int] = []
    model = BiEncoder(folder)
    texts = {"first": ["a", "b"], "second": ["b"], "third": ["a", "", "b b"]}
    found = dict(model.encode_windows(iter(texts.items()), done.append))
    assert list(found) == list(texts)
    for label, vectors in found.items():
        np.testing.assert_array_equal(vectors, model.encode_passages(texts[label]))
    assert sum(done) == 6


def test_no_texts_give_no_vectors(folder):
    assert BiEncoder(folder).encode_queries([]).shape == (0, 2)


def test_an_empty_budget_is_refused(folder):
    with pytest.raises(InvalidOption, match="batch_tokens: "):
        BiEncoder(folder, batch_tokens=0)
