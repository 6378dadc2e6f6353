"""The dashboard Fleet: what needs attention, over all nodes that are chosen."""

from dashboards.board import Rows, board
from dashboards.panels import BY_CONTAINER, WHO, WIDE, graph, link_to_container, link_to_node, stat, states, table
from dashboards.thresholds import THRESHOLDS

_WORKLOAD = f"on ({BY_CONTAINER}, job) group_left (workload_kind, workload) coroner_container_info{{C}}"

_NOW = (
    stat(
        "Findings",
        'count(coroner_container_findings{C, severity!="info"} or coroner_node_findings{N, severity!="info"})'
        " or 0 * count(coroner_build_info{N})",
        "What the rules find wrong now with containers and nodes, but for what is only worth knowing. The next row says what.",
        steps=(1,),
    ),
    stat(
        "OOM kills",
        "sum(increase(coroner_oom_kills_total{N}[$__range]))",
        "Processes that the OOM killer took in the chosen time range, in containers and outside.",
        steps=(1,),
        runbook="coroneroomkill",
    ),
    stat(
        "Forced kills",
        "sum(increase(coroner_container_forced_kills_total{C}[$__range]))",
        "Stops in the chosen time range that ended in SIGKILL, because the grace period ran out.",
        steps=(1,),
        runbook="coronerforcedkills",
    ),
    stat(
        "Zombies",
        "sum(instance:coroner_pid_namespace_zombies:sum{N})",
        "Processes that have ended and wait for their parent, in all PID namespaces, in containers and outside.",
        runbook="coronerzombiegrowth",
    ),
    stat(
        "Fullest PID limit",
        "max(container:coroner_container_threads:ratio{C})",
        "Tasks of the container that is nearest to its PID limit. At 100 % it cannot fork.",
        unit="percentunit",
        steps=(THRESHOLDS["pids_near"], THRESHOLDS["pids_full"]),
        runbook="pid-limit-near",
        none="no limits",
    ),
    stat(
        "Fullest PID table",
        "max(instance:coroner_node_threads:ratio{N})",
        "Tasks of the node that is nearest to kernel.pid_max or kernel.threads-max. At 100 % nothing on it can start.",
        unit="percentunit",
        steps=(THRESHOLDS["node_pids_near"],),
        runbook="pid-limit-near",
    ),
    stat(
        "Blind sources",
        "sum(coroner_source_up{N} == bool 0)",
        "Sources that agents cannot read. What they tell is missing, not zero.",
        steps=(1,),
        runbook="coronersourceblind",
    ),
    stat(
        "Agents down",
        "sum(up{N} == bool 0)",
        "Agents that Prometheus cannot scrape: nobody watches these nodes.",
        steps=(1,),
        runbook="coroneragentdown",
    ),
)

_FINDINGS = (
    table(
        "Findings by rule",
        {
            "containers": "count by (finding, severity) (coroner_container_findings{C})",
            "nodes": "count by (finding, severity) (coroner_node_findings{N})",
        },
        "How many containers and nodes each rule finds something wrong with now.",
        size=(7, 12),
    ),
    table(
        "Containers with findings",
        {"": f'sum by ({BY_CONTAINER}, finding, severity) (coroner_container_findings{{C, severity!="info"}})'},
        "What is wrong with which container. A click on a cell leads to the container; coroner check NAME on its node has the evidence.",
        link=link_to_container("__data.fields"),
        size=(10, 12),
    ),
    table(
        "Nodes with findings, and blind rules",
        {
            "": "sum by (cluster, instance, finding, severity) (coroner_node_findings{N})",
            "blind": "count by (cluster, instance, finding) (coroner_finding_looked{N} == 0)",
        },
        "What is wrong with which node. Where a rule is blind its silence proves nothing.",
        link=link_to_node("__data.fields"),
        yes_or_no=("blind",),
        size=(7, 12),
    ),
)

