"""Shards made by a real dask scheduler with workers of its own, and by ray: the bytes of loky."""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import pytest
import tqdm
from conftest import write_take

from pipeline import parallel
from pipeline.backends import Workers
from pipeline.cache import build
from pipeline.cache.build import Options
from pipeline.corpora import scan
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

CHILDREN = Path(__file__).parent / "children"
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cluster.md"
sys.path.append(str(CHILDREN))
import tasks  # noqa: E402
from tasks import Task  # noqa: E402

SPEC = FeatureSpec(window_seconds=1.0, variants=("pitch",))
ACTORS, CLIPS = 4, 8

with_dask = pytest.mark.skipif(
    not importlib.util.find_spec("distributed"), reason="dask.distributed is not installed"
)
with_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="ray is not installed")


@pytest.fixture(autouse=True)
def children(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(CHILDREN)]))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Raw clips of four actors, and the shards that loky makes of them."""
    folder = tmp_path_factory.mktemp("corpus")
    for actor in range(1, ACTORS + 1):
        for emotion in (3, 5):
            name = f"01-01-{emotion:02d}-01-01-01-{actor:02d}"
            write_take(folder / "raw", name, seconds=1.2, hertz=100 * emotion + 7 * actor)
    features(folder, folder / "cache", Workers(2, "loky"))
    return folder


def features(corpus, cache, workers):
    catalogue = scan.scan(corpus / "raw")
    return build.build(catalogue, cache, SPEC, workers, Options(progress=False))


def shards(cache):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((cache / SPEC.digest).glob("*.h5"))
    }


def command(name, *options):
    """Start a command of the pipeline."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", name, *map(str, options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def features_command(corpus, cache, *options):
    spec = ["--window-seconds", "1", "--variants", "1"]
    return command("features", "--raw", corpus / "raw", "--cache", cache, *spec, *options)


def beside_bar(errors):
    """Lines of standard error that are no progress bar."""
    lines = errors.replace("\r", "\n").split("\n")
    return [line for line in lines if line and not line.startswith("features:")]


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def attempts(folder):
    return [json.loads(path.read_text()) for path in folder.glob("*.attempt-*")]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if path.read_text().rsplit(")", 1)[1].split()[1] == str(pid):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def murder_one(parents, what=b"guard.serve"):
    """Kill a child of some workers as soon as there is one; return it."""
    while True:
        for pid in (child for parent in parents for child in children_of(parent)):
            try:
                if what in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    return pid
            except OSError:
                continue
        time.sleep(0.01)


class Cluster:
    """A dask scheduler and its workers, each a process of its own, outside of any nanny."""

    def __init__(self, folder, workers=2, threads=1, path=(ROOT, CHILDREN)):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
        port = self.address.rpartition(":")[2]
        self.scheduler = self.start(
            "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"
        )
        self.threads, self.workers = threads, []
        for _ in range(workers):
            self.add_worker()

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def add_worker(self):
        options = ["--no-nanny", "--no-dashboard", "--nthreads", str(self.threads)]
        options += ["--local-directory", str(self.folder)]
        self.workers.append(self.start("worker", self.address, *options))

    def client(self):
        import distributed

        client = distributed.Client(self.address, set_as_default=False)
        client.wait_for_workers(len(self.workers), timeout=60)
        return client

    def stop(self):
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Two workers for all tests that leave them alive."""
    cluster = Cluster(tmp_path_factory.mktemp("dask"))
    cluster.client().close()
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(tmp_path):
    """Start clusters that a test may take apart."""
    started = []

    def start(**options):
        started.append(Cluster(tmp_path, **options))
        started[-1].client().close()
        return started[-1]

    yield start
    for one in started:
        one.stop()


@with_dask
class TestDask:
    def test_the_bytes_of_loky(self, corpus, tmp_path, shared):
        features(corpus, tmp_path, Workers(backend="dask", scheduler=shared.address))
        assert shards(tmp_path) == shards(corpus / "cache") != {}

    def test_an_active_client_carries_the_tasks(self, tmp_path, shared, monkeypatch):
        import distributed

        client = shared.client()
        monkeypatch.setattr(joblib, "Parallel", None)
        before = children_of(os.getpid())
        items = [Task(tmp_path, number, "slow") for number in range(4)]
        with client, joblib.parallel_config(backend="dask", client=client):
            with pytest.raises(ValueError, match="No clients found"):
                distributed.Client.current()
            parallel.run(tasks.do, items, Task.is_done, Workers())
            assert client.status == "running"
        pids = {place["pid"] for place in attempts(tmp_path)}
        assert pids == {worker.pid for worker in shared.workers}
        assert children_of(os.getpid()) == before

    def test_building_with_an_active_client_starts_no_process_here(self, corpus, tmp_path, shared):
        before = children_of(os.getpid())
        client = shared.client()
        with client, joblib.parallel_config(backend="dask", client=client):
            features(corpus, tmp_path, Workers(-1))
        assert children_of(os.getpid()) == before
        assert shards(tmp_path) == shards(corpus / "cache")

    def test_the_snippet_of_the_page_builds_a_cache(self, corpus, tmp_path, shared):
        import distributed

        (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        snippet = snippet.replace("tcp://10.0.0.1:8786", shared.address)
        names = {"distributed": distributed, "joblib": joblib, "build": build, "scan": scan}
        names |= {"raw": corpus / "raw", "cache": tmp_path, "Workers": Workers}
        exec(compile(snippet, "docs/cluster.md", "exec"), names | {"FeatureSpec": lambda: SPEC})
        assert shards(tmp_path) == shards(corpus / "cache")

    def test_the_bar_moves_while_the_work_goes_on(self, tmp_path, shared, monkeypatch):
        monkeypatch.setattr(parallel, "LOOK_SECONDS", 0.02)
        moves = []
        items = [Task(tmp_path, number, "slow") for number in range(6)]
        workers = Workers(backend="dask", scheduler=shared.address)
        with open(os.devnull, "w") as nowhere, tqdm.tqdm(total=6, file=nowhere) as bar:
            update = bar.update
            monkeypatch.setattr(bar, "update", lambda count: (moves.append(count), update(count)))
            watch = parallel.watching(bar, lambda: len(list(tmp_path.glob("*.done"))))
            parallel.run(tasks.do, items, Task.is_done, workers, watch)
        moves = [count for count in moves if count]
        assert sum(moves) == 6 and len(moves) >= 3

    def test_collected_results_keep_their_order(self, tmp_path, shared):
        workers = Workers(backend="dask", scheduler=shared.address)
        with tqdm.tqdm(disable=True) as bar:
            found = parallel.collect(tasks.facts, list("zyxw"), workers, bar, tmp_path)
        assert [result["item"] for result in found] == list("zyxw")
        assert {result["pid"] for result in found} <= {worker.pid for worker in shared.workers}

    @pytest.mark.parametrize(
        ("kind", "error"), [("refuse", InputError), ("bug", ZeroDivisionError)]
    )
    def test_an_exception_ends_the_run(self, kind, error, tmp_path, shared):
        items = [Task(tmp_path, 0), Task(tmp_path, 1, kind)]
        with pytest.raises(error):
            parallel.run(tasks.do, items, Task.is_done, Workers(-1, "dask", shared.address))

    @pytest.mark.slow
    def test_a_murdered_worker_costs_nothing(self, tmp_path, cluster):
        own = cluster()
        items = [
            Task(tmp_path, number, "die once" if number == 1 else "slow") for number in range(6)
        ]
        parallel.run(tasks.do, items, Task.is_done, Workers(-1, "dask", own.address))
        assert all(item.is_done() for item in items)
        assert sum(worker.poll() is None for worker in own.workers) == 1

    @pytest.mark.slow
    def test_a_task_that_kills_each_worker_ends_the_run(self, tmp_path, cluster):
        """KilledWorker, for which joblib's own backend waits for ever."""
        own = cluster(workers=2)
        ended = []

        def replace():
            while not ended:
                for worker in own.workers[:]:
                    if worker.poll() is not None:
                        own.workers.remove(worker)
                        own.add_worker()
                time.sleep(0.1)

        keeper = threading.Thread(target=replace)
        keeper.start()
        items = [Task(tmp_path, number, "die" if number == 1 else "") for number in range(6)]
        try:
            with pytest.raises(InputError, match="6 tasks to end, got 1 whose workers died"):
                parallel.run(tasks.do, items, Task.is_done, Workers(-1, "dask", own.address))
        finally:
            ended.append(True)
            keeper.join()
        assert sum(item.is_done() for item in items) == 5

    @pytest.mark.slow
    @pytest.mark.parametrize("victim", ["worker", "guard"])
    def test_murder_in_the_middle_of_a_build(self, victim, corpus, tmp_path, cluster):
        own = cluster()
        run = features_command(
            corpus, tmp_path / "c", "--backend", "dask", "--scheduler", own.address
        )
        killed = murder_one([worker.pid for worker in own.workers])
        if victim == "worker":
            own.workers[0].kill()
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
        assert not is_running(killed)
        assert shards(tmp_path / "c") == shards(corpus / "cache")

    @pytest.mark.slow
    def test_one_worker_with_three_threads(self, corpus, tmp_path, cluster):
        own = cluster(workers=1, threads=3)
        features(corpus, tmp_path / "c", Workers(backend="dask", scheduler=own.address))
        assert shards(tmp_path / "c") == shards(corpus / "cache")
        guards = children_of(own.workers[0].pid)
        assert len(guards) == 3
        own.workers[0].kill()
        wait_until(lambda: not any(map(is_running, guards)), seconds=5)

    @pytest.mark.slow
    def test_a_scheduler_that_goes_away(self, corpus, tmp_path, cluster):
        own = cluster()
        cache = tmp_path / "c"
        run = features_command(corpus, cache, "--backend", "dask", "--scheduler", own.address)
        wait_until(lambda: list(cache.glob("*/*.json")))
        own.scheduler.kill()
        _, errors = run.communicate(timeout=120)
        (last,) = beside_bar(errors)
        assert run.returncode == 2, errors
        assert last.startswith("error: expected the dask scheduler at tcp://127.0.0.1:")
        assert "finished parts are kept" in last
        kept = {path: path.stat().st_mtime_ns for path in cache.glob("*/*.h5")}
        own.stop()
        done = features(corpus, cache, Workers(2, "loky"))
        assert done.extracted < CLIPS
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
        assert shards(cache) == shards(corpus / "cache")

    @pytest.mark.slow
    def test_nobody_at_the_address_is_one_line(self, corpus, tmp_path, monkeypatch):
        monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "1s")
        options = ["--backend", "dask", "--scheduler", "tcp://127.0.0.1:9"]
        run = features_command(corpus, tmp_path / "c", *options)
        _, errors = run.communicate(timeout=60)
        (last,) = beside_bar(errors)
        assert run.returncode == 2, errors
        assert last.startswith(
            "error: expected a dask scheduler at tcp://127.0.0.1:9, got no answer"
        )

    @pytest.mark.slow
    def test_workers_without_the_code_are_one_line(self, tmp_path, cluster):
        own = cluster(path=())
        with pytest.raises(InputError, match=r"a cluster that can import .*PYTHONPATH="):
            items = [Task(tmp_path, 0)]
            parallel.run(tasks.do, items, Task.is_done, Workers(-1, "dask", own.address))

    @pytest.mark.slow
    def test_a_cluster_of_its_own(self, corpus, tmp_path):
        with socket.socket() as other:
            # Another cluster's dashboard is no concern of this one.
            with contextlib.suppress(OSError):
                other.bind(("", 8787))
                other.listen()
            run = features_command(corpus, tmp_path, "--backend", "dask", "--jobs", "2")
            _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
        assert beside_bar(errors) == []
        assert shards(tmp_path) == shards(corpus / "cache")


