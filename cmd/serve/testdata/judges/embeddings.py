"""Writes embeddings.json: what sentence-transformers says of some texts, for the test of
all-MiniLM-L6-v2 through serve. make judges-golden runs it, with the packages of golden.txt:
embeddings.py LLAMA_CPP FOLDER > embeddings.json

It also makes sure that the GGUF file of make judges is the one that llama.cpp's converter makes
with PyTorch itself.
"""

import json
import sys
import tempfile
from pathlib import Path

from sentence_transformers import SentenceTransformer

import models

TEXTS = [
    "The capital of France is Paris.",
    "Paris is the capital of France",
    "How do I sort a list of strings in Go?",
    "slices.Sort(names)",
    "A lighthouse keeper writes letters to a ship that never answers.",
    "x",
    "...",
    "UPPER and lower case are the same to this model.",
    "El tiempo está nublado, con lluvia por la tarde.",
    "Der Bäcker öffnet früh; die Brötchen sind noch warm.",
    "Où est la bibliothèque ? Près de l'église, à côté du café.",
    "Zażółć gęślą jaźń",
    "Съешь же ещё этих мягких французских булок",
    "長城は長い。",
    "I am 🙂, e-mail me: someone@example.com (not before 9:30!)",
    "for (int i = 0; i < n; i++) { sum += a[i] * b[i]; }",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    " ".join(f"The {n}th paragraph of the report says that the river rose and the bridge was closed." for n in range(4, 16)),
]

llama_cpp, folder = map(Path, sys.argv[1:])
with tempfile.TemporaryDirectory(dir=folder) as temporary:
    converted = Path(temporary) / (models.MINI + ".f16.gguf")
    models.convert(llama_cpp, folder / models.MINI, converted, with_torch=True)
    assert models.right(converted), "PyTorch itself makes another file: correct the hash in models.py"

model = SentenceTransformer(str(folder / models.MINI), device="cpu")
vectors = model.encode(TEXTS, batch_size=1, convert_to_numpy=True)
counts = [len(model.tokenizer(text)["input_ids"]) for text in TEXTS]
assert max(counts) <= model.max_seq_length, counts
rows = [
    json.dumps({"text": text, "tokens": tokens, "vector": [round(float(x), 6) for x in vector]}, ensure_ascii=False)
    for text, tokens, vector in zip(TEXTS, counts, vectors)
]
print("[\n" + ",\n".join(rows) + "\n]")
