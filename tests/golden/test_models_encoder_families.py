"""The lean encoder against transformers, in fp32, on random models of every family."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from engine.models.batch import PackedBatch
from engine.models.model import Model

TOLERANCE = 1e-4
LENGTHS = (7, 3, 30, 30, 1, 62, 2, 17)

_SHAPE = {"vocab_size": 120, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
_SHAPE |= {"intermediate_size": 96, "max_position_embeddings": 64, "num_labels": 1, "initializer_range": 0.2}
_DISTIL = {"vocab_size": 120, "dim": 48, "n_layers": 3, "n_heads": 4, "hidden_dim": 96, "max_position_embeddings": 64}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _SHAPE | {"type_vocab_size": 2, "pad_token_id": 1}),
    "bert, tanh gelu, three labels": ("Bert", _SHAPE | {"hidden_act": "gelu_new", "num_labels": 3}),
    "roberta": ("Roberta", _SHAPE | {"type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", _SHAPE | {"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "camembert": ("Camembert", _SHAPE | {"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "electra, projected": ("Electra", _SHAPE | {"embedding_size": 24}),
    "electra, as wide": ("Electra", _SHAPE | {"embedding_size": 48}),
    "distilbert": ("DistilBert", _DISTIL | {"num_labels": 1, "initializer_range": 0.2}),
}


pytestmark = pytest.mark.usefixtures("engine")


def make_model(folder: Path, family: str, *, head: bool, dtype: torch.dtype = torch.float32) -> Any:
    """Save a random model of a family; returns it as transformers runs it."""
    prefix, shape = FAMILIES[family]
    torch.manual_seed(7)
    config = getattr(transformers, f"{prefix}Config")(**shape)
    model = getattr(transformers, f"{prefix}{'ForSequenceClassification' if head else 'Model'}")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name or "layer_norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.to(dtype).save_pretrained(folder)
    return model.float()


def random_batch(types: bool, lengths: tuple[int, ...] = LENGTHS) -> PackedBatch:
    generator = np.random.default_rng(3)
    starts = np.cumsum((0, *lengths)).astype(np.int32)
    tokens = generator.integers(2, 120, starts[-1]).astype(np.int32)
    kinds = generator.integers(0, 2, starts[-1]).astype(np.int32) if types else None
    return PackedBatch(tokens, kinds, starts, max(lengths))


def sequences(batch: PackedBatch) -> list[dict[str, torch.Tensor]]:
    """Each sequence alone, as transformers takes it: the reference sees no padding."""
    found = []
    for begin, end in zip(batch.starts[:-1], batch.starts[1:], strict=True):
        one = {"input_ids": torch.from_numpy(batch.tokens[begin:end].astype(np.int64))[None]}
        if batch.types is not None:
            one["token_type_ids"] = torch.from_numpy(batch.types[begin:end].astype(np.int64))[None]
        found.append(one)
    return found


def takes_types(family: str) -> bool:
    return family.startswith(("bert", "electra"))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    model = make_model(tmp_path, family, head=True)
    batch = random_batch(takes_types(family))
    with torch.no_grad():
        reference = torch.cat([model(**one).logits for one in sequences(batch)]).numpy()
    logits = Model(tmp_path, task="classify", device="cpu").runtime("fp32").run(batch)
    assert logits.dtype == np.float32
    assert logits.shape == reference.shape
    assert np.abs(reference).std() > 0.05, "the model tells sequences apart"
    np.testing.assert_allclose(logits, reference, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooled_states_are_those_of_transformers(family: str, pooling: str, tmp_path: Path) -> None:
    model = make_model(tmp_path, family, head=False)
    (tmp_path / "1_Pooling").mkdir()
    modes = f'{{"pooling_mode_mean_tokens": {str(pooling == "mean").lower()}, '
    modes += f'"pooling_mode_cls_token": {str(pooling == "cls").lower()}}}'
    (tmp_path / "1_Pooling" / "config.json").write_text(modes)
    (tmp_path / "modules.json").write_text('[{"type": "x.Pooling", "path": "1_Pooling"}]')
    batch = random_batch(takes_types(family))
    with torch.no_grad():
        states = [model(**one).last_hidden_state[0] for one in sequences(batch)]
    reference = torch.stack([x.mean(0) if pooling == "mean" else x[0] for x in states]).numpy()
    vectors = Model(tmp_path, task="embed", device="cpu").runtime("fp32").run(batch)
    np.testing.assert_allclose(vectors, reference, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", ["xlm-roberta", "bert"])
def test_weights_stored_in_half_precision_are_computed_in_fp32(family: str, tmp_path: Path) -> None:
    model = make_model(tmp_path, family, head=True, dtype=torch.float16)
    batch = random_batch(takes_types(family))
    with torch.no_grad():
        reference = torch.cat([model(**one).logits for one in sequences(batch)]).numpy()
    logits = Model(tmp_path, task="classify", device="cpu").runtime("fp32").run(batch)
    np.testing.assert_allclose(logits, reference, atol=TOLERANCE, rtol=0)


def test_a_padding_token_inside_a_text_is_numbered_as_transformers_does(tmp_path: Path) -> None:
    model = make_model(tmp_path, "camembert", head=True)
    batch = random_batch(False, (9, 6, 12))
    batch.tokens[[3, 11, 26]] = 1
    with torch.no_grad():
        # transformers' attention mask defaults to ones: an inner <pad> is seen, it only shifts positions.
        reference = torch.cat([model(**one).logits for one in sequences(batch)]).numpy()
    logits = Model(tmp_path, task="classify", device="cpu").runtime("fp32").run(batch)
    np.testing.assert_allclose(logits, reference, atol=TOLERANCE, rtol=0)


def test_a_sequence_scores_the_same_alone_and_among_others(tmp_path: Path) -> None:
    make_model(tmp_path, "xlm-roberta", head=True)
    runtime = Model(tmp_path, task="classify", device="cpu").runtime("fp32")
    batch = random_batch(False)
    together = runtime.run(batch)
    for i, (begin, end) in enumerate(zip(batch.starts[:-1], batch.starts[1:], strict=True)):
        alone = PackedBatch(batch.tokens[begin:end], None, np.array([0, end - begin], np.int32), int(end - begin))
        np.testing.assert_allclose(runtime.run(alone)[0], together[i], atol=1e-5, rtol=0)
