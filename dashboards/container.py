"""The dashboard Container: the whole life of one container (or of the few that are chosen)."""

from dashboards.board import Rows, board
from dashboards.panels import BY_CONTAINER, WHO, WIDE, Panel, graph, stat, table
from dashboards.thresholds import THRESHOLDS

_CANDIDATE = f"on ({BY_CONTAINER}, job) group_left (scope, comm, role, takes) coroner_container_oom_candidate_info{{C}}"


def _rate(metric: str, by: str = BY_CONTAINER) -> str:
    return f"sum by ({by}) (rate({metric}{{C}}[$__rate_interval]))"


def _increase(metric: str) -> str:
    return f"sum by ({BY_CONTAINER}) (increase({metric}{{C}}[$__rate_interval])) > 0"


def _pressure(of: str) -> Panel:
    name = {"cpu": "CPU", "memory": "Memory", "io": "I/O"}[of]
    return graph(
        f"{name} pressure",
        {
            f"{kind} {WHO}": f"rate(coroner_container_pressure_{of}_{kind}_seconds_total{{C}}[$__rate_interval])"
            for kind in ("waiting", "stalled")
        },
        f"Part of the time in which some task (waiting) or all of them (stalled) waited for {name}. No data where the kernel has no PSI.",
        unit="percentunit",
        steps=(THRESHOLDS["memory_stalled"],) if of == "memory" else (),
        runbook="memory-stalled" if of == "memory" else "",
    )


_NOW = (
    stat(
        "Running for",
        "time() - max(coroner_container_start_timestamp_seconds{C})",
        "Age of the present life, of the youngest container that is chosen.",
        unit="s",
        none="not running",
    ),
    stat(
        "Findings",
        'count(coroner_container_findings{C, severity!="info"}) or 0 * count(coroner_container_info{C})',
        "What the rules find wrong now, but for what is only worth knowing.",
        steps=(1,),
    ),
    stat(
        "Deaths",
        "sum(increase(coroner_container_deaths_total{C}[$__range]))",
        "Ends in the chosen time range, of any cause.",
        runbook="coronercrashloop",
    ),
    stat(
        "OOM kills",
        "sum(increase(coroner_container_oom_kills_total{C}[$__range]))",
        "Processes of it that the OOM killer took in the chosen time range.",
        steps=(1,),
        runbook="coroneroomkill",
    ),
    stat(
        "Forced kills",
        "sum(increase(coroner_container_forced_kills_total{C}[$__range]))",
        "Stops that ended in SIGKILL in the chosen time range.",
        steps=(1,),
        runbook="coronerforcedkills",
    ),
    stat(
        "PID limit in use",
        "max(container:coroner_container_threads:ratio{C})",
        "Tasks as a part of the limit, zombies included.",
        unit="percentunit",
        steps=(THRESHOLDS["pids_near"], THRESHOLDS["pids_full"]),
        runbook="pid-limit-near",
        none="no limit",
    ),
    stat(
        "PID limit lasts for",
        "min(container:coroner_container_threads_limit:seconds_left_deriv1h{C})",
        "Seconds until zombies, if as many are added as in the last hour, have taken what is left of the limit.",
        unit="s",
        least=THRESHOLDS["forecast_seconds"],
        runbook="coronerzombiesnearpidlimit",
        none="no growth",
    ),
    stat("Paused", "max(coroner_container_frozen{C})", "1 while it is paused: it answers nothing.", steps=(1,), runbook="paused"),
)

_WHO = (
    table(
        "Who it is",
        "coroner_container_info{C}",
        "What the kernel and the runtime say of it. The column cgroup is its path below /sys/fs/cgroup.",
        size=(24, 4),
    ),
    table(
        "What the rules find",
        f"sum by ({BY_CONTAINER}, finding, severity) (coroner_container_findings{{C}})",
        "What is wrong with it now. coroner check NAME on its node has the evidence, and what to change.",
        none="nothing",
        size=(24, 8),
    ),
    table(
        "How it is isolated",
        "coroner_container_isolation_info{C}",
        "What the kernel enforces for one process of it, whatever the manifest asked for.",
        runbook="isolation",
        size=(24, 4),
    ),
)

