"""Reads or fills a cache by Hugging Face's own library.

cache.py read REPO FILE...   prints the paths of files that are in the cache, asking nobody
cache.py fetch REPO FILE...  fetches files from HF_ENDPOINT
"""

import os
import sys

from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download

what, repo, *files = sys.argv[1:]
for file in files:
    path = hf_hub_download(repo, file, local_files_only=what == "read")
    assert os.path.isfile(path), path
    print(path)
if what == "read":
    folder = snapshot_download(repo, local_files_only=True)
    assert all(os.path.isfile(os.path.join(folder, file)) for file in files), folder
    report = scan_cache_dir()
    assert not report.warnings, report.warnings
    assert repo in {r.repo_id for r in report.repos}, report
