"""One distribution with one command; its dependencies and versions are written down once."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import emotion_av
from emotion_av.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]


def listed(path):
    """Requirements of a file, without its comments and the files it includes."""
    lines = (line.split(" #")[0].strip() for line in path.read_text().splitlines())
    return {line for line in lines if line and not line.startswith(("#", "-"))}


def declared(table):
    """Requirement strings of a list in pyproject.toml; Python 3.10 reads no TOML."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(rf"^{table} = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL).group(1)
    return set(re.findall(r"""^ +(?:"([^"]+)"|'([^']+)'),""", found, re.MULTILINE))


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")


@pytest.mark.parametrize(
    ("table", "file"),
    [
        ("dependencies", "requirements.txt"),
        ("app", "requirements-app.txt"),
        ("cluster", "requirements-cluster.txt"),
        ("dev", "requirements-dev.txt"),
        ("docs", "requirements-docs.txt"),
    ],
)
def test_the_package_and_the_files_name_the_same_requirements(table, file):
    stated = {double or single for double, single in declared(table)}
    assert stated == listed(ROOT / file) and stated


def test_every_requirement_is_locked():
    locked = {name_of(line) for line in listed(ROOT / "requirements.lock")}
    tables = ("dependencies", "app", "cluster", "export", "dev", "docs")
    wanted = {name_of(a or b) for table in tables for a, b in declared(table)}
    assert wanted <= locked


def test_the_lock_names_no_place():
    assert not re.search("://|^-", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


def test_the_version_is_the_same_wherever_it_is_written():
    version = re.escape(emotion_av.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest.group(1) == emotion_av.__version__


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_called_by_its_own_name(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: emotion-av {name} ")


def test_a_mistake_names_the_command_that_lists_what_there_is(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["infer"])
    assert "'emotion-av infer --help'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_help_names_every_command(words, capsys):
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in COMMANDS)


def test_an_unknown_command_is_one_line_and_code_2(capsys):
    assert main(["feature"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "error: expected a command, got 'feature'; 'emotion-av --help' lists them\n"
    )


@pytest.mark.parametrize("package", ["pipeline", "train"])
def test_every_command_of_a_package_has_its_name(package):
    usage = importlib.import_module(f"{package}.__main__").parser().format_usage()
    names = re.search(r"\{([^}]*)\}", usage).group(1).split(",")
    called = {command.words[0] for command in COMMANDS.values() if package in command.module}
    assert called == {name.strip() for name in names}


def test_the_command_does_the_work(tmp_path, capsys):
    assert main(["list", "--raw", str(tmp_path / "none")]) == 2
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["['--version']", "['feature']"])
def test_what_needs_no_library_loads_none(words):
    code = (
        f"import sys; from emotion_av.__main__ import main; main({words}); "
        "print(sorted({name.partition('.')[0] for name in sys.modules} "
        "& {'numpy', 'cv2', 'tensorflow', 'keras', 'tqdm', 'pipeline', 'train', 'infer'}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.endswith("[]\n")
    if "version" in words:
        assert answer.stdout.startswith(f"emotion-av {emotion_av.__version__}\n")
