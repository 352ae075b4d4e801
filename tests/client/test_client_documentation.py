"""Each example of docs/client.md and docs/cli.md runs. The comment above it names the features that it needs (see serving.py)."""

import os
import re
import subprocess

import pytest

from conftest import BINARY, PATIENCE_S, ROOT
from serving import served  # noqa: F401


def examples(name, language):
    text = (ROOT / "docs" / name).read_text()
    found = re.findall(r"<!-- needs: ([a-z ]+) -->\n```%s\n(.*?)```" % language, text, re.DOTALL)
    assert len(found) == text.count("```" + language), "an example without its features"
    return [pytest.param(needs.split(), source, id="%d %s" % (i, needs)) for i, (needs, source) in enumerate(found)]


@pytest.mark.parametrize("needs,source", examples("client.md", "python"))
def test_client(needs, source, served, monkeypatch, tmp_path):
    there = served(*needs)
    monkeypatch.setenv("MYELIN_URL", there.url)
    monkeypatch.setenv("MYELIN_TOKEN", there.token)
    monkeypatch.chdir(tmp_path)
    from myelin import Client

    exec(compile(source, "<docs/client.md>", "exec"), {"client": Client()})


@pytest.mark.parametrize("needs,source", examples("cli.md", "console"))
def test_command_line(needs, source, served, tmp_path):
    there = served(*needs)
    lines = source.splitlines()
    assert all(line.startswith("$ ") for line in lines)
    environment = dict(os.environ, MYELIN_URL=there.url, MYELIN_TOKEN=there.token, PATH="%s:%s" % (BINARY.parent, os.environ["PATH"]))
    done = subprocess.run(["sh", "-e", "-c", "\n".join(line[2:] for line in lines)], cwd=tmp_path, env=environment, capture_output=True, text=True,
                          timeout=PATIENCE_S)
    assert done.returncode == 0, (done.stdout, done.stderr)


def test_every_command_is_documented():
    text = (ROOT / "docs" / "cli.md").read_text()
    listed = subprocess.run([str(BINARY), "--help"], capture_output=True, text=True).stdout.partition("Subcommands:")[2]
    for name in re.findall(r"^  ([a-z-]+)", listed, re.MULTILINE):
        assert name in text, name
