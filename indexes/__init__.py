"""First-stage retrieval over (id, text) or (id, vector): BM25 on Lucene, vectors on FAISS, and their fusion.

Each index holds exactly the passages of its catalog at the sequence number it has applied.
"""
