"""The rules of the node: what is wrong with it as a whole, as a table. Pure; how to read it is said in finding_rules.py."""

from collectors.inquest import finding_conditions as when
from collectors.inquest.finding import Rule

_NO_LEFTOVERS = "only an agent that has run for a minute in the PID namespace of the node can tell"

NODE_RULES: tuple[Rule, ...] = (
    Rule(
        "node-pid-table-near",
        "critical",
        metrics=(when.NODE_THREADS, when.NODE_THREADS_LIMIT, when.NODE_PID_LIMIT),
        collectors=("host",),
        sources=(),
        find=when.node_pid_table_near,
        witness=when.NODE_THREADS,
        without="/proc does not tell",
        threshold=0.8,
        alert="CoronerNodePidTableNear",
        why="When the table is full nothing on the node can start a process or a thread:\nnot the kubelet, not the runtime, not sshd.",
        fix=(
            "End what holds most tasks (coroner_container_threads), then bound it with a PID limit; for now sysctl -w "
            "kernel.pid_max=4194304."
        ),
        runbook="pid-limit-near",
    ),
    Rule(
        "node-zombies",
        "critical",
        metrics=(when.NAMESPACE_ZOMBIES, when.NODE_THREADS_LIMIT, when.NODE_PID_LIMIT),
        collectors=("zombies", "host"),
        sources=("proc",),
        find=when.node_zombies,
        witness=when.NAMESPACE_ZOMBIES,
        without="no process can be seen",
        threshold=0.25,
        alert="CoronerZombiesNearPidLimit",
        why="Zombies hold PIDs that the whole node shares.\nWhen the table is full nothing on it can start a process or a thread.",
        fix="Restart the container, or end the parent process, that holds most of them (coroner_pid_namespace_zombies).",
        runbook="coronerzombiesnearpidlimit",
    ),
    Rule(
        "runtime-down",
        "warning",
        metrics=(when.DAEMONLESS,),
        collectors=("leftovers",),
        find=when.runtime_down,
        witness=when.DAEMONLESS,
        without=_NO_LEFTOVERS,
        alert="CoronerRuntimeDown",
        why="Containers run on, but nobody restarts, stops or probes them,\nand no exec or log reaches them.",
        fix="Start the daemon: systemctl start docker, containerd or crio. It finds its containers again.",
        runbook="leftovers",
    ),
    Rule(
        "dying-cgroups",
        "info",
        metrics=(when.DYING,),
        collectors=("leftovers",),
        find=when.dying_cgroups,
        witness=when.DYING,
        without="cgroup.stat is not there (from Linux 4.14)",
        threshold=5000,
        alert="CoronerDyingCgroups",
        why=(
            "Memory is held by nobody's cgroups, and each makes the kernel's own accounting slower.\n"
            "Mostly it is page cache of files on tmpfs or shared ones."
        ),
        fix=(
            "echo 1 > memory.reclaim of the slice above or drop caches (echo 2 > /proc/sys/vm/drop_caches); find who starts and "
            "ends so many."
        ),
        runbook="leftovers",
    ),
    Rule(
        "leftovers",
        "info",
        metrics=(when.LEFT_CGROUPS, when.LEFT_SHIMS, when.LEFT_MOUNTS),
        collectors=("leftovers",),
        find=when.leftovers,
        witness=when.LEFT_CGROUPS,
        without=_NO_LEFTOVERS,
        alert="CoronerLeftovers",
        why="A removal has failed halfway: memory, disk space and PIDs stay taken,\nand a container of the same name may not start.",
        fix="Restart the runtime's daemon, which clears up what it knows; then rmdir the cgroup, end the shim, umount the overlay.",
        runbook="leftovers",
    ),
)
