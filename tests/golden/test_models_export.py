"""What fouille exports is what sentence-transformers and transformers load, and it scores as it does here."""

import json

import numpy as np
import pytest

from engine.models import BiEncoder, CrossEncoder, compact
from engine.models.export import export
from engine.settings import SHIPPED_ENCODER, SHIPPED_RERANKER

TOLERANCE = 1e-4  # logits and vectors, fp32, absolute
QUESTION = "où dort le chat ?"
PASSAGES = ["Le chat dort sur le canapé.", "Le cheval mange.", "La pluie tombe sur la maison et le jardin.", "?"]


@pytest.fixture
def exported(tiny, tmp_path, monkeypatch):
    """Both models, packed, shipped and exported."""
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_N", "Normalize")])
    ]
    encoder = export(str(tiny.encoder), tmp_path / "encoder")
    (encoder / "1_Pooling").mkdir()
    (encoder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (encoder / "modules.json").write_text(json.dumps(modules))
    compact.pack({SHIPPED_ENCODER: encoder, SHIPPED_RERANKER: tiny.reranker}, tmp_path / "package")
    monkeypatch.setenv("FOUILLE_SHIPPED_DIR", str(tmp_path / "package"))
    monkeypatch.setenv("FOUILLE_CACHE_DIR", str(tmp_path / "cache"))
    return {name: export(name, tmp_path / "mine" / name) for name in (SHIPPED_ENCODER, SHIPPED_RERANKER)}


def test_the_cross_encoder_scores_the_same_in_sentence_transformers_and_in_transformers(exported):
    import torch
    from sentence_transformers import CrossEncoder as Reference
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = str(exported[SHIPPED_RERANKER])
    pairs = [(QUESTION, passage) for passage in PASSAGES]
    ours = CrossEncoder(SHIPPED_RERANKER, "cpu", "fp32").score_pairs(pairs, activation="none")
    theirs = Reference(folder, device="cpu").predict(pairs, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(theirs, ours, atol=TOLERANCE)
    batch = AutoTokenizer.from_pretrained(folder)(
        *map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = AutoModelForSequenceClassification.from_pretrained(folder).eval()(**batch).logits[:, 0]
    np.testing.assert_allclose(logits.numpy(), ours, atol=TOLERANCE)


def test_the_bi_encoder_gives_the_same_vectors_in_sentence_transformers(exported):
    from sentence_transformers import SentenceTransformer

    prompts = {"query": "query: ", "passage": "passage: "}
    ours = BiEncoder(SHIPPED_ENCODER, "cpu", "fp32").encode_passages(PASSAGES)
    reference = SentenceTransformer(str(exported[SHIPPED_ENCODER]), device="cpu", prompts=prompts)
    np.testing.assert_allclose(reference.encode(PASSAGES, prompt_name="passage"), ours, atol=TOLERANCE)