@pytest.fixture(scope="module")
def ray():
    """One ray for all tests of this module; children find the tests' modules."""
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    import ray

    path = os.pathsep.join([str(ROOT), str(CHILDREN)])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield ray
    ray.shutdown()


@with_ray
@pytest.mark.slow
class TestRay:
    def test_the_bytes_of_loky(self, corpus, tmp_path, ray):
        before = children_of(os.getpid())
        with joblib_ray():
            features(corpus, tmp_path, Workers())
        assert shards(tmp_path) == shards(corpus / "cache") != {}
        assert children_of(os.getpid()) == before

    def test_an_active_ray_carries_the_tasks(self, tmp_path, ray):
        items = [Task(tmp_path, number, "slow") for number in range(4)]
        with joblib_ray():
            parallel.run(tasks.do, items, Task.is_done, Workers())
        assert ray.is_initialized()
        assert os.getpid() not in {place["pid"] for place in attempts(tmp_path)}

    def test_a_murdered_worker_costs_nothing(self, tmp_path, ray, capfd):
        items = [
            Task(tmp_path, number, "die once" if number == 1 else "slow") for number in range(6)
        ]
        parallel.run(tasks.do, items, Task.is_done, Workers(2, "ray"))
        assert all(item.is_done() for item in items)
        assert sum(item.attempts() for item in items) == 7
        said = capfd.readouterr()
        assert said.out == ""

    def test_a_task_that_kills_each_worker_ends_the_run(self, tmp_path, ray):
        items = [Task(tmp_path, number, "die" if number == 1 else "") for number in range(4)]
        with pytest.raises(InputError, match="4 tasks to end, got 1 whose workers died"):
            parallel.run(tasks.do, items, Task.is_done, Workers(2, "ray"))
        assert sum(item.is_done() for item in items) == 3

    @pytest.mark.parametrize(
        ("kind", "error"), [("refuse", InputError), ("bug", ZeroDivisionError)]
    )
    def test_an_exception_ends_the_run(self, kind, error, tmp_path, ray):
        items = [Task(tmp_path, 0), Task(tmp_path, 1, kind)]
        with pytest.raises(error):
            parallel.run(tasks.do, items, Task.is_done, Workers(2, "ray"))

    def test_the_command_starts_ray_and_shuts_it_down(self, corpus, tmp_path):
        options = ["--backend", "ray", "--jobs", "2"]
        run = features_command(corpus, tmp_path, *options)
        wait_until(lambda: any(is_raylet(pid) for pid in children_of(run.pid)))
        started = children_of(run.pid)
        killed = murder_one(ray_workers(started))
        said, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
        assert said.count("\n") == 1, said
        assert beside_bar(errors) == []
        assert shards(tmp_path) == shards(corpus / "cache")
        wait_until(lambda: not any(map(is_running, [*started, killed])), seconds=5)


