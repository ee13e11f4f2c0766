"""A real Slurm on this machine: a controller, and two nodes that can be killed."""

import os
import secrets
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import gethostname

import psutil
import pytest

from ...stores import free_port

PROGRAMS = ("slurmctld", "slurmd", "srun", "munged")
BATCH_FILES = Path(__file__).parents[3] / "launch" / "slurm"
NODES = ("n0", "n1")
# As on a cluster, but for times: a node is given up after 5 s, and not 5 minutes; a requeued job waits for
# `cred_expire`, and not 2 minutes. There are no GPUs behind `Gres`: they are counted only.
CONFIG = """ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
FirstJobId={first}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=5
KillWait=20
GresTypes=gpu
NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[0]} CPUs=8 RealMemory=2000 Gres=gpu:1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=2000 Gres=gpu:1
PartitionName=low Nodes=ALL Default=YES State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL State=UP PriorityTier=10 PreemptMode=OFF
"""


@dataclass
class Slurm:
    """What a user of it can do, and who pulls a node's plug."""

    environment: dict[str, str]
    folder: Path
    stack: ExitStack
    nodes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def __call__(self, *words: str, **variables: str) -> str:
        """Run a command of Slurm; what it prints."""
        done = subprocess.run(
            words, env={**self.environment, **variables}, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, *words: str, **variables: str) -> str:
        """The id of the new job."""
        return self("sbatch", "--parsable", f"--chdir={self.folder}", *words, **variables)

    def facts(self, job: str) -> dict[str, str]:
        """What the controller knows of a job."""
        return dict(word.partition("=")[::2] for word in self("scontrol", "show", "job", job).split())

    def log(self, job: str) -> str:
        """What a job printed so far."""
        path = self.folder / self.facts(job)["StdOut"]
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def ended(self, job: str, seconds: float = 300) -> str:
        """Wait for the end of a job; how it ended."""

        def state() -> str:
            return self.facts(job)["JobState"]

        self.wait(lambda: state() not in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED"), job, seconds)
        return state()

    def wait(self, reached: Callable[[], bool], job: str, seconds: float = 300) -> None:
        """Wait for what a job brings about."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, f"{self.facts(job)}\n{self.log(job)}"
            time.sleep(0.2)

    def start_node(self, name: str) -> None:
        """Each is a namespace of processes, of which with the first one all are gone, as with its power."""
        words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]
        words += [f"slurmd -D -N {name}; exec sleep infinity"]
        self.nodes[name] = self.stack.enter_context(_running(words, self.environment, self.folder))

    def kill_node(self, name: str) -> None:
        """Pull its plug."""
        self.nodes[name].kill()
        self.nodes[name].wait()

    def shut_down_node(self, name: str) -> None:
        """As a machine is by its administrator: Slurm's daemon goes, and all else is asked to."""
        processes = psutil.Process(self.nodes[name].pid).children(recursive=True)
        (daemon,) = (each for each in processes if each.name() == "slurmd")
        asked = [each for each in processes if not each.name().startswith("slurm")]
        daemon.kill()
        for each in asked:
            with suppress(psutil.NoSuchProcess):  # it ended with another one
                each.terminate()

    def is_down(self, name: str) -> bool:
        """Whether a node is given up."""
        return self("sinfo", "-h", "-n", name, "-p", "low", "-o", "%T").startswith("down")

    def is_up(self) -> bool:
        return self("sinfo", "-h", "-N", "-p", "low", "-o", "%T").split() == ["idle"] * len(NODES)


def preempt(slurm: Slurm) -> None:
    """Submit a job that needs both nodes, and wait for its end."""
    other = slurm.submit("--partition=high", "--nodes=2", "--exclusive", "--wrap=true")
    assert slurm.ended(other) == "COMPLETED"


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Slurm]:
    """Run one; it starts in a second or two. Its jobs find the programs of this interpreter first."""
    if os.getuid() or not all(map(shutil.which, PROGRAMS)):
        pytest.skip("Slurm is missing, or root: apt-get install slurmctld slurmd slurm-client munge")
    ports = [free_port() for _ in NODES]
    first = 1 + secrets.randbelow(9000)  # by the ids of jobs their trainings choose ports
    host, port = gethostname().split(".")[0], free_port()
    config = CONFIG.format(host=host, port=port, ports=ports, first=first, folder=folder)
    (folder / "slurm.conf").write_text(config)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
    (folder / "state").mkdir()
    (folder / "munge.key").touch(mode=0o400)
    (folder / "munge.key").write_bytes(os.urandom(128))
    munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    files = [f"--{option}={folder}/munge.{ending}" for option, ending in munge.items()]
    ours = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    ours["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    with ExitStack() as stack:
        stack.enter_context(_running(["munged", "--foreground", "--force", *files], ours, folder))
        stack.enter_context(_running(["slurmctld", "-D", "-i"], ours, folder))
        slurm = Slurm(ours, folder, stack)
        for name in NODES:
            slurm.start_node(name)
        deadline = time.monotonic() + 30
        while not slurm.is_up():
            assert time.monotonic() < deadline, (folder / "slurmctld.log").read_text()
            time.sleep(0.1)
        yield slurm


@contextmanager
def _running(words: list[str], environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen]:
    """Run a daemon, which ends with the tests even if these are killed."""
    with open(folder / "daemons.log", "a") as log:
        words = ["setpriv", "--pdeathsig", "KILL", *words]
        daemon = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    try:
        yield daemon
    finally:
        daemon.kill()
        daemon.wait()
