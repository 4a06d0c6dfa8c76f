"""README and docs: every command is one that the parsers take, every link leads somewhere."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import bench.__main__
import bench.hog
import emotion_av.__main__
import infer.__main__
import infer.app.__main__
import infer.explain
import infer.export.__main__
import infer.live.__main__
import pipeline.__main__
import train.__main__

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PARSERS = {
    "pipeline": pipeline.__main__.parser,
    "train": train.__main__.parser,
    "infer": infer.__main__.parser,
    "infer.app": infer.app.__main__.parser,
    "infer.explain": infer.explain.parser,
    "infer.export": infer.export.__main__.parser,
    "infer.live": infer.live.__main__.parser,
    "bench": bench.__main__.parser,
    "bench.hog": bench.hog.parser,
}
OTHERS = ("pip", "pytest", "dask", "venv", "uv", "mypy", "coverage")
RUN = ".venv/bin/python -m "


def commands():
    """Commands that start a line of a code block, or that stand in backticks."""
    found = set()
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`((?:make|\.venv/bin/python) [^`]*)`", re.sub(r"```.*?```", "", text))
        for line in lines:
            command = re.split(r" {2,}|\s#| \[", line.strip())[0]
            if command.startswith(("make ", RUN)) and "…" not in command:
                found.add(command)
    return sorted(found)


def parse(words):
    """Give the words after ``python -m`` to the parser of their module, if that is one of ours."""
    module, *options = words
    if module == "emotion_av":
        assert options[0] in emotion_av.__main__.COMMANDS
    elif module not in PARSERS:
        assert module in OTHERS
    elif "--help" in options:
        with pytest.raises(SystemExit) as left:
            PARSERS[module]().parse_args(options)
        assert left.value.code == 0
    else:
        PARSERS[module]().parse_args(options)


def test_there_are_commands():
    assert len(commands()) > 40


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make ")])
def test_make_commands_become_commands_of_the_packages(command):
    words = shlex.split(command)
    makefile = (ROOT / "Makefile").read_text()
    for name in re.findall(r"\b([A-Z][A-Z_0-9]+)=", command):
        assert re.search(rf"[( ,]{name}[,)]", makefile), f"the Makefile reads no {name}"
    dry = subprocess.run(
        [words[0], "--dry-run", "--always-make", *words[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert dry.returncode == 0, dry.stderr
    recipe = dry.stdout.replace("\\\n", " ")
    for line in recipe.splitlines():
        # What may be one name or several is set before.
        several = re.match(r"\s*set -- '(.*)'; .*?;\s*", line)
        line = line[several.end() :].replace('"$@"', several[1]) if several else line.strip()
        if line.startswith(RUN):
            parse(shlex.split(line.removeprefix(RUN)))


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith(RUN)])
def test_commands_are_taken_by_their_parsers(command):
    parse(shlex.split(command.removeprefix(RUN)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target
