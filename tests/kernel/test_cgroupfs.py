"""The readers of cgroup files, with what 5.10, 6.1, 6.12 and 7.2 print."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.kernel import cgroupfs
from collectors.kernel.cgroupfs import CgroupEvents, CpuStat, DeviceIo, MemoryEvents, Pressure
from collectors.kernel.files import Gone, KernelFiles, Malformed, ReadError, Unsupported
from tests.tree import tree

Reader = Callable[[KernelFiles, str], Any]

READERS: Mapping[str, Reader] = {
    "memory.current": cgroupfs.memory_current,
    "memory.peak": cgroupfs.memory_peak,
    "memory.max": cgroupfs.memory_max,
    "memory.high": cgroupfs.memory_high,
    "memory.low": cgroupfs.memory_low,
    "memory.swap.max": cgroupfs.memory_swap_max,
    "memory.events": cgroupfs.memory_events,
    "memory.oom.group": cgroupfs.memory_oom_group,
    "memory.stat": cgroupfs.memory_inactive_file,
    "cpu.stat": cgroupfs.cpu_stat,
    "cpu.max": cgroupfs.cpu_limit,
    "io.stat": cgroupfs.io_stat,
    "pids.current": cgroupfs.pids_current,
    "pids.max": cgroupfs.pids_max,
    "pids.peak": cgroupfs.pids_peak,
    "pids.events": cgroupfs.pids_events_max,
    "cpu.pressure": partial(cgroupfs.pressure, resource="cpu"),
    "memory.pressure": partial(cgroupfs.pressure, resource="memory"),
    "io.pressure": partial(cgroupfs.pressure, resource="io"),
    "cgroup.events": cgroupfs.cgroup_events,
    "cgroup.stat": cgroupfs.dying_descendants,
}

MEMORY_STAT_5_10 = (
    b"anon 1486848\nfile 4866048\nkernel_stack 49152\npercpu 0\nsock 0\nshmem 0\nfile_mapped 135168\nfile_dirty 0\nfile_writeback 0\n"
    b"anon_thp 0\ninactive_anon 1351680\nactive_anon 135168\ninactive_file 4730880\nactive_file 135168\nunevictable 0\n"
    b"slab_reclaimable 221184\nslab_unreclaimable 110592\nslab 331776\nworkingset_refault_anon 0\nworkingset_refault_file 0\n"
    b"workingset_activate_anon 0\nworkingset_activate_file 0\npgfault 2013\npgmajfault 33\npgrefill 0\npgscan 0\npgsteal 0\n"
)
MEMORY_STAT_6_12 = (
    b"anon 2846720\nfile 7639040\nkernel 901120\nkernel_stack 81920\npagetables 98304\nsec_pagetables 0\npercpu 720\nsock 0\nvmalloc 0\n"
    b"shmem 0\nzswap 0\nzswapped 0\nfile_mapped 4591616\nfile_dirty 0\nfile_writeback 0\nswapcached 0\nanon_thp 0\nfile_thp 0\n"
    b"shmem_thp 0\ninactive_anon 0\nactive_anon 2805760\ninactive_file 2572288\nactive_file 5066752\nunevictable 0\n"
    b"slab_reclaimable 364032\nslab_unreclaimable 171880\nslab 535912\npgdemote_kswapd 0\npgfault 9871\npgmajfault 40\n"
)

CASES: list[tuple[str, str, bytes, Any]] = [
    ("memory.current", "all", b"10485760\n", 10485760),
    ("memory.current", "nothing charged", b"0\n", 0),
    ("memory.peak", "since 5.19", b"12587008\n", 12587008),
    ("memory.max", "limited", b"268435456\n", 268435456),
    ("memory.max", "unlimited", b"max\n", None),
    ("memory.high", "limited", b"134217728\n", 134217728),
    ("memory.high", "unlimited", b"max\n", None),
    ("memory.low", "none", b"0\n", 0),
    ("memory.swap.max", "none allowed", b"0\n", 0),
    ("memory.swap.max", "unlimited", b"max\n", None),
    ("memory.low", "all", b"max\n", None),
    ("memory.events", "4.14", b"low 0\nhigh 11\nmax 35\noom 1\n", MemoryEvents(0, 11, 35, 1, None, None)),
    ("memory.events", "5.10", b"low 0\nhigh 11\nmax 35\noom 12\noom_kill 14\n", MemoryEvents(0, 11, 35, 12, 14, None)),
    ("memory.events", "6.1", b"low 0\nhigh 11\nmax 35\noom 12\noom_kill 14\noom_group_kill 13\n", MemoryEvents(0, 11, 35, 12, 14, 13)),
    (
        "memory.events",
        "7.2",
        b"low 20\nhigh 11\nmax 35\noom 12\noom_kill 14\noom_group_kill 13\nsock_throttled 99\n",
        MemoryEvents(20, 11, 35, 12, 14, 13),
    ),
    ("memory.oom.group", "set", b"1\n", True),
    ("memory.oom.group", "not set", b"0\n", False),
    ("memory.stat", "5.10", MEMORY_STAT_5_10, 4730880),
    ("memory.stat", "6.12", MEMORY_STAT_6_12, 2572288),
    ("cpu.stat", "without the controller", b"usage_usec 123\nuser_usec 45\nsystem_usec 78\n", CpuStat(123, 45, 78, None, None, None)),
    (
        "cpu.stat",
        "5.10",
        b"usage_usec 123\nuser_usec 45\nsystem_usec 78\nnr_periods 10\nnr_throttled 11\nthrottled_usec 4096\n",
        CpuStat(123, 45, 78, 10, 11, 4096),
    ),
    (
        "cpu.stat",
        "6.1",
        b"usage_usec 123\nuser_usec 45\nsystem_usec 78\nnr_periods 10\nnr_throttled 11\nthrottled_usec 4096\nnr_bursts 12\nburst_usec 13\n",
        CpuStat(123, 45, 78, 10, 11, 4096),
    ),
    (
        "cpu.stat",
        "6.12",
        b"usage_usec 123\nuser_usec 45\nsystem_usec 78\nnice_usec 12\ncore_sched.force_idle_usec 13\nnr_periods 10\nnr_throttled 11\n"
        b"throttled_usec 4096\nnr_bursts 14\nburst_usec 15\n",
        CpuStat(123, 45, 78, 10, 11, 4096),
    ),
    ("cpu.max", "limited", b"150000 100000\n", 1.5),
    ("cpu.max", "another period", b"25000 50000\n", 0.5),
    ("cpu.max", "unlimited", b"max 100000\n", None),
    ("io.stat", "no I/O", b"", {}),
    (
        "io.stat",
        "two devices",
        b"8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=10 dios=11\n"
        b"253:0 rbytes=12 wbytes=13 rios=14 wios=15 dbytes=0 dios=0\n",
        {"8:16": DeviceIo(1459200, 314773504, 192, 353), "253:0": DeviceIo(12, 13, 14, 15)},
    ),
    (
        "io.stat",
        "a device without counters, and more keys",
        b"8:0 \n8:16 rbytes=12 wbytes=13 rios=14 wios=15 dbytes=0 dios=0 use_delay=1 delay_nsec=2 cost.usage=345\n",
        {"8:16": DeviceIo(12, 13, 14, 15)},
    ),
    (
        "io.stat",
        "5.14 to 5.16: no newline behind a device without counters",
        b"8:0 7:1 8:16 rbytes=12 wbytes=13 rios=14 wios=15 dbytes=0 dios=0\n8:32 ",
        {"8:16": DeviceIo(12, 13, 14, 15)},
    ),
    (
        "io.stat",
        "hidden multipath devices all have the same name",
        b"(unknown) \n(unknown) rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"
        b"259:1 rbytes=12 wbytes=13 rios=14 wios=15 dbytes=0 dios=0\n",
        {"259:1": DeviceIo(12, 13, 14, 15)},
    ),
    ("io.stat", "only a delay", b"8:0 use_delay=1 delay_nsec=20\n", {}),
    ("pids.current", "all", b"371\n", 371),
    ("pids.max", "limited", b"512\n", 512),
    ("pids.max", "unlimited", b"max\n", None),
    ("pids.peak", "since 6.1", b"512\n", 512),
    ("pids.events", "all", b"max 17\n", 17),
    ("pids.events", "newer", b"max 17\nmax.imposed 18\n", 17),
    ("cpu.pressure", "5.10", b"some avg10=0.12 avg60=0.34 avg300=0.56 total=123456\n", Pressure(123456, None)),
    *(
        (
            f"{resource}.pressure",
            "6.1",
            b"some avg10=0.12 avg60=0.34 avg300=0.56 total=123456\nfull avg10=0.01 avg60=0.02 avg300=0.03 total=78901\n",
            Pressure(123456, 78901),
        )
        for resource in ("cpu", "memory", "io")
    ),
    (
        "io.pressure",
        "newer",
        b"some avg10=0.12 avg60=0.34 avg300=0.56 total=123456 max=5\nfull avg10=0.01 total=78901\nmost total=3\n",
        Pressure(123456, 78901),
    ),
    ("cgroup.events", "before 5.2", b"populated 1\n", CgroupEvents(populated=True, frozen=None)),
    ("cgroup.events", "5.10", b"populated 1\nfrozen 0\n", CgroupEvents(populated=True, frozen=False)),
    ("cgroup.events", "paused", b"populated 1\nfrozen 1\n", CgroupEvents(populated=True, frozen=True)),
    ("cgroup.events", "ended, newer", b"populated 0\nfrozen 0\nmood 1\n", CgroupEvents(populated=False, frozen=False)),
    ("cgroup.stat", "5.10", b"nr_descendants 45\nnr_dying_descendants 12\n", 12),
    (
        "cgroup.stat",
        "6.12",
        b"nr_descendants 45\nnr_subsys_cpu 3\nnr_subsys_memory 45\n"
        b"nr_dying_descendants 12\nnr_dying_subsys_cpu 0\nnr_dying_subsys_memory 13\n",
        12,
    ),
]


@pytest.fixture
def files() -> KernelFiles:
    """Descriptors that are not kept."""
    return KernelFiles(0)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for the many contents of a property."""
    return tmp_path_factory.mktemp("cgroup")