_MEMORY = (
    graph(
        "Memory",
        {
            f"{name} {WHO}": f"coroner_container_memory_{metric}_bytes{{C}}"
            for name, metric in {
                "usage": "usage",
                "working set": "working_set",
                "peak": "peak",
                "limit": "limit",
                "high": "high",
                "low": "low",
                "nearest limit": "nearest_limit",
            }.items()
        },
        "Usage with page cache and without the inactive part of it (working set); its own limits, and the nearest of those above it.",
        unit="bytes",
        width=WIDE,
    ),
    graph(
        "Memory events",
        {
            f"{event} {WHO}": _increase(f"coroner_container_memory_events_{event}_total")
            for event in ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
        },
        "high: it was slowed down above memory.high; max: it had to reclaim at its limit; oom: reclaim was not enough. Raw counts.",
        bars=True,
        runbook="coroneroomnear",
        none="no events",
        width=WIDE,
    ),
    graph(
        "Headroom",
        {f"{WHO} ({{{{scope}}}})": "coroner_container_memory_headroom_bytes{C}"},
        "Bytes left below the nearest limit, and whose limit it is.",
        unit="bytes",
        runbook="coroneroomnear",
        none="no limit",
        width=WIDE,
        legend="bottom",
    ),
    graph(
        "OOM kills, when",
        {WHO: _increase("coroner_container_oom_kills_total")},
        "Processes of it that the OOM killer took, each once, in the interval before each point.",
        bars=True,
        runbook="coroneroomkill",
        none="no kills",
        width=WIDE,
        legend="bottom",
    ),
    table(
        "Whom the OOM killer would take",
        {
            "badness": f"coroner_container_oom_candidate_badness_bytes{{C}} * {_CANDIDATE}",
            "resident": f"coroner_container_oom_candidate_rss_bytes{{C}} * {_CANDIDATE}",
        },
        "Only where at most a tenth of a limit is left. The column takes says what would end with it: a process, or the container.",
        unit="bytes",
        runbook="coroneroomnear",
        none="not near a limit",
        size=(24, 5),
    ),
)

_CPU = (
    graph(
        "CPU",
        {
            f"all {WHO}": _rate("coroner_container_cpu_usage_seconds_total"),
            f"user {WHO}": _rate("coroner_container_cpu_user_seconds_total"),
            f"system {WHO}": _rate("coroner_container_cpu_system_seconds_total"),
            f"limit {WHO}": "coroner_container_cpu_limit_cores{C}",
            f"waiting for quota {WHO}": _rate("coroner_container_cpu_cfs_throttled_seconds_total"),
        },
        "Cores that it uses, in user mode and in the kernel, the quota, and how long tasks waited for it, per second over all CPUs.",
        width=WIDE,
    ),
    graph(
        "Throttled periods",
        {WHO: "container:coroner_container_cpu_cfs_throttled_periods:ratio_rate5m{C}"},
        "Part of the quota periods in which it was stopped, over five minutes.",
        unit="percentunit",
        steps=(THRESHOLDS["throttled"],),
        runbook="cpu-throttled",
        none="no quota",
        width=WIDE,
        legend="bottom",
    ),
    graph(
        "Bytes read and written",
        {
            f"read {WHO}": _rate("coroner_container_fs_reads_bytes_total"),
            f"written {WHO}": _rate("coroner_container_fs_writes_bytes_total"),
        },
        "On all block devices; what page cache answers is not in it.",
        unit="Bps",
        width=WIDE,
        legend="bottom",
    ),
    graph(
        "Read and write operations",
        {f"reads {WHO}": _rate("coroner_container_fs_reads_total"), f"writes {WHO}": _rate("coroner_container_fs_writes_total")},
        "On all block devices, per second.",
        unit="ops",
        width=WIDE,
        legend="bottom",
    ),
    _pressure("memory"),
    _pressure("cpu"),
    _pressure("io"),
)

_PIDS = (
    graph(
        "Threads",
        {
            f"now {WHO}": "coroner_container_threads{C}",
            f"limit {WHO}": "coroner_container_threads_limit{C}",
            f"peak {WHO}": "coroner_container_threads_peak{C}",
        },
        "Tasks of it: threads and zombies. At the limit it can start neither a process nor a thread.",
        runbook="pid-limit-near",
    ),
    graph(
        "Refused forks",
        {WHO: _increase("coroner_container_fork_failures_total")},
        "Processes and threads that the kernel refused to start, in the interval before each point.",
        bars=True,
        runbook="pid-limit-near",
        none="none refused",
    ),
    graph(
        "Zombies by parent",
        {f"{WHO} ({{{{parent}}}})": f"sum by ({BY_CONTAINER}, parent) (coroner_container_zombies{{C}})"},
        "Who fails to wait for them: PID 1 (init: its children, and orphans that it adopted) or another process.",
        steps=(THRESHOLDS["zombies"],),
        runbook="coronerzombiegrowth",
    ),
    graph(
        "Age of the oldest zombie",
        {WHO: "time() - coroner_container_oldest_zombie_timestamp_seconds{C}"},
        "Seconds since the oldest of its present zombies was first seen.",
        unit="s",
        runbook="coronerzombiegrowth",
        none="no zombies",
    ),
    graph(
        "Its PID namespaces",
        {
            f"zombies {WHO} {{{{pid_namespace}}}}": f"sum by ({BY_CONTAINER}, pid_namespace) (coroner_pid_namespace_zombies{{C}})",
            f"processes {WHO} {{{{pid_namespace}}}}": f"sum by ({BY_CONTAINER}, pid_namespace) (coroner_pid_namespace_processes{{C}})",
        },
        "Processes in the PID namespaces that are the container's, zombies included.",
        runbook="coronerzombiegrowth",
        none="none of its own",
    ),
    graph(
        "Sessions and services",
        {
            f"sessions {WHO}": "coroner_container_exec_sessions{C}",
            f"begun per second ({{{{kind}}}}) {WHO}": "rate(coroner_container_exec_sessions_started_total{C}[$__rate_interval])",
            f"services {WHO}": "coroner_container_services{C}",
        },
        "Processes that entered it from outside and run (exec, probes), how many come, and independent programs that it keeps running.",
        runbook="several-services",
        none="not known",
    ),
)