_DEATHS = (
    graph(
        "Deaths by cause",
        {"{{cause}}": "sum by (cause) (increase(coroner_container_deaths_total{C}[$__rate_interval])) > 0"},
        "Ends of containers in the interval before each point, by why.",
        bars=True,
        runbook="coronercrashloop",
        none="no deaths",
    ),
    graph(
        "OOM kills by whose limit was hit",
        {"{{scope}}": "sum by (scope) (increase(coroner_oom_kills_total{N}[$__rate_interval])) > 0"},
        "The container's own limit, its pod's, that of another cgroup above, or the memory of the node.",
        bars=True,
        runbook="coroneroomkill",
        none="no kills",
    ),
    graph(
        "How long stops take",
        {
            "half of them": "histogram_quantile(0.5, sum by (le) (rate(coroner_stop_duration_seconds_bucket{N}[$__rate_interval])))",
            "95 %": "histogram_quantile(0.95, sum by (le) (rate(coroner_stop_duration_seconds_bucket{N}[$__rate_interval])))",
        },
        "Seconds from the stop request to the end, of all stops in the interval before each point.",
        unit="s",
        runbook="coronerforcedkills",
        none="no stops",
    ),
    table(
        "Who was OOM-killed",
        {"kills": f"sum by ({BY_CONTAINER}) (increase(coroner_container_oom_kills_total{{C}}[$__range])) > 0"},
        "Containers that lost processes in the chosen time range. One that nobody knew is in the count above and not here.",
        runbook="coroneroomkill",
        link=link_to_container("__data.fields"),
        size=(12, 8),
    ),
    table(
        "Crash loops",
        {"deaths": f'cause:coroner_container_deaths:increase20m{{C, cause!~"completed|stopped"}} >= {THRESHOLDS["crash_loop"]:g}'},
        "Containers that ended again and again of one cause in the last 20 minutes.",
        runbook="coronercrashloop",
        link=link_to_container("__data.fields"),
        size=(12, 8),
    ),
    table(
        "OOM kills by workload",
        {
            "kills": "sum by (namespace, workload_kind, workload) "
            f"(increase(coroner_container_oom_kills_total{{C}}[$__range]) * {_WORKLOAD}) > 0",
        },
        "The same by what controls the pods. Outside Kubernetes there is no workload: all of them are in one row.",
        runbook="coroneroomkill",
        size=(12, 8),
    ),
    graph(
        "Forced kills by container",
        {WHO: f"sum by ({BY_CONTAINER}) (increase(coroner_container_forced_kills_total{{C}}[$__rate_interval])) > 0"},
        "Stops that ended in SIGKILL, in the interval before each point.",
        bars=True,
        runbook="coronerforcedkills",
        link=link_to_container(),
        none="no forced kills",
        width=WIDE,
    ),
    graph(
        "Least headroom",
        {
            f"{WHO} ({{{{scope}}}})": "bottomk(10, container:coroner_container_memory_headroom_bytes:ratio{C}) "
            f"< {THRESHOLDS['headroom_shown']:g}"
        },
        "What is left below the nearest limit, as a part of it: the ten with the least, where it is less than "
        f"{THRESHOLDS['headroom_shown']:.0%}. Inactive page cache counts as free.",
        unit="percentunit",
        runbook="coroneroomnear",
        steps=(THRESHOLDS["headroom"],),
        link=link_to_container(),
        none="none is near its limit",
        width=WIDE,
    ),
    graph(
        "Memory pressure",
        {WHO: "topk(10, container:coroner_container_pressure_memory_stalled_seconds:rate5m{C}) > 0"},
        "Part of the time in which all tasks of a container waited for memory: the ten worst. No data where the kernel has no PSI.",
        unit="percentunit",
        steps=(THRESHOLDS["memory_stalled"],),
        runbook="memory-stalled",
        link=link_to_container(),
        width=WIDE,
    ),
)

_PIDS = (
    graph(
        "Zombies by container",
        {WHO: "topk(10, container:coroner_container_zombies:sum{C}) > 0"},
        "Processes that have ended and wait for their parent: the ten containers with most.",
        steps=(THRESHOLDS["zombies"],),
        runbook="coronerzombiegrowth",
        link=link_to_container(),
        none="no zombies",
        width=WIDE,
    ),
    graph(
        "Growth of zombies",
        {f"{WHO} ({{{{parent}}}})": "topk(10, parent:coroner_container_zombies:delta1h{C}) > 0"},
        "How many more zombies there are than an hour ago, by who fails to wait for them.",
        steps=(THRESHOLDS["zombies"],),
        runbook="coronerzombiegrowth",
        link=link_to_container(),
        none="no growth",
        width=WIDE,
    ),
    graph(
        "PID limits in use",
        {WHO: "topk(10, container:coroner_container_threads:ratio{C})"},
        "Tasks as a part of the container's PID limit: the ten fullest. Zombies count.",
        unit="percentunit",
        steps=(THRESHOLDS["pids_near"], THRESHOLDS["pids_full"]),
        runbook="pid-limit-near",
        link=link_to_container(),
        none="no limits",
        width=WIDE,
    ),
    graph(
        "Refused forks",
        {WHO: f"sum by ({BY_CONTAINER}) (increase(coroner_container_fork_failures_total{{C}}[$__rate_interval])) > 0"},
        "Processes and threads that the kernel refused to start, in the interval before each point.",
        bars=True,
        runbook="pid-limit-near",
        link=link_to_container(),
        none="none refused",
        width=WIDE,
    ),
    graph(
        "PID tables in use",
        {"{{instance}}": "topk(10, instance:coroner_node_threads:ratio{N})"},
        "Tasks as a part of kernel.pid_max or kernel.threads-max, whichever is smaller: the ten fullest nodes.",
        unit="percentunit",
        steps=(THRESHOLDS["node_pids_near"],),
        runbook="pid-limit-near",
        link=link_to_node(),
        width=WIDE,
    ),
    table(
        "Zombies outside of containers",
        {"zombies": 'sum by (cluster, instance, pid_namespace) (coroner_pid_namespace_zombies{N, container="", pod=""}) > 0'},
        "PID namespaces that no container is known to have, the host's among them.",
        runbook="coronerzombiegrowth",
        link=link_to_node("__data.fields"),
        size=(12, 8),
    ),
)

_SIGHT = (
    states(
        "Sources",
        {"{{instance}} {{source}}": "min by (cluster, instance, source) (coroner_source_up{N})"},
        "Whether agents can read their sources. What a blind one tells is missing, not zero.",
        runbook="coronersourceblind",
        good="up",
        bad="blind",
    ),
    graph(
        "Containers by state",
        {"{{state}}": "sum by (state) (coroner_containers{N})"},
        "All containers of the nodes; of those that do not run only what a runtime tells.",
    ),
    table(
        "Agents",
        {"agents": "count by (version, python_version) (coroner_build_info{N})"},
        "Versions that run. Two of them for long: an update has stopped half-way.",
    ),
)

ROWS: Rows = {
    "": _NOW,
    "What is wrong": _FINDINGS,
    "What died, and what is about to": _DEATHS,
    "Zombies and PIDs": _PIDS,
    "Can the agents see?": _SIGHT,
}
BOARD = board("coroner-fleet", "Fleet", "What needs attention across all nodes, and whether the agents can see it.", ROWS, marked=False)
