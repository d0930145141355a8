"""A real Slurm on one machine: two emulated nodes, munge, an accounting database, all in one private folder.

    python tests/slurm/lab.py shell   a shell in which sinfo, sbatch, ... talk to it; gone when the shell ends
    python tests/slurm/lab.py serve   the same for a program: prints its folder, goes on until its standard input ends

Nothing is installed and nothing under /etc is touched: Debian's packages are downloaded with apt-get and unpacked into
the user's cache. Every daemon is a child of this process, which takes them down with it however it ends; what they
leave behind (steps of jobs) becomes its child too, by the kernel's child-subreaper flag, and is ended as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from filelock import FileLock
from leftovers import PLACE, PREFIX, clear

PACKAGES = (
    "munge libmunge2 libhwloc15 liblua5.1-0 slurm-wlm-basic-plugins slurm-client slurmctld slurmd slurmdbd "
    "slurm-wlm-mysql-plugin mariadb-server-core mariadb-common mysql-common libmariadb3 libaio1 liburing2"
)
NODES = ("n1", "n2")
CPUS, GPUS, MEMORY = 4, 2, 4000
"""What each emulated node claims to have; the GPUs are character devices under other names."""
LARGEST_ARRAY = 8
"""MaxArraySize, small, so that tests can see arrays split."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Unavailable(Exception):
    """Why no Slurm can be had here."""


def must_run(env: Mapping[str, str]) -> bool:
    """Whether tests that need Slurm fail where it cannot be had: in CI, which says so by `CI` (true, 1, a name)."""
    return env.get("CI", "").lower() not in ("", "0", "false", "no")


