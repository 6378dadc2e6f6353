"""The dashboard Node and agent: what the containers of a node share, what they leave behind, and how the agent does."""

from dashboards.agent_panels import AGENT, CASEBOOK, SIGHT
from dashboards.board import Rows, board
from dashboards.panels import WIDE, Panel, graph, stat, table
from dashboards.thresholds import THRESHOLDS


def _pressure(of: str, kinds: tuple[str, ...], about: str) -> Panel:
    name = {"cpu": "CPU", "memory": "Memory", "io": "I/O"}[of]
    return graph(
        f"{name} pressure of the node",
        {f"{{{{instance}}}} {kind}": f"rate(coroner_node_pressure_{of}_{kind}_seconds_total{{N}}[$__rate_interval])" for kind in kinds},
        f"{about} No data where the kernel has no PSI.",
        unit="percentunit",
        steps=(THRESHOLDS["memory_stalled"],) if of == "memory" else (),
        runbook="memory-stalled" if of == "memory" else "",
    )


_NOW = (
    stat(
        "PID table in use",
        "max(instance:coroner_node_threads:ratio{N})",
        "Tasks as a part of kernel.pid_max or kernel.threads-max, whichever is smaller.",
        unit="percentunit",
        steps=(THRESHOLDS["node_pids_near"],),
        runbook="pid-limit-near",
    ),
    stat(
        f"PID table in {THRESHOLDS['forecast_seconds'] / 3600:g} hours",
        "max(instance:coroner_node_threads:predict_linear1h{N} / instance:coroner_node_pid_limit:min{N})",
        "The same by then, if it goes on as in the last one.",
        unit="percentunit",
        steps=(1,),
        runbook="coronerpidexhaustionforecast",
    ),
    stat(
        "Findings",
        'count(coroner_node_findings{N, severity!="info"}) or 0 * count(coroner_build_info{N})',
        "What the rules find wrong with the node itself, but for what is only worth knowing.",
        steps=(1,),
    ),
    stat(
        "Without a daemon",
        "sum(coroner_containers_without_daemon{N})",
        "Containers whose dockerd, containerd or crio does not run: nobody restarts, stops or probes them.",
        steps=(1,),
        runbook="leftovers",
    ),
    stat("Agents down", "sum(up{N} == bool 0)", "Agents that Prometheus cannot scrape.", steps=(1,), runbook="coroneragentdown"),
    stat(
        "Blind sources",
        "sum(coroner_source_up{N} == bool 0)",
        "Sources that the agent cannot read.",
        steps=(1,),
        runbook="coronersourceblind",
    ),
    stat(
        "Failing collectors",
        "sum(coroner_scrape_collector_success{N} == bool 0)",
        "Collectors that did not finish in time, or did not understand what they read: their metrics are missing.",
        steps=(1,),
        runbook="coronercollectorfailing",
    ),
    stat(
        "Casebooks down",
        "sum(coroner_casebook_up{N} == bool 0)",
        "Agents that keep their counts in memory only.",
        steps=(1,),
        runbook="coronercasebookdown",
        none="none asked for",
    ),
)

_NODE = (
    graph(
        "PID table",
        {
            "{{instance}} tasks": "coroner_node_threads{N}",
            "{{instance}} threads-max": "coroner_node_threads_limit{N}",
            "{{instance}} pid_max": "coroner_node_pid_limit{N}",
        },
        "Tasks on the node, zombies included, and the two settings that bound them.",
        runbook="pid-limit-near",
        width=WIDE,
    ),
    graph(
        "Containers by state",
        {"{{instance}} {{state}}": "coroner_containers{N}"},
        "Of those that do not run only what a runtime tells.",
        width=WIDE,
    ),
    graph(
        "Zombies",
        {"{{instance}}": "instance:coroner_pid_namespace_zombies:sum{N}"},
        "In all PID namespaces of the node, those of no container included.",
        runbook="coronerzombiegrowth",
    ),
    graph(
        "OOM kills by whose limit was hit",
        {"{{instance}} {{scope}}": "sum by (cluster, instance, scope) (increase(coroner_oom_kills_total{N}[$__rate_interval])) > 0"},
        "node: the memory of the node itself ran out, and any process can be next.",
        bars=True,
        runbook="coroneroomkill",
        none="no kills",
    ),
    table(
        "Created and never started",
        {"seconds ago": f"time() - coroner_container_created_timestamp_seconds{{N}} > {THRESHOLDS['created_seconds']:g}"},
        "Containers that somebody made an hour ago or more, and did not start.",
        unit="s",
        runbook="created-never-started",
    ),
    graph(
        "Removed cgroups that still hold memory",
        {"{{instance}} {{cgroup}}": "topk(10, coroner_cgroup_dying_descendants{N})"},
        "Below each slice. Each makes the kernel's own accounting slower.",
        steps=(THRESHOLDS["dying_cgroups"],),
        runbook="leftovers",
    ),
    graph(
        "What removals left behind",
        {
            "{{instance}} cgroups": "coroner_leftover_cgroups{N}",
            "{{instance}} shims": "coroner_leftover_shims{N}",
            "{{instance}} overlay mounts": "coroner_leftover_overlay_mounts{N}",
        },
        "Cgroups without a process, shims without a container, overlay mounts of nobody, for a minute or more.",
        steps=(1,),
        runbook="leftovers",
        none="not known",
    ),
    table(
        "What the rules find",
        {
            "": "sum by (cluster, instance, finding, severity) (coroner_node_findings{N})",
            "blind": "count by (cluster, instance, finding) (coroner_finding_looked{N} == 0)",
        },
        "What is wrong with the node, and which rules cannot look: their silence proves nothing.",
        yes_or_no=("blind",),
    ),
    _pressure(
        "memory", ("waiting", "stalled"), "Part of the time in which some task (waiting) or all of them (stalled) waited for memory."
    ),
    _pressure("cpu", ("waiting",), "Part of the time in which some task waited for a CPU while others ran."),
    _pressure("io", ("waiting", "stalled"), "Part of the time in which some task (waiting) or all of them (stalled) waited for I/O."),
    table(
        "PID namespaces",
        {
            "zombies": "sum by (cluster, instance, pid_namespace, namespace, pod, container) (coroner_pid_namespace_zombies{N})",
            "processes": "sum by (cluster, instance, pid_namespace, namespace, pod, container) (coroner_pid_namespace_processes{N})",
        },
        "Each PID namespace and whose it is, as far as that is known.",
        runbook="coronerzombiegrowth",
        size=(24, 8),
    ),
)

ROWS: Rows = {"": _NOW, "Node": _NODE, "Can the agent see?": SIGHT, "What it keeps": CASEBOOK, "What it costs": AGENT}
BOARD = board(
    "coroner-node",
    "Node and agent",
    "What the containers of a node share and leave behind, and whether its agent sees, keeps and costs what it should.",
    ROWS,
    of_containers=False,
)
