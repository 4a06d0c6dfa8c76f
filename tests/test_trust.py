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
    found = {
        path.relative_to(ROOT).as_posix(): list(dangers(ast.parse(path.read_text("utf-8"))))
        for path in SOURCES
    }
    assert {name: places for name, places in found.items() if places} == {}


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
