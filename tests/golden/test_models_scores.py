"""Scores and vectors held against sentence-transformers, on tiny random models of every family and on real weights."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InvalidOption, ModelDamaged
from engine.models import BiEncoder, CrossEncoder

TOLERANCE = 1e-4  # logits, fp32, absolute
SHARED = Path(__file__).parents[2].parent / "shared" / "models"
FAMILIES = ("bert", "electra", "xlm-roberta", "roberta", "camembert", "bert with XLM-R tokenizer")
LIMIT = 48
TEXT = """Le soleil se lève à l'est et se couche à l'ouest. Pour figer la première ligne d'une feuille de calcul,
ouvrez le menu Affichage. La loi du 6 juillet 1989 régit les baux d'habitation ; le préavis est de trois mois, d'un seul
en zone tendue. Faites revenir l'oignon émincé dans le beurre, puis mouillez d'un verre de vin blanc. Le traité de
Verdun, signé en 843, partage l'empire entre ses trois petits-fils. L'œuf, le cœur, la sœur : où l'e se lie à l'o."""
QUESTIONS = ("préavis", "comment figer la première ligne d'une feuille de calcul ?", " ".join(TEXT.split()))
PASSAGES = (
    "",
    "?",
    "Un mot.",
    "La loi du 6 juillet 1989 régit les baux d'habitation.",
    TEXT,
    TEXT * 3,
    *(" ".join(TEXT.split()[:count]) for count in range(4, 40, 3)),
)


pytestmark = pytest.mark.usefixtures("engine")


@dataclass(frozen=True)
class Tiny:
    cross: Path
    bi: Path


def unigram_pieces() -> list[tuple[str, float]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.train_from_iterator(TEXT.splitlines() * 3, trainers.UnigramTrainer(vocab_size=150, show_progress=False))
    return [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]


def wordpiece():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import BertTokenizer

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(TEXT.lower().splitlines() * 3, trainer)
    return BertTokenizer(vocab=tokenizer.get_vocab(), model_max_length=LIMIT)


def byte_level():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import RobertaTokenizer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=350,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines() * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return RobertaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=LIMIT)


def sentencepiece(kind: str):
    from transformers import CamembertTokenizer, XLMRobertaTokenizer

    pieces = [piece for piece in unigram_pieces() if not piece[0].startswith("<")]
    if kind == "camembert":
        specials = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
        vocabulary = [*((token, 0.0) for token in specials), *pieces, ("<mask>", 0.0)]
        return CamembertTokenizer(vocab=vocabulary, model_max_length=LIMIT)
    vocabulary = [*((token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")), *pieces, ("<mask>", 0.0)]
    return XLMRobertaTokenizer(vocab=vocabulary, model_max_length=LIMIT)


def make_tiny(family: str, folder: Path) -> Tiny:
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    kind = family.split()[0]
    if family in {"bert", "electra"}:
        tokenizer = wordpiece()
    else:
        tokenizer = byte_level() if kind == "roberta" else sentencepiece(kind)
    shape = {
        "vocab_size": len(tokenizer) + 3,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": LIMIT + 2,
        "type_vocab_size": 2 if kind in {"bert", "electra"} else 1,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.5,  # wide, or every score is alike
        "num_labels": 1,
    }
    if kind == "electra":
        shape["embedding_size"] = 16
    torch.manual_seed(7)
    for name, automatic in (("cross", AutoModelForSequenceClassification), ("bi", AutoModel)):
        model = automatic.from_config(AutoConfig.for_model(kind, **shape)).eval()
        for parameter in model.parameters():
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    write_sentence_modules(folder / "bi", pooling="mean" if kind == "bert" else "cls")
    return Tiny(folder / "cross", folder / "bi")


def write_sentence_modules(folder: Path, pooling: str) -> None:
    names = ("Transformer", "Pooling", "Normalize")
    places = ("", "1_Pooling", "2_Normalize")
    modules = [
        {"idx": at, "name": str(at), "path": place, "type": f"sentence_transformers.models.{name}"}
        for at, (name, place) in enumerate(zip(names, places, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "2_Normalize").mkdir()
    content = {"embedding_dimension": 32, "pooling_mode": pooling, "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(content))
    prompts = {"prompts": {"query": "question : ", "passage": "passage : "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    made: dict[str, Tiny] = {}

    def get(family: str) -> Tiny:
        if family not in made:
            made[family] = make_tiny(family, tmp_path_factory.mktemp(family.replace(" ", "-")))
        return made[family]

    return get


def reference_logits(folder: Path, pairs, **options) -> np.ndarray:
    import torch
    from sentence_transformers import CrossEncoder as Reference

    model = Reference(str(folder), device="cpu", model_kwargs={"dtype": torch.float32}, **options)
    return model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)


def every_pair() -> list[tuple[str, str]]:
    return [(question, passage) for question in QUESTIONS for passage in PASSAGES]


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_sentence_transformers(zoo, family):
    folder = zoo(family).cross
    expected = reference_logits(folder, every_pair())
    found = CrossEncoder(folder, "cpu", "fp32").score_pairs(every_pair(), activation="none")
    assert np.ptp(expected) > 100 * TOLERANCE  # the scores differ enough to tell a mistake
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_equal_sentence_transformers(zoo, family):
    import torch
    from sentence_transformers import SentenceTransformer

    folder = zoo(family).bi
    reference = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    model = BiEncoder(folder, "cpu", "fp32", batch_tokens=100)
    for prompt, found in (
        ("question : ", model.encode_queries(PASSAGES)),
        ("passage : ", model.encode_passages(PASSAGES)),
    ):
        expected = reference.encode(list(PASSAGES), prompt=prompt, normalize_embeddings=True, show_progress_bar=False)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_assembled_ids_and_types_equal_transformers(zoo, family):
    from transformers import AutoTokenizer

    from engine.models.pairs import pair_sequences
    from engine.models.tokenization import TextTokenizer

    folder = zoo(family).cross
    questions, passages = zip(*every_pair(), strict=True)
    reference = AutoTokenizer.from_pretrained(folder)
    tokenizer = TextTokenizer(folder)
    rows = np.column_stack([np.arange(len(questions))] * 2)
    for limit in (7, 12, 31, LIMIT):
        expected = reference(list(questions), list(passages), truncation="longest_first", max_length=limit)
        sequences, _, _ = pair_sequences(
            tokenizer.pair_template(), tokenizer.tokenize(questions), tokenizer.tokenize(passages), rows, limit
        )
        batch = sequences.pack(np.arange(len(rows)))
        assert batch.tokens.tolist() == [token for ids in expected["input_ids"] for token in ids]
        types = [kind for kinds in expected.get("token_type_ids", []) for kind in kinds]
        assert any(types) == (batch.types is not None)
        if batch.types is not None:
            assert batch.types.tolist() == types


def test_scores_do_not_depend_on_the_batch(zoo):
    folder = zoo("xlm-roberta").cross
    wide = CrossEncoder(folder, "cpu", "fp32").score_pairs(every_pair(), activation="none")
    narrow = CrossEncoder(folder, "cpu", "fp32", batch_tokens=1).score_pairs(every_pair(), activation="none")
    np.testing.assert_allclose(wide, narrow, rtol=0, atol=1e-5)


def test_a_prompt_of_a_cross_encoder_is_left_to_sentence_transformers(zoo, tmp_path):
    from sentence_transformers import CrossEncoder as Reference

    prompted = Reference(str(zoo("bert").cross), prompts={"q": "question "}, default_prompt_name="q", device="cpu")
    prompted.save_pretrained(str(tmp_path))
    model = CrossEncoder(tmp_path, "cpu", "fp32")
    assert "puts a prompt in front" in model.notices[0]
    pairs = [(QUESTIONS[0], passage) for passage in PASSAGES]
    expected = Reference(str(tmp_path), device="cpu").predict(pairs, show_progress_bar=False)
    np.testing.assert_allclose(model.score(QUESTIONS[0], PASSAGES), expected, atol=1e-4)


def test_lower_limit_equals_that_of_sentence_transformers(zoo):
    folder = zoo("camembert").cross
    expected = reference_logits(folder, every_pair(), max_length=20)
    model = CrossEncoder(folder, "cpu", "fp32", max_length=20)
    assert model.max_length == 20
    np.testing.assert_allclose(model.score_pairs(every_pair(), activation="none"), expected, rtol=0, atol=TOLERANCE)


def test_limit_without_room_for_text_is_refused(zoo):
    with pytest.raises(InvalidOption, match="no room beside 4 special"):
        CrossEncoder(zoo("roberta").cross, "cpu", "fp32", max_length=4)


def test_sigmoid_is_the_default(zoo):
    import torch
    from sentence_transformers import CrossEncoder as Reference

    folder = zoo("bert").cross
    expected = Reference(str(folder), device="cpu").predict(every_pair(), show_progress_bar=False)
    np.testing.assert_allclose(CrossEncoder(folder, "cpu", "fp32").score_pairs(every_pair()), expected, atol=TOLERANCE)
    assert isinstance(Reference(str(folder), device="cpu").activation_fn, torch.nn.Sigmoid)


def test_stored_tokens_score_as_strings_do(zoo):
    model = CrossEncoder(zoo("electra").cross, "cpu", "fp32")
    passages = model.tokenize_passages(PASSAGES)
    rows = np.array([(question, passage) for question in range(len(QUESTIONS)) for passage in range(len(PASSAGES))])
    scores = model.score_tokens(QUESTIONS, passages, rows.astype(np.int32))
    np.testing.assert_array_equal(scores.logits, model.score_pairs(every_pair(), activation="none"))


def test_truncated_passages_are_told(zoo):
    from transformers import AutoTokenizer

    folder = zoo("bert").cross
    model = CrossEncoder(folder, "cpu", "fp32")
    rows = np.array([(question, passage) for question in range(len(QUESTIONS)) for passage in range(len(PASSAGES))])
    questions, passages = zip(*every_pair(), strict=True)
    reference = AutoTokenizer.from_pretrained(folder)
    read = reference(list(questions), list(passages), truncation="longest_first", max_length=LIMIT)
    kept = [read.sequence_ids(at).count(1) for at in range(len(rows))]
    whole = [len(ids) for ids in reference(list(passages), add_special_tokens=False)["input_ids"]]
    found = model.score_tokens(QUESTIONS, model.tokenize_passages(PASSAGES), rows).truncated
    assert found.tolist() == [few < all_of_it for few, all_of_it in zip(kept, whole, strict=True)]
    assert found.any()


def test_scoring_imports_neither_transformers_nor_the_hub_and_one_engine(zoo):
    code = """