def parts(value: Any) -> dict[Any, Any]:
    """Take a reader's result apart into the values that a metric may come from."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value if isinstance(value, dict) else {"": value}


@pytest.mark.parametrize(
    ("name", "raw", "value"), [(name, raw, value) for name, _, raw, value in CASES], ids=[f"{c[0]}: {c[1]}" for c in CASES]
)
def test_content(files: KernelFiles, tmp_path: Path, name: str, raw: bytes, value: Any) -> None:
    """What each kernel prints: keys that it lacks are None, keys that are new are ignored."""
    (tmp_path / name).write_bytes(raw)

    assert READERS[name](files, str(tmp_path)) == value


@pytest.mark.parametrize(
    ("name", "raw", "value"), [(name, raw, value) for name, _, raw, value in CASES], ids=[f"{c[0]}: {c[1]}" for c in CASES]
)
def test_cut_content_never_gives_a_wrong_number(files: KernelFiles, directory: Path, name: str, raw: bytes, value: Any) -> None:
    """Cut after any byte, each value is the true one or absent; absence of a limit (None) is a value too."""
    truth = parts(value)
    for end in range(len(raw)):
        (directory / name).write_bytes(raw[:end])
        try:
            found = READERS[name](files, str(directory))
        except Malformed:
            continue
        for key, one in parts(found).items():
            absent = one is None and key != ""
            assert absent or one == truth[key], raw[:end]


@pytest.mark.parametrize("name", READERS)
def test_absent_file(files: KernelFiles, tmp_path: Path, name: str) -> None:
    """Every file is optional while the cgroup is there, and the cgroup may be gone."""
    with pytest.raises(Unsupported) as unsupported:
        READERS[name](files, str(tmp_path))
    assert unsupported.value.path == f"{tmp_path}/{name}"
    with pytest.raises(Gone):
        READERS[name](files, f"{tmp_path}/removed")


WRONG = {
    "binary": b"\x00\xff \xfe\n",
    "words": b"hello world and more\n",
    "another flat file": b"nr_free_pages 12\nnr_zone 13\n",
    "blank lines": b"\n\n",
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("raw", WRONG.values(), ids=WRONG)
def test_the_wrong_file_is_malformed(files: KernelFiles, tmp_path: Path, name: str, raw: bytes) -> None:
    """The message names the path."""
    (tmp_path / name).write_bytes(raw)

    with pytest.raises(Malformed) as malformed:
        READERS[name](files, str(tmp_path))
    assert malformed.value.path == f"{tmp_path}/{name}"


@pytest.mark.parametrize("name", sorted(READERS.keys() - {"io.stat"}))
def test_an_empty_file_is_malformed(files: KernelFiles, tmp_path: Path, name: str) -> None:
    """Only io.stat is empty before anything happened."""
    (tmp_path / name).write_bytes(b"")

    with pytest.raises(Malformed):
        READERS[name](files, str(tmp_path))


WORDS = sorted({word for _, _, raw, _ in CASES for word in raw.replace(b"=", b"= ").split()} | {b"max", b"0", b"-1", b"="})
SOUP = st.lists(st.sampled_from([*WORDS, b" ", b"\n"]), max_size=30).map(b"".join)


@pytest.mark.parametrize("name", READERS)
@settings(deadline=None)
@given(raw=SOUP | st.binary(max_size=60))
def test_garbage_is_understood_or_malformed(directory: Path, name: str, raw: bytes) -> None:
    """A reader raises ReadError and nothing else, whatever it reads."""
    (directory / name).write_bytes(raw)

    with suppress(ReadError):
        READERS[name](KernelFiles(0), str(directory))


@pytest.mark.parametrize("number", [-1, (1 << 64) - 4096])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("memory.current", "{}\n"),
        ("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill {}\n"),
        ("memory.stat", "anon 0\ninactive_file {}\nactive_file 0\n"),
        ("cpu.stat", "usage_usec 1\nuser_usec 1\nsystem_usec 0\nnr_periods 0\nnr_throttled 0\nthrottled_usec {}\n"),
        ("io.stat", "8:0 rbytes=0 wbytes={} rios=0 wios=1 dbytes=0 dios=0\n"),
        ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total={0}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={0}\n"),
    ],
)
def test_a_number_that_fell_below_0_is_malformed(files: KernelFiles, tmp_path: Path, name: str, content: str, number: int) -> None:
    """Whatever is made of it would be wrong: a working set of 0, a rate of exabytes."""
    (tmp_path / name).write_text(content.format(number))

    with pytest.raises(Malformed, match="negative or so large"):
        READERS[name](files, str(tmp_path))


@pytest.mark.parametrize("raw", [b"1 0\n", b"max\n", b"1 2 3\n", b"max 100000", b"150000 1000"])
def test_cpu_max_is_two_words(files: KernelFiles, tmp_path: Path, raw: bytes) -> None:
    """A period of 0 is not a limit of infinity."""
    (tmp_path / "cpu.max").write_bytes(raw)

    with pytest.raises(Malformed):
        cgroupfs.cpu_limit(files, str(tmp_path))


# Where the hierarchy is

HYBRID = (
    "24 30 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
    "31 24 0:26 / {root} ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n"
    "33 31 0:28 / {root}/systemd rw,nosuid shared:11 - cgroup cgroup rw,name=systemd\n"
    "32 31 0:27 / {root}/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"
)


def mountinfo(tmp_path: Path, table: str) -> str:
    """Write a table of mounts for find_root."""
    (tmp_path / "mountinfo").write_text(table.format(root=f"{tmp_path}/cgroup"))
    return f"{tmp_path}/mountinfo"


@pytest.mark.parametrize(
    ("raw", "pids"),
    [(b"", []), (b"7\n1234567\n", [7, 1234567]), (b"0\n0\n", [0, 0]), (b"".join(b"%d\n" % pid for pid in range(9999)), [*range(9999)])],
)
def test_processes(tmp_path: Path, raw: bytes, pids: list[int]) -> None:
    """All of them, also of a list longer than one read; 0 is one that the reader's PID namespace has no number for."""
    tree(tmp_path, {"cgroup.procs": raw})

    assert cgroupfs.processes(str(tmp_path)) == pids