_LIFE = (
    table(
        "PID 1",
        {
            "": f"count by ({BY_CONTAINER}, comm, role) (coroner_container_init_info{{C}})",
            "handles its stop signal": f"sum by ({BY_CONTAINER}, signal) (coroner_container_init_handles_stop_signal{{C}})",
            "is a wrapper": f"sum by ({BY_CONTAINER}) (coroner_container_init_is_wrapper{{C}})",
            "ignores SIGCHLD": f"sum by ({BY_CONTAINER}) (coroner_container_init_ignores_sigchld{{C}})",
        },
        "Its name and role, and what it does with signals. One that does not handle its stop signal is killed at each stop.",
        runbook="coronerforcedkills",
        none="not known",
        yes_or_no=("handles its stop signal", "is a wrapper", "ignores SIGCHLD"),
        size=(24, 4),
    ),
    graph(
        "Deaths by cause",
        {"{{cause}}": "sum by (cause) (increase(coroner_container_deaths_total{C}[$__rate_interval])) > 0"},
        "Its ends, by why, in the interval before each point.",
        bars=True,
        runbook="coronercrashloop",
        none="no deaths",
        width=6,
    ),
    graph(
        "Last stop",
        {
            f"took {WHO}": "coroner_container_last_stop_duration_seconds{C}",
            f"grace left {WHO}": "coroner_container_last_stop_grace_left_seconds{C}",
        },
        "Seconds from the last stop request to the end, and what was left of the grace period then: 0 if it was killed.",
        unit="s",
        runbook="coronerforcedkills",
        none="no stop yet",
        width=6,
    ),
    graph(
        "Pauses",
        {
            f"part of the time {WHO}": _rate("coroner_container_paused_seconds_total"),
            f"pauses {WHO}": _increase("coroner_container_pauses_total"),
        },
        "Part of the time for which it was paused, and how often that began.",
        runbook="paused",
        none="no pauses",
        width=6,
    ),
    graph(
        "Writable layer",
        {WHO: "coroner_container_writable_layer_bytes{C}"},
        "Disk that is taken by what it has written into its own root file system: lost when it is removed. Needs --source.layers.",
        unit="bytes",
        none="not measured",
        width=6,
    ),
    table(
        "Facts in numbers",
        {
            "extra capabilities": f"sum by ({BY_CONTAINER}) (coroner_container_extra_capabilities{{C}})",
            "commands the runtime": f"sum by ({BY_CONTAINER}) (coroner_container_runtime_socket_mounted{{C}})",
            "seconds from creation to start": f"sum by ({BY_CONTAINER}) (coroner_container_created_to_start_seconds{{C}})",
        },
        "What it may do beyond the runtime's default, whether it can command the runtime, and how long its creator waited with the start.",
        runbook="isolation",
        none="not known",
        yes_or_no=("commands the runtime",),
        size=(16, 4),
    ),
    table(
        "Root file system",
        "coroner_container_root_filesystem_info{C}",
        "The file system that is the root of its init. Needs --source.layers.",
        none="not measured",
        size=(8, 4),
    ),
)

ROWS: Rows = {
    "": _NOW,
    "Who it is, and what is wrong": _WHO,
    "How much memory is left": _MEMORY,
    "CPU, I/O and pressure": _CPU,
    "Threads and zombies": _PIDS,
    "PID 1, stops and deaths": _LIFE,
}
BOARD = board("coroner-container", "Container", "One container's whole life: memory, CPU, threads, zombies, PID 1, stops and deaths.", ROWS)
