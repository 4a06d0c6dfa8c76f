"""Starting TensorFlow: quietly, reproducibly, and saying which device it runs on."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import atomic
from pipeline.errors import STORAGE_ERRNOS

if TYPE_CHECKING:
    import tensorflow as tf

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
QUIET = "3"
SHARE_OF_CORES = "OMP_NUM_THREADS"
"""By this joblib tells a worker how many threads are its own; TensorFlow does not listen to it."""


@contextmanager
def native_log_held() -> Iterator[None]:
    """Hold back what native code writes to standard error; show it if the block raises.

    TensorFlow's libraries log a dozen lines of build facts while they load, before any setting of
    theirs is read. Whoever sets ``TF_CPP_MIN_LOG_LEVEL`` wants them and gets them.
    """
    if LOG_LEVEL in os.environ:
        yield
        return
    os.environ[LOG_LEVEL] = QUIET
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def start_tensorflow(seed: int | None = None, deterministic: bool | None = None) -> str:
    """Import TensorFlow and say what it runs on.

    Parameters
    ----------
    seed
        Fixes every random number.
    deterministic
        Whether a seeded run asks for deterministic operations. By default where there is no GPU:
        on one they cost much time, and XLA.

    Returns
    -------
    str
        Such as ``"CPU (2 cores)"`` or ``"GPU (1)"``.
    """
    quiet = os.environ.get(LOG_LEVEL, QUIET) == QUIET
    if "tensorflow" not in sys.modules and sys.stderr.isatty():
        print("loading TensorFlow", file=sys.stderr, flush=True)
    with native_log_held():
        import keras  # noqa: F401 - loads native code, too
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if quiet:
        # Such as advice on functions that are traced anew for the last, smaller batch.
        tf.get_logger().setLevel(logging.ERROR)
    threads = os.environ.get(SHARE_OF_CORES, "")
    if threads.isdecimal():
        tf.config.threading.set_intra_op_parallelism_threads(int(threads))
        tf.config.threading.set_inter_op_parallelism_threads(int(threads))
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if seed is not None:
        make_reproducible(seed, not gpus if deterministic is None else deterministic)
    return f"GPU ({len(gpus)})" if gpus else f"CPU ({os.cpu_count()} cores)"


def make_reproducible(seed: int, deterministic: bool = True) -> None:
    """Fix every random number and, until the process ends, ask for deterministic operations."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def jit_compile() -> str | bool:
    """Whether to compile with XLA, as Keras takes it: never on a CPU.

    It makes these convolutions 5-19 times slower there. On a GPU Keras decides, because not all
    deterministic operations can be compiled.
    """
    import tensorflow as tf

    return "auto" if tf.config.list_physical_devices("GPU") else False


def strategy() -> tf.distribute.Strategy:
    """Return how TensorFlow distributes a training: over all GPUs where there are several."""
    import tensorflow as tf

    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Build layers of a Keras dtype policy, such as ``"mixed_float16"``, within the block."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Raise what a disk refused to a training that writes into a folder as an ``OSError``.

    TensorFlow's writers raise errors of their own, which end in the system's words.
    """
    import tensorflow as tf

    try:
        with atomic.refusals_named(folder):
            yield
    except tf.errors.OpError as error:
        for number in STORAGE_ERRNOS:
            if os.strerror(number) in error.message:
                raise OSError(number, os.strerror(number), str(folder)) from None
        raise
