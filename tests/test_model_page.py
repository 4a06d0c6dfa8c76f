"""The page on the network: what it shows of a branch of one's own is done, line by line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "model.md"

TRAIN = """
import sys
from pathlib import Path
from pipeline.cache import index
from train import runtime
runtime.start_tensorflow(0)
from train import fit
from train.settings import Settings, scaled
from train.studies import protocol
found = index.read_index(Path(sys.argv[1]))
fit.fit(found, Path(sys.argv[2]), protocol.split_actors(found.actors),
        scaled(Settings(), 0.01), progress=False)
"""


def blocks(kind):
    """Code blocks of a kind on the page."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def apply(copy, edits):
    """Make the change of lines that a block shows, in the one file that holds its old lines."""
    lines = edits.splitlines()
    old = "\n".join(line[1:] for line in lines if line[0] != "+")
    new = "\n".join(line[1:] for line in lines if line[0] != "-")
    (path,) = [path for path in copy.rglob("*.py") if old in path.read_text()]
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.slow
def test_a_branch_of_ones_own_is_three_lines_and_a_function(tmp_path, small_cache):
    for package in ("pipeline", "train"):
        shutil.copytree(ROOT / package, tmp_path / package)
    (function,) = [block for block in blocks("python") if "def build" in block]
    (tmp_path / "train" / "models" / "mouth.py").write_text(function)
    for edits in blocks("diff"):
        apply(tmp_path / "train", edits)
    model = tmp_path / "model"
    subprocess.run(
        [sys.executable, "-c", TRAIN, str(small_cache.folder), str(model)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    header = (model / "report" / "predictions.csv").read_text().splitlines()[0].split(",")
    assert {"fused", "audio", "video", "mouth", "p_mouth_angry"} <= set(header)
