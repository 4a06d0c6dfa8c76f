"""Every Python snippet of docs/python.md and of the README runs as it stands."""

import re
from pathlib import Path

from conftest import TINY, tone, write_model, write_video

DOCS = Path(__file__).parents[1] / "docs"


def test_the_snippets_of_the_library_run(tmp_path, monkeypatch, capsys):
    write_model(tmp_path / "data" / "model", TINY)
    write_video(tmp_path / "x.mp4", 2.0, sound=tone(2.0))
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    pages = DOCS / "python.md", DOCS.parent / "README.md"
    text = "".join(page.read_text() for page in pages)
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 6
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "a snippet of the docs", "exec"), names)
    suffixes = {path.suffix for path in (tmp_path / "out").iterdir()}
    assert suffixes == {".json", ".csv", ".vtt", ".eaf", ".TextGrid", ".html", ".mp4"}
    assert names["result"].file == "x.mp4" and capsys.readouterr().out


def test_every_module_and_room_is_named():
    text = (DOCS / "inference.md").read_text()
    infer = DOCS.parent / "infer"
    names = {path.name for path in infer.glob("*.py") if path.name != "__init__.py"}
    names |= {f"{path.parent.name}/" for path in infer.glob("*/__init__.py")}
    assert {name for name in names if f"`{name}`" not in text} == set()
