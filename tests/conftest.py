"""A tiny dataset, from posts to shards, for every test that needs one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Here and in what the tests start: all is so small that two threads would wait for each other longer.
os.environ["OMP_NUM_THREADS"] = "1"

import boto3
import numpy as np
import pytest
from PIL import Image
from s3fs import S3FileSystem

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.emojis.vectors.word2vec import keyed, save_vectors
from emojigan.datasets.store.folder import LocalFolder
from emojigan.trainer.runtime.signals import SIGNALS
from emojigan.trainer.tracking import delivery

from .couriers import CourierThread
from .stores import ceph_server
from .two_hosts import Host, joined_hosts

ROOT = Path(__file__).parents[1]
EMOJIS = "😍😂🔥🐶🌊🍕🎉💔"
NUM_POSTS = 300
TRAIN_ON_TWO_RANKS = ["torchrun", "--standalone", "--nproc_per_node", "2", "--no-python", "emojigan", "train"]
TINY_NETWORKS = [
    "--trunk-width",
    "4",
    "--feature-dim",
    "8",
    "--hidden-dim",
    "16",
    "--latent-dim",
    "4",
    "--batch-size",
    "16",
    "--log-steps",
    "1",
]


start_process = delivery.start_courier


@pytest.fixture(scope="session", autouse=True)
def threads_for_couriers() -> Iterator[None]:
    """Those of trainings in the process of the tests, but not of what the tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "start_courier", CourierThread)
        yield


@pytest.fixture
def a_real_courier(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the process itself."""
    monkeypatch.setattr(delivery, "start_courier", start_process)


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> Iterator[None]:
    """By what the tests start, though they themselves may run under nohup or in the background of a shell."""
    ignored = [each for each in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(each) == signal.SIG_IGN]
    for each in ignored:
        signal.signal(each, signal.SIG_DFL)
    yield
    for each in ignored:
        signal.signal(each, signal.SIG_IGN)


@pytest.fixture(scope="module", autouse=True)
def signals_do_what_they_did() -> Iterator[None]:
    """A command that was told to stop ignores them from then on, and so would what later tests start."""
    before = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture(scope="session")
def posts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """posts.jsonl and its images. The colour of an image tells its first emoji; one post in ten has none."""
    folder = tmp_path_factory.mktemp("posts")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 215, (len(EMOJIS), 3))
    share = 1 / np.arange(1, len(EMOJIS) + 1)
    lines = []
    for number in range(NUM_POSTS):
        picked = rng.choice(len(EMOJIS), size=1 + number % 2, replace=False, p=share / share.sum())
        pixels = colours[picked[0]] + rng.integers(-40, 41, (40 + number % 3, 44, 3))
        image = f"images/{number}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / image, compress_level=1)
        emojis = "" if number % 10 == 9 else " ".join(EMOJIS[each] for each in picked)
        post = {"id": f"p{number}", "account": f"Ann{number % 71}", "image": image, "text": f"hello {emojis}"}
        lines.append(json.dumps(post, ensure_ascii=False) + "\n")
    (folder / "posts.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def shards(posts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `posts_folder`: several shards in train, one or more in val and test."""
    out = tmp_path_factory.mktemp("dataset") / "shards"
    options = BuildOptions(images_per_shard=50)
    build_shards(Source([posts_folder / "posts.jsonl"]), LocalFolder(out), options, workers=1, max_bad=0)
    return out


@pytest.fixture(scope="session")
def folded(posts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same posts, with train in two folds."""
    out = tmp_path_factory.mktemp("folded") / "shards"
    options = BuildOptions(images_per_shard=50, folds=2)
    build_shards(Source([posts_folder / "posts.jsonl"]), LocalFolder(out), options, workers=1, max_bad=0)
    return out


@pytest.fixture(scope="session")
def vectors_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random unit vector of 300 numbers for each emoji of `shards`."""
    matrix = np.random.default_rng(1).normal(size=(len(EMOJIS), 300))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    path = tmp_path_factory.mktemp("vectors") / "vectors.bin"
    save_vectors(keyed(list(EMOJIS), matrix.astype(np.float32)), path)
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of processes that train: an MLflow of their own."""
    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{database}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with our wheel, and with a distribution that is called `datasets`, as Hugging Face's is.

    Our dependencies are lent to it, and nothing else leads from it to us. Tests run its bin/python, without
    PYTHONPATH.
    """
    source, other, environment = (tmp_path_factory.mktemp(name) for name in ("source", "other", "installed"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in ("asking", "datasets", "trainer", "launch"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "datasets").mkdir()
    (other / "datasets" / "__init__.py").write_text("WHOSE = 'the stand-in'\n")
    (other / "setup.py").write_text(
        "from setuptools import setup; setup(name='datasets', version='1.0', packages=['datasets'])\n"
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "install", "--quiet"),
            *("--disable-pip-version-check", "--no-index", "--no-build-isolation", "--no-deps"),
            *("--ignore-installed", other, source),
        ],
        check=True,
        capture_output=True,
    )
    return environment


@pytest.fixture(scope="session")
def ceph_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Ceph's S3 gateway with the bucket `bucket`; yields what its clients need."""
    with ceph_server(tmp_path_factory.mktemp("ceph")) as environment:
        yield environment


@pytest.fixture
def ceph(ceph_gateway: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The same, of which this process is told."""
    for name, value in ceph_gateway.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    S3FileSystem.clear_instance_cache()  # of clients of another server
    yield ceph_gateway
    S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """node0 and node1, on which nothing runs."""
    with joined_hosts() as hosts:
        yield hosts


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 1.5 MB."""
    (tmp_path / "disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", tmp_path / "disk"])
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield tmp_path / "disk"
    subprocess.run(["umount", "--lazy", tmp_path / "disk"], check=True)  # maps may keep it busy
