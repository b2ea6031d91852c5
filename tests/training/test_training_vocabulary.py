"""A vocabulary cut to a corpus: the same tokens and vectors on its text, Unigram, WordPiece and BPE alike."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from engine.errors import StorageError, TrainingError
from engine.models import BiEncoder
from engine.training.vocabulary import Vocabulary, prune

CORPUS = ("Le chat dort.", "Les chevaux mangent l'herbe du pré !", "Où est la gare ? À Lyon : 3 km.", "œuf ☃ 漢字")
MORE = (
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "The quick brown fox jumps over the lazy dog, again and again.",
    *CORPUS,
)
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def trained_tokenizer(kind: str) -> Tokenizer:
    if kind == "Unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=150,
            special_tokens=SPECIALS,
            unk_token="<unk>",  # noqa: S106
            show_progress=False,
        )
    elif kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))  # noqa: S106
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=SPECIALS, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=360, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
        )
    tokenizer.train_from_iterator(MORE * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture(params=["Unigram", "WordPiece", "BPE"])
def multilingual(request: pytest.FixtureRequest, tiny: SimpleNamespace, tmp_path: Path) -> Path:
    """A random model with a tokenizer of several languages, and more rows than pieces."""
    from safetensors.numpy import load_file, save_file

    folder, tokenizer = tmp_path / "large", trained_tokenizer(request.param)
    folder.mkdir()
    rows = tokenizer.get_vocab_size() + 7
    config = json.loads((tiny.encoder / "config.json").read_text("utf-8"))
    config |= {"vocab_size": rows, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 128, "tokenizer_class": "BertTokenizer"}')
    tokenizer.save(str(folder / "tokenizer.json"))
    tensors = load_file(tiny.encoder / "model.safetensors")
    table = np.random.default_rng(1).normal(size=(rows, 32)).astype(np.float32)
    save_file({**tensors, "embeddings.word_embeddings.weight": table}, folder / "model.safetensors")
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.tsv"
    path.write_text("".join(f"{number}\t{text}\n" for number, text in enumerate(CORPUS)), "utf-8")
    return path


def test_tokens_and_vectors_on_the_corpus_stay_the_same(multilingual: Path, corpus: Path, tmp_path: Path) -> None:
    report = prune(str(multilingual), [str(corpus)], tmp_path / "small")
    before, after = (Tokenizer.from_file(str(path / "tokenizer.json")) for path in (multilingual, tmp_path / "small"))
    assert report.kept == after.get_vocab_size() < report.pieces == before.get_vocab_size()
    for text in CORPUS:
        assert after.encode(text).tokens == before.encode(text).tokens
    large, small = (
        BiEncoder(str(path), device="cpu", precision="fp32").encode_passages(list(CORPUS))
        for path in (multilingual, tmp_path / "small")
    )
    assert small == pytest.approx(large, abs=1e-6)


def test_configuration_follows_the_new_numbers(multilingual: Path, corpus: Path, tmp_path: Path) -> None:
    report = prune(str(multilingual), [str(corpus)], tmp_path / "small", half=True)
    config = json.loads((tmp_path / "small" / "config.json").read_text("utf-8"))
    assert (config["vocab_size"], config["pad_token_id"], config["eos_token_id"]) == (report.kept, 1, 2)
    after = Tokenizer.from_file(str(tmp_path / "small" / "tokenizer.json"))
    assert [after.token_to_id(name) for name in SPECIALS[:4]] == [0, 1, 2, 3]
    assert report.bytes_after < report.bytes_before / 1.9


def test_weights_of_other_modules_are_kept(multilingual: Path, corpus: Path, tmp_path: Path) -> None:
    dense = multilingual / "2_Dense"
    dense.mkdir()
    (dense / "config.json").write_text("{}", "utf-8")
    (dense / "model.safetensors").write_bytes((multilingual / "model.safetensors").read_bytes())
    prune(str(multilingual), [str(corpus)], tmp_path / "small")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "small" / "2_Dense" / name).read_bytes() == (dense / name).read_bytes()
    assert (tmp_path / "small" / "model.safetensors").stat().st_size < (dense / "model.safetensors").stat().st_size


def test_other_text_can_still_be_read(multilingual: Path, corpus: Path, tmp_path: Path) -> None:
    prune(str(multilingual), [str(corpus)], tmp_path / "small")
    before, after = (Tokenizer.from_file(str(path / "tokenizer.json")) for path in (multilingual, tmp_path / "small"))
    for text in MORE:
        letters = [one.encode(text).tokens.count("<unk>") for one in (before, after)]
        assert letters[1] <= letters[0]


def test_word_that_wordpiece_gives_up_on_stays_unknown(tmp_path: Path) -> None:
    """Without `ab`, which no text shows, `abc` would be read as `a` and `##b` and `##c`."""
    pieces = ["<pad>", "<unk>", "a", "##b", "##c", "abc", "ab", "##bc", "##cd"]
    model = models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="<unk>")  # noqa: S106
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    record = json.loads(tokenizer.to_str())
    vocabulary = Vocabulary(record, "here")
    kept = vocabulary.closed({*vocabulary.always()})
    assert {vocabulary.pieces[number] for number in kept} == {"<pad>", "<unk>", "a", "##b", "##c"}
    assert kept | vocabulary.made_of("abcd") == set(range(len(pieces)))


def test_tokenizer_of_another_kind_is_refused(multilingual: Path, corpus: Path, tmp_path: Path) -> None:
    record = json.loads((multilingual / "tokenizer.json").read_text("utf-8"))
    record["model"] = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    (multilingual / "tokenizer.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(TrainingError, match="a WordLevel tokenizer cannot be pruned"):
        prune(str(multilingual), [str(corpus)], tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_taken_folder_is_refused(multilingual: Path, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "mine.txt").touch()
    with pytest.raises(StorageError, match="choose another folder"):
        prune(str(multilingual), [str(corpus)], tmp_path / "small")
