"""Runs a script of this folder in Node, which drives Debian's Chromium; its last line is its result in JSON."""

import json
import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent


def drive(script, *arguments, timeout=300):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: `make test` does it")
    if not (HERE / "node_modules" / "playwright-core").is_dir():
        pytest.skip("playwright-core is not installed: `make test` does it")
    done = subprocess.run(["node", script, *arguments], cwd=HERE, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
