"""Nothing that this code reads may run code or reach a shell."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for room in ("pipeline", "train", "infer") for path in (ROOT / room).rglob("*.py")
)

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "runpy"}
CALLS = {
    "eval",
    "exec",
    "__import__",
    "os.system",
    "os.popen",
    "joblib.load",
    "joblib.dump",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "tempfile.mktemp",
    "keras.config.enable_unsafe_deserialization",
}
ALLOWED = {"pipeline/guard.py": {"pickle", "pickle.dumps", "pickle.loads"}}
"""A pipe between a process and the child that it has started: nobody else writes to it."""

KEYWORDS = {("shell", True), ("allow_pickle", True), ("safe_mode", False)}


def dangers(tree):
    """Each place of a syntax tree that could run what a file or a file name says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            names = [ast.unparse(node.func)]
            for word in node.keywords:
                if isinstance(word.value, ast.Constant):
                    pair = (word.arg, word.value.value)
                    if pair in KEYWORDS:
                        yield f"line {node.lineno}: {word.arg}={word.value.value}"
                elif word.arg in {name for name, _ in KEYWORDS}:
                    yield f"line {node.lineno}: {word.arg} is computed"
        else:
            continue
        for name in names:
            if name in CALLS or name.split(".")[0] in MODULES:
                yield f"line {node.lineno}: {name}"


def test_no_source_unpickles_evaluates_or_starts_a_shell():
    assert len(SOURCES) > 30
    found = {}
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        for place in dangers(ast.parse(path.read_text("utf-8"))):
            if place.partition(": ")[2] not in ALLOWED.get(name, ()):
                found.setdefault(name, []).append(place)
    assert found == {}


def test_nothing_is_written_for_systems_that_are_not_supported():
    """Linux and macOS: a branch for another one would be dead, and untested."""
    for path in SOURCES:
        for word in ("win32", "msvcrt", "os.name", "platform.system"):
            assert word not in path.read_text("utf-8"), f"{path}: {word}"
    assert "Needs Linux, or macOS" in (ROOT / "README.md").read_text("utf-8")


def test_models_are_loaded_in_safe_mode():
    calls = [
        node
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load_model")
    ]
    assert len(calls) >= 1
    for call in calls:
        assert {"safe_mode": True}.items() <= {
            word.arg: getattr(word.value, "value", None) for word in call.keywords
        }.items()


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "from os import system",
        "import os\nos.system('ls')",
        "subprocess.run('ls', shell=True)",
        "np.load('x', allow_pickle=True)",
        "keras.models.load_model('x', safe_mode=False)",
        "keras.models.load_model('x', safe_mode=trusted)",
        "eval('1')",
    ],
)
def test_the_search_finds_what_it_is_for(text):
    assert list(dangers(ast.parse(text)))
