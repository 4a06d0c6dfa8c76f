"""Starting TensorFlow: determinism, XLA, errors of the disk."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from train import runtime

DETERMINISM = """
import sys
from tensorflow.python.framework.config import is_op_determinism_enabled
from train import runtime
runtime.start_tensorflow(3, {"None": None, "True": True, "False": False}[sys.argv[1]])
print(is_op_determinism_enabled())
print(runtime.jit_compile())
"""


@pytest.mark.parametrize(
    ("asked", "got"),
    [("None", "True"), pytest.param("True", "True", marks=pytest.mark.slow), ("False", "False")],
)
def test_determinism_is_an_option_and_on_by_default_on_a_cpu(asked, got):
    run = subprocess.run(
        [sys.executable, "-c", DETERMINISM, asked],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.split() == [got, "False"]


def test_keras_decides_about_xla_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert runtime.jit_compile() == "auto"


def test_a_precision_is_that_of_its_block():
    with runtime.precision("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    assert keras.layers.Dense(1).compute_dtype == "float32"
    with pytest.raises(KeyError), runtime.precision("mixed_float16"):
        raise KeyError
    assert keras.config.dtype_policy().name == "float32"


def test_what_the_disk_refuses_to_tensorflow_is_an_error_of_the_system(tmp_path):
    full = f"x.v2; {os.strerror(errno.ENOSPC)}"
    with pytest.raises(OSError) as caught, runtime.storage_errors(tmp_path):
        raise tf.errors.ResourceExhaustedError(None, None, full)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path)
    with pytest.raises(tf.errors.InternalError), runtime.storage_errors(tmp_path):
        raise tf.errors.InternalError(None, None, "something else")