def is_raylet(pid):
    try:
        return b"raylet" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class ray_workers:
    """Processes that some raylets have started, as they are whenever somebody looks."""

    def __init__(self, raylets):
        self.raylets = raylets

    def __iter__(self):
        return iter([child for raylet in self.raylets for child in children_of(raylet)])


def joblib_ray():
    from ray.util.joblib import register_ray

    register_ray()
    return joblib.parallel_config(backend="ray")


# Two machines without a cluster.


@pytest.mark.slow
def test_two_machines_fill_one_cache(corpus, tmp_path):
    halves = [
        features_command(corpus, tmp_path, "--jobs", "1", "--actors", actors)
        for actors in ("1-2", "3-4")
    ]
    for half in halves:
        _, errors = half.communicate(timeout=120)
        assert half.returncode == 0, errors
    joined = command("index", "--cache", tmp_path)
    _, errors = joined.communicate(timeout=60)
    assert joined.returncode == 0, errors
    assert shards(tmp_path) == shards(corpus / "cache")
    assert index(tmp_path) == index(corpus / "cache")


def index(cache):
    """What an index says of clips and shards, without when and how fast these were made."""
    from pipeline.cache.index import read_index

    found = read_index(cache / SPEC.digest)
    shards = [(shard.file, shard.rows, shard.sha256, shard.clips) for shard in found.shards]
    return found.fingerprint, found.clips, shards, found.entries, found.modified_ns
