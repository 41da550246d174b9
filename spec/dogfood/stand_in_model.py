"""Makes a stand-in for the embedding model all-MiniLM-L6-v2, a test double: the same name, at its
place in the cache of the home folder, with vectors of the same length, but of one small layer with
random weights. Real code loads it and searches with it; what it finds, it finds by chance.

    HOME=DIR venv/bin/python stand_in_model.py
"""

import os
import pathlib
import tempfile

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizer

NAME = "models--sentence-transformers--all-MiniLM-L6-v2"
REVISION = "0" * 40
WIDTH = 384  # numbers in a vector of the real one


def vocabulary():
    """The letters, at the beginning of a word and within one; what else there is, is unknown."""
    letters = [chr(code) for code in range(33, 127)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return special + letters + ["##" + letter for letter in letters]


def write_transformer(folder):
    words = vocabulary()
    path = os.path.join(folder, "vocab.txt")
    with open(path, "w", encoding="utf-8") as out:
        out.write("\n".join(words) + "\n")
    torch.manual_seed(1)
    config = BertConfig(vocab_size=len(words), hidden_size=WIDTH, num_hidden_layers=1,
                        num_attention_heads=4, intermediate_size=WIDTH,
                        max_position_embeddings=256)
    BertModel(config).save_pretrained(folder)
    BertTokenizer(path, model_max_length=256).save_pretrained(folder)


def main():
    cache = pathlib.Path.home() / ".cache/huggingface/hub" / NAME
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text(REVISION)
    with tempfile.TemporaryDirectory() as folder:
        write_transformer(folder)
        transformer = Transformer(folder, max_seq_length=256)
        model = SentenceTransformer(modules=[transformer, Pooling(WIDTH)])
        model.save(str(cache / "snapshots" / REVISION))


main()