import sys
from engine.models import CrossEncoder, model
model.onnx_is_as_fast = lambda *_: sys.argv[2] == "onnxruntime"
CrossEncoder(sys.argv[1], "cpu", "fp32").score("a", ["b"])
print(*{"torch", "onnxruntime", "transformers", "sentence_transformers", "huggingface_hub"} & set(sys.modules))
"""
    for engine in ("torch", "onnxruntime"):
        command = [sys.executable, "-c", code, str(zoo("bert").cross), engine]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == engine


def test_tokenizer_of_another_model_is_damage(zoo, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(zoo("bert").cross, folder)
    shutil.copy(zoo("roberta").cross / "tokenizer.json", folder)
    with pytest.raises(ModelDamaged, match=r"tokenizer\.json: gives ids up to"):
        CrossEncoder(folder, "cpu", "fp32")


@pytest.mark.skipif(not (SHARED / "xenc-fr-l12").is_dir(), reason="no real weights at ../shared/models")
def test_real_cross_encoder_equals_sentence_transformers():
    folder = SHARED / "xenc-fr-l12"
    pairs = [(QUESTIONS[1], passage) for passage in PASSAGES] + [(QUESTIONS[0], TEXT * 9)]
    expected = reference_logits(folder, pairs)
    found = CrossEncoder(folder, "cpu", "fp32").score_pairs(pairs, activation="none")
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.skipif(not (SHARED / "me5-small-fr").is_dir(), reason="no real weights at ../shared/models")
def test_real_bi_encoder_equals_sentence_transformers():
    import torch
    from sentence_transformers import SentenceTransformer

    folder = SHARED / "me5-small-fr"
    reference = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    expected = reference.encode(list(PASSAGES), prompt="passage: ", normalize_embeddings=True, show_progress_bar=False)
    found = BiEncoder(folder, "cpu", "fp32").encode_passages(PASSAGES)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