def binaries() -> Path:
    """Root of the unpacked packages, downloaded when they are not there yet.

    Raises:
        Unavailable: this is no Debian 12, or the packages cannot be downloaded.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"Slurm comes from Debian's packages, and there is no {program} here")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "videoadviser" / "slurm"
    cache.mkdir(parents=True, exist_ok=True)
    root, complete = cache / "root", cache / "root" / "complete"
    with FileLock(cache / "lock", timeout=600):
        if complete.is_file():
            return root
        shutil.rmtree(root, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            download = ["apt-get", "-q", "download", *PACKAGES.split()]
            done = subprocess.run(download, cwd=scratch, capture_output=True, text=True)
            if done.returncode:
                subprocess.run(["apt-get", "-q", "update"], capture_output=True)
                done = subprocess.run(download, cwd=scratch, capture_output=True, text=True)
            if done.returncode:
                raise Unavailable(f"apt-get download failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
            for package in Path(scratch).glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
        for daemon in ("slurmctld", "slurmd", "slurmstepd"):  # Debian does this with update-alternatives
            (root / "usr" / "sbin" / daemon).symlink_to(f"{daemon}-wlm")
        complete.touch()
    return root


def client_environment(folder: Path) -> dict[str, str]:
    """Variables with which Slurm's commands talk to the lab in a folder."""
    root = binaries()
    library = next((root / "usr" / "lib").glob("*-linux-gnu"))
    libraries = [str(library), str(library / "slurm-wlm"), os.environ.get("LD_LIBRARY_PATH")]
    return {
        "SLURM_CONF": str(folder.absolute() / "slurm.conf"),
        "PATH": f"{root}/usr/bin:{root}/usr/sbin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }


class Lab:
    """The daemons, and what a client needs to reach them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder.absolute(), binaries()
        self.user = getpass.getuser()
        self.env = client_environment(self.folder)
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def up(self) -> None:
        """Start everything; returns when both nodes are idle."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        os.umask(0o022)
        ports = _free_ports(6)
        self._write_configuration(ports)
        sbin = self.root / "usr" / "sbin"
        munge = self.folder / "munge"
        self._start(
            "munged", sbin / "munged", "-F", "--force", f"--key-file={munge}/key", f"--socket={munge}/socket",
            f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        self._start_database(sbin / "mariadbd", ports[5])
        self._start("slurmdbd", sbin / "slurmdbd", "-D")
        self._until("the accounting database", lambda: self.ok("sacctmgr", "-n", "list", "cluster"))
        for words in ("cluster lab", "account lab", f"user {self.user} account=lab"):
            self.run("sacctmgr", "-i", "-Q", "add", *words.split())
        self._start("slurmctld", sbin / "slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)

    def start_node(self, node: str) -> None:
        """Start a node's daemon; returns when the node takes jobs: ReturnToService puts it back by itself."""
        sbin = self.root / "usr" / "sbin"
        self._start(node, sbin / "slurmd", "-D", "-N", node, "-d", str(sbin / "slurmstepd"))
        state = ("sinfo", "-h", "-p", "main", "-n", node, "-o", "%T")
        self._until(f"node {node}", lambda: self.run(*state).stdout.strip() in ("idle", "mixed", "allocated"))

    def kill_node(self, node: str) -> None:
        """What the others see of a node that loses power: its daemon and all its processes are gone at once."""
        import psutil

        daemon = self.daemons.pop(node)
        daemon.kill()
        daemon.wait()
        for step in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                log = f"/slurmd.{node}.log"  # steps are told apart by the log of their node
                if step.name() == "slurmstepd" and any(file.path.endswith(log) for file in step.open_files()):
                    below = step.children(recursive=True)
                    for process in (step, *below):
                        process.kill()
        assert self.ok("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def down(self) -> None:
        """End all jobs and daemons, whatever state they are in."""
        if "slurmctld" in self.daemons:
            self.run("scancel", "-f", "-s", "KILL", "-u", self.user)
            self.run("scancel", "-u", self.user)
        for process in reversed(self.daemons.values()):  # one after the other: each waits long for one that it needs
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.daemons.clear()
        _end_descendants()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Call a command of Slurm."""
        return subprocess.run(words, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=60)

    def ok(self, *words: str) -> bool:
        """Whether a command succeeds."""
        return self.run(*words).returncode == 0

    def _start(self, name: str, *words: object) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                [str(word) for word in words],
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def _start_database(self, program: Path, port: int) -> None:
        share, data = self.root / "usr" / "share" / "mysql", self.folder / "database"
        data.mkdir()
        words = [
            str(program), "--no-defaults", f"--basedir={self.root}/usr", f"--datadir={data}", f"--user={self.user}",
            f"--lc-messages-dir={share}", "--skip-log-bin", "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=0",
        ]  # fmt: skip
        tables = [share / f"mysql_{part}.sql" for part in ("system_tables", "performance_tables", "system_tables_data")]
        script = "create database if not exists mysql;\nuse mysql;\n" + "".join(path.read_text() for path in tables)
        env = {**os.environ, **self.env}
        subprocess.run([*words, "--bootstrap"], input=script.encode(), env=env, capture_output=True, check=True)
        # No passwords: it listens on the loopback interface alone and lives as long as the tests.
        connection = ["--skip-grant-tables", "--bind-address=127.0.0.1", f"--port={port}"]
        self._start("mariadbd", *words, *connection, f"--socket={self.folder}/database.socket")
        self._until("the database", (self.folder / "database.socket").exists)

    def _until(self, what: str, ready: Callable[[], bool], patience: float = 90) -> None:
        deadline = time.monotonic() + patience
        while not ready():
            dead = [name for name, process in self.daemons.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "".join(
                    f"== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-10:]) + "\n"
                    for path in sorted((self.folder / "log").glob("*"))
                )
                raise RuntimeError(f"waited for {what}; ended: {dead}\n{logs}")
            time.sleep(0.1)

    def _write_configuration(self, ports: list[int]) -> None:
        for name in ("log", "state", "munge", "dev", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True, mode=0o755)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        devices = ("null", "zero", "full", "random")[:GPUS]
        for number, device in enumerate(devices):
            (self.folder / "dev" / f"nvidia{number}").symlink_to(f"/dev/{device}")
        plugins = next((self.root / "usr" / "lib").glob("*-linux-gnu/slurm-wlm"))
        values = {
            "folder": self.folder, "user": self.user, "host": socket.gethostname().split(".")[0],
            "plugins": plugins, "cpus": CPUS, "gpus": GPUS, "memory": MEMORY, "largest": LARGEST_ARRAY,
            # Job ids start anew with each lab; they must not repeat in folders that outlive one.
            "first": int(time.time()) % 10_000_000 * 6 + 1,
            **{f"port{n}": port for n, port in enumerate(ports)},
        }  # fmt: skip
        for name, text in (("slurm.conf", SLURM_CONF), ("slurmdbd.conf", SLURMDBD_CONF), ("gres.conf", GRES_CONF)):
            (self.folder / name).write_text(text.format(**values))
            (self.folder / name).chmod(0o600 if name == "slurmdbd.conf" else 0o644)


SLURM_CONF = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port0}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A requeued job waits for its old credential to expire, 120 s by default; 5 is the least that works.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
FirstJobId={first}
MailProg=/bin/true
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=1,sched_interval=2
JobRequeue=1
KillWait=3
MinJobAge=300
MaxArraySize={largest}
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=20
InactiveLimit=0
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port4}
AccountingStoragePass={folder}/munge/socket
AccountingStorageEnforce=limits
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus}
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=120
PartitionName=high Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""

SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port4}
SlurmUser={user}
PidFile={folder}/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
PluginDir={plugins}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={port5}
StorageUser=root
StorageLoc=slurm_acct_db
"""

GRES_CONF = "Name=gpu File={folder}/dev/nvidia[0-1]\n"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _end_descendants() -> None:
    """End every process below this one: steps of jobs have lost their daemon and are our children now."""
    import psutil

    for _ in range(5):
        left = psutil.Process().children(recursive=True)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)


@contextlib.contextmanager
def running() -> Iterator[Lab]:
    """A lab in a new folder under /tmp: the path of munge's socket must be short, and open to all."""
    clear()
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, dir=PLACE, ignore_cleanup_errors=True) as folder,
        (Path(folder) / "alive").open("wb") as alive,
    ):
        fcntl.flock(alive, fcntl.LOCK_EX)
        Path(folder).chmod(0o755)
        lab = Lab(Path(folder))
        try:
            lab.up()
            yield lab
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            lab.down()


def serve() -> None:
    """Bring a lab up, print its folder, take it down when standard input ends or a signal comes."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    _die_with_parent()  # also while it comes up and does not look at its standard input
    with running() as lab:
        print(lab.folder, flush=True)
        for line in sys.stdin:
            command, node = line.split()
            if command == "kill-node":
                lab.kill_node(node)
            elif command == "start-node":
                lab.start_node(node)
            print("DONE", flush=True)


def shell() -> None:
    """An interactive shell beside a lab."""
    with running() as lab:
        print(f"Slurm is up in {lab.folder}; leave the shell to take it down")
        subprocess.run([os.environ.get("SHELL", "/bin/bash")], env={**os.environ, **lab.env})


if __name__ == "__main__":
    commands = {"serve": serve, "shell": shell}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()
