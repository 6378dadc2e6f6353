"""What strace says that an agent did, and what it may do: what deploy/README.md says that it reads, for which source, and nothing else."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
EXITS = "/run/containerd-data/io.containerd.grpc.v1.cri/containers"
"""Where the lab's containerd keeps how pods' containers ended."""
PLACES = (EXITS, "/var/lib/containerd/io.containerd.grpc.v1.cri/containers", "/run/crio/exits", "/run/libpod/exits")
"""What one that is not there yet is in, is watched."""


@dataclass(frozen=True)
class Reads:
    """What is read for one row of the matrix: a pattern of paths, and the words with which the row names them.

    PID is any number, `self` the agent's own, ID a container's id. `listed` is for directories whose files are not opened.
    """

    source: str
    path: str
    words: tuple[str, ...]
    listed: bool = False


def _files(source: str, directory: str, *names: str) -> list[Reads]:
    return [Reads(source, f"{directory}/{re.escape(name)}", (name,)) for name in names]


MATRIX = (
    Reads("cgroup", r"/sys/fs/cgroup(/.+)?", ("/sys/fs/cgroup",)),
    Reads("proc", r"/proc", ("/proc",), listed=True),
    *_files("proc", "/proc/(PID|self)", "stat", "cgroup", "status", "mountinfo", "ns/pid"),
    *_files("proc", "/proc/PID", "uid_map", "wchan", "stack", "oom_score_adj", "task"),
    Reads("proc", r"/proc/PID/task/PID/status", ("task",)),
    Reads("proc", r"/proc/PID/ns/\w+", ("ns/",)),
    *_files("proc", "/proc/self", "fd", "limits", "statm"),
    *_files("proc", "/proc", "stat", "loadavg", "partitions", "cgroups", "meminfo", "sys/vm/swappiness"),
    *_files("proc", "/proc", "pressure/cpu", "pressure/memory", "pressure/io"),
    *_files("proc", "/proc", "sys/kernel/pid_max", "sys/kernel/threads-max", "sys/kernel/random/boot_id"),
    *_files("proc", "/proc", "sys/fs/inotify/max_user_watches"),
    Reads("kmsg", r"/dev/kmsg", ("/dev/kmsg",)),
    Reads("oci", r"(/run|/var/lib|/var/snap)(/[\w.-]+)+/(k8s\.io|overlay-containers)", ("--path.bundles",), listed=True),
    Reads("oci", r".+/(k8s\.io|overlay-containers)/ID", ("--path.bundles",), listed=True),
    Reads("oci", r".+/(k8s\.io|overlay-containers)/ID/userdata", ("userdata",), listed=True),
    *_files("oci", r".+/(k8s\.io|overlay-containers)/ID(/userdata)?", "config.json", "shim-binary-path"),
    Reads("exit_files", "|".join(PLACES), ("--path.exits",), listed=True),
    Reads("exit_files", rf"{EXITS}/ID", ("status",)),  # a directory of containerd; of CRI-O and Podman a file
    Reads("exit_files", rf"{EXITS}/ID/status", ("status",)),
    Reads("signals", r"/sys/kernel/tracing/instances/coroner(/.+)?", ("--path.tracefs",)),
    Reads("layers", r"/proc/1/root/.*|/run/docker-data/overlay2/ID/diff(/.*)?", ("/proc/1/root",), listed=True),
    Reads(
        "layers", r"/run/containerd-data/io\.containerd\.snapshotter\.v1\.overlayfs/snapshots/\d+/fs(/.*)?", ("/proc/1/root",), listed=True
    ),
)
"""Every file that an agent may open, but for what Python needs and its own settings."""

_PREFIXES = "|".join(re.escape(f"{prefix}/{part}") for prefix in {sys.prefix, sys.base_prefix} for part in ("bin", "lib", "pyvenv.cfg"))
_PREFIXES += "|" + re.escape(sys.prefix)
PYTHON = re.compile(
    rf"({_PREFIXES})(/.*)?|{re.escape(str(ROOT))}(/(agent|collectors)(/.*)?)?|(/usr)?/lib(64)?/.*|/etc/ld\.so\.(cache|preload)"
    r"|/dev/(null|urandom)|/etc/(localtime|mime\.types|ssl/openssl\.cnf|ssl/certs|locale\.alias)|/usr/share/(zoneinfo|locale)/.*"
    r"|/sys/devices/system/cpu/online"
)
"""What any program of Python opens that serves and asks by HTTP: itself, libraries, the time zone, authorities."""

UNTRACED = (
    "read,pread64,readv,recvfrom,recvmsg,close,lseek,mmap,munmap,mprotect,mremap,madvise,brk,futex,rt_sigaction,rt_sigprocmask,"
    "rt_sigreturn,sigaltstack,time,gettimeofday,clock_getres,clock_gettime,clock_nanosleep,epoll_create1,epoll_ctl,epoll_wait,"
    "epoll_pwait,poll,ppoll,select,getpid,gettid,getrandom,rseq,set_robust_list,set_tid_address,arch_prctl,prlimit64,sysinfo,"
    "uname,getuid,geteuid,getgid,getegid,sched_yield,sched_getaffinity,getsockopt,getsockname,getpeername,getdents64,getppid,"
    "getrusage,times,fadvise64,restart_syscall,"
    "newfstatat,stat,lstat,fstat,statx,access,faccessat2,statfs,fstatfs"  # what is there: most calls of Python, and nothing is opened
)
"""They open no file, name no process or address, and change nothing but the caller."""
OPENS = {"openat", "open", "readlink", "readlinkat", "inotify_add_watch"}
CHANGES = {"mkdir", "rmdir", "unlink", "rename"}
WRITES = {"write", "writev", "pwrite64", "ftruncate", "fallocate", "fchmod", "fchown"}
NETWORK = {"connect", "bind", "sendto", "sendmsg"}
HARMLESS = {"accept4", "listen", "setsockopt", "shutdown", "socketpair", "exit", "exit_group", "fcntl", "flock", "fdatasync", "fsync"}
HARMLESS |= {"getcwd", "inotify_init1", "inotify_rm_watch", "pidfd_open", "pipe2", "eventfd2", "syslog"}
"""Also without a word of any file, or only of one that was opened before."""
_HOW_IT_ENDED = r"PIDFD_GET_INFO|_IOC\(_IOC_READ\|_IOC_WRITE, 0xff, 0xb, "
CHECKED = {
    "socket": r"AF_(UNIX|INET|INET6), SOCK_STREAM\b.*",
    "clone": r".*\bCLONE_THREAD\b.*",
    "clone3": r".*\bCLONE_THREAD\b.*",
    "prctl": r"PR_SET_NAME, .*",
    "ioctl": r"\d+<.*>(\(deleted\))?, (TCGETS|FIONBIO|FIOCLEX|TIOCGWINSZ)\b.*|" rf"\d+<anon_inode:\[pidfd\]>, ({_HOW_IT_ENDED}).*",
}
"""Harmless with these arguments: a thread and no process, a stream and no packets, how a process has ended."""


HAS_IPV6 = r'sin6_port=htons\(0\), .*"::1"'
"""urllib3, which the Docker SDK asks through, binds a socket there and closes it, to see whether there is IPv6."""


@dataclass(frozen=True)
class Call:
    """One system call: its name, its arguments and what it returned, as strace -y writes them."""

    name: str
    arguments: str
    result: str

    @property
    def paths(self) -> list[str]:
        """The paths that it names, absolute if they or their directory are."""
        found = re.findall(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', self.arguments)
        return [path if path.startswith("/") or not directory else f"{directory}/{path}".rstrip("/") for directory, path in found]

    @property
    def descriptor(self) -> str:
        """What its first argument is, if that is a descriptor."""
        found = re.match(r"\d+<(.*?)>(?:\(deleted\))?(?:,|$)", self.arguments)
        return found[1] if found else ""

    @property
    def opened(self) -> str:
        """The file behind the descriptor that it returned, all links followed; else what it asked for."""
        found = re.match(r"\d+<(.*)>", self.result)
        return found[1] if found else (self.paths or ["?"])[0]

    def __str__(self) -> str:
        """Spell it as strace does."""
        return f"{self.name}({self.arguments}) = {self.result}"


def strace(prefix: Path) -> list[str]:
    """Return what starts a program whose every thread's calls go to a file that begins with this prefix.

    The tracer is a grandchild (-D), so signals reach the program itself, and its end is seen too.
    """
    how = ["-D", "-ff", "-q", "-y", "--seccomp-bpf", "--signal=none", f"--trace=!{UNTRACED}", f"--output={prefix}"]
    return ["strace", *how]


def has_ended(prefix: Path) -> bool:
    """Whether the trace is complete: its first thread, the one with the lowest number, has ended."""
    files = _files_of(prefix)
    return bool(files) and "\n+++ exited with " in files[0].read_text(errors="replace")


def calls(prefix: Path) -> Iterator[Call]:
    """Yield what was traced, thread by thread, the first one first."""
    for file in _files_of(prefix):
        for line in file.read_text(errors="replace").splitlines():
            if not line.startswith("+++ "):
                found = re.fullmatch(r"(\w+)\((.*)\) += (.*)|(\w+)\((.*) <unfinished \.\.\.>", line)
                assert found, f"what does strace say: {line}"
                yield Call(found[1] or found[4], found[2] or found[5] or "", found[3] or "?")


def _files_of(prefix: Path) -> list[Path]:
    return sorted(prefix.parent.glob(f"{prefix.name}.*"), key=lambda file: int(file.suffix[1:]))


class Judge:
    """Says what an agent did that it may not.

    `state` is its directory, `log` what it writes to, `settings` are files that its flags name, `peers` patterns of addresses as strace
    spells them: of those that it listens on, and of those that it asks. `tracefs` is where that is mounted for it.
    """

    def __init__(
        self,
        prefix: Path,
        *,
        state: Path,
        log: Path,
        settings: Sequence[Path] = (),
        peers: Sequence[str] = (),
        tracefs: str = "/sys/kernel/tracing",
    ) -> None:
        self._own = "|".join(file.suffix[1:] for file in _files_of(prefix))
        self._state = re.compile(rf"{re.escape(str(state))}(/casebook\.sqlite[\w.-]*)?")
        self._tracefs = tracefs
        self._tracing = re.compile(next(each.path for each in MATRIX if each.source == "signals"))
        self._written = re.compile(rf"{re.escape(str(log))}|(socket|pipe):\[\d+\]|anon_inode:.*")
        self._settings = set(map(str, settings))
        self._peers = (HAS_IPV6, *peers)
        self.seen: dict[str, set[str]] = defaultdict(set)
        """What was opened for each source, as the matrix spells it."""
        self.wrong: dict[str, set[str]] = defaultdict(set)
        """The calls that it may not make, by what they are: read, write, network, process."""
        starts = 0
        for call in calls(prefix):
            starts += call.name == "execve"
            if what := self._wrong(call, is_first=starts == 1):
                self.wrong[what].add(str(call))

    def _wrong(self, call: Call, *, is_first: bool) -> str:
        """Say what a call does that it may not; nothing if it may."""
        if call.name in OPENS:
            writes = re.search(r"\bO_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)\b", call.arguments)
            what, may = ("write", self._may_change(call.opened)) if writes else ("read", self._may_read(call))
        elif call.name in CHANGES:
            what, may = "write", all(map(self._may_change, call.paths))
        elif call.name in WRITES:
            what, may = "write", self._may_change(call.descriptor) or bool(self._written.fullmatch(call.descriptor))
        elif call.name in NETWORK:
            what, may = "network", "sa_family=" not in call.arguments or any(re.search(peer, call.arguments) for peer in self._peers)
        else:
            harmless = call.name in HARMLESS or bool(re.fullmatch(CHECKED.get(call.name, "never"), call.arguments))
            what, may = "process", harmless or (call.name == "execve" and is_first)
        return "" if may else what

    def _may_change(self, path: str) -> bool:
        return bool(self._state.fullmatch(path) or self._tracing.fullmatch(self._named(path)))

    def _may_read(self, call: Call) -> bool:
        path = self._named(call.opened)
        is_above_python = call.name == "readlink" and Path(path) in Path(sys.prefix).parents  # whether that is a link
        if path in self._settings or PYTHON.fullmatch(path) or self._state.fullmatch(path) or is_above_python:
            return True
        row = self._row(path)
        if row is None or (row.listed and call.name == "openat" and "O_DIRECTORY" not in call.arguments):
            # A directory that is only watched: parents of one that is not there yet.
            return call.name == "inotify_add_watch" and any(place.startswith(f"{path}/") for place in PLACES)
        self.seen[row.source].add(path)
        return True

    def _row(self, path: str) -> Reads | None:
        return next((each for each in MATRIX if re.fullmatch(each.path, path)), None)

    def _named(self, path: str) -> str:
        """Spell a path as the matrix does."""
        path = re.sub(rf"^{re.escape(self._tracefs)}(?=/)", "/sys/kernel/tracing", path)
        path = re.sub(rf"^/proc/({self._own})(?=/|$)", "/proc/self", path)
        if not path.startswith("/proc/1/root"):
            path = re.sub(r"^/proc/\d+", "/proc/PID", path)
            path = re.sub(r"^/proc/PID/task/\d+", "/proc/PID/task/PID", path)
        return re.sub(r"(?<=/)[0-9a-f]{64}(?=/|$)", "ID", path)