@pytest.mark.parametrize("raw", [b"7", b"12\n3", b"\n", b"seven\n"])
def test_processes_of_a_wrong_file_are_malformed(tmp_path: Path, raw: bytes) -> None:
    """A cut number would be another process."""
    tree(tmp_path, {"cgroup.procs": raw})

    with pytest.raises(Malformed, match=r"cgroup\.procs: not the documented format"):
        cgroupfs.processes(str(tmp_path))


def test_processes_of_a_cgroup_that_has_ended(tmp_path: Path) -> None:
    """It is gone, and so is the file."""
    with pytest.raises(Gone):
        cgroupfs.processes(f"{tmp_path}/ended")
    with pytest.raises(Unsupported):
        cgroupfs.processes(str(tmp_path))


def test_root_of_a_pure_hierarchy(tmp_path: Path) -> None:
    """The path itself; the table of mounts is not needed."""
    tree(tmp_path, {"cgroup/cgroup.controllers": "cpu memory pids\n"})

    assert cgroupfs.find_root(f"{tmp_path}/cgroup", "/nonexistent/mountinfo") == f"{tmp_path}/cgroup"
    assert cgroupfs.controllers(f"{tmp_path}/cgroup") == ["cpu", "memory", "pids"]


def test_root_of_a_hybrid_hierarchy(tmp_path: Path) -> None:
    """The v2 mount below the tmpfs, with whatever controllers it has."""
    tree(tmp_path, {"cgroup/unified/cgroup.controllers": "\n", "cgroup/systemd/tasks": ""})

    root = cgroupfs.find_root(f"{tmp_path}/cgroup", mountinfo(tmp_path, HYBRID))

    assert root == f"{tmp_path}/cgroup/unified"
    assert cgroupfs.controllers(root) == []


def test_root_with_a_space_in_its_path(tmp_path: Path) -> None:
    """The table has octal escapes."""
    tree(tmp_path, {"cgroup/v 2/cgroup.controllers": ""})

    table = mountinfo(tmp_path, "32 31 0:27 / {root}/v\\0402 rw - cgroup2 cgroup2 rw\n")

    assert cgroupfs.find_root(f"{tmp_path}/cgroup", table) == f"{tmp_path}/cgroup/v 2"


def test_root_behind_thousands_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container host has more mounts than the kernel lists in one read."""
    tree(tmp_path, {"cgroup/unified/cgroup.controllers": ""})
    many = "".join(f"{number} 24 0:{number} / /var/lib/docker/overlay2/{number} rw - overlay overlay rw\n" for number in range(100, 2000))
    table = mountinfo(tmp_path, many + HYBRID)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 4090), offset))

    assert cgroupfs.find_root(f"{tmp_path}/cgroup", table) == f"{tmp_path}/cgroup/unified"


@pytest.mark.parametrize(
    "table",
    ["", "garbage\n", HYBRID.replace("cgroup2 cgroup2", "cgroup cgroup"), HYBRID.replace("{root}", "/somewhere/else")],
    ids=["empty", "garbage", "v1 only", "elsewhere"],
)
def test_no_root(tmp_path: Path, table: str) -> None:
    """On v1 there is none, and one elsewhere is not the host's that was asked for."""
    tree(tmp_path, {"cgroup/memory/tasks": ""})

    assert cgroupfs.find_root(f"{tmp_path}/cgroup", mountinfo(tmp_path, table)) is None


def test_without_a_table_of_mounts_nobody_can_tell(tmp_path: Path) -> None:
    """It is not the hierarchy that is missing; the path of the table is named."""
    (tmp_path / "cgroup").mkdir()

    with pytest.raises(ReadError, match=r"^/nope/self/mountinfo: "):
        cgroupfs.find_root(f"{tmp_path}/cgroup", "/nope/self/mountinfo")


def test_no_root_when_the_mount_is_not_visible(tmp_path: Path) -> None:
    """The table may be the host's, and what is mounted here something else."""
    tree(tmp_path, {"cgroup/unified/": ""})

    assert cgroupfs.find_root(f"{tmp_path}/cgroup", mountinfo(tmp_path, HYBRID)) is None
