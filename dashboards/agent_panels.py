"""Panels of the agent itself: what it sees, what it keeps, what it costs."""

from collections.abc import Mapping

from dashboards.panels import WIDE, Panel, graph, states, table
from dashboards.thresholds import THRESHOLDS


def _events(title: str, counters: Mapping[str, str], about: str, runbook: str, width: int = WIDE) -> Panel:
    """Return bars of counters by their legends; `{{label}}`s of a legend are kept apart."""
    queries = {}
    for legend, metric in counters.items():
        label = legend.partition("{{")[2].partition("}}")[0]
        by = f"cluster, instance, {label}" if label else "cluster, instance"
        queries[f"{{{{instance}}}} {legend}"] = f"sum by ({by}) (increase({metric}{{N}}[$__rate_interval])) > 0"
    return graph(title, queries, about, bars=True, runbook=runbook, none="none", width=width)


SIGHT = (
    states(
        "Sources",
        {"{{instance}} {{source}}": "min by (cluster, instance, source) (coroner_source_up{N})"},
        "What a blind source tells is missing, not zero.",
        runbook="coronersourceblind",
        good="up",
        bad="blind",
        height=12,
    ),
    states(
        "Collectors",
        {"{{collector}}": "min by (collector) (coroner_scrape_collector_success{N})"},
        "Whether each finished in time and understood all that it read, on all nodes that are chosen.",
        runbook="coronercollectorfailing",
        good="fine",
        bad="failing",
        height=12,
    ),
    states(
        "inotify",
        {"{{instance}} cgroups": "coroner_cgroup_inotify_up{N}", "{{instance}} bundles": "coroner_oci_inotify_up{N}"},
        "Whether the kernel tells of births and ends at once; if not, a walk every some seconds finds them (fs.inotify.max_user_watches).",
        runbook="coronersourceblind",
        good="up",
        bad="walks",
        height=12,
    ),
    graph(
        "Last answer of a source",
        {"{{instance}} {{source}}": "time() - coroner_source_last_answer_timestamp_seconds{N}"},
        "Seconds since it last answered. One that waits for events answers when there are some.",
        unit="s",
        runbook="coronersourceblind",
        width=WIDE,
    ),
    graph(
        "Kernel log",
        {
            "{{instance}} read": "sum by (cluster, instance) (rate(coroner_kmsg_records_total{N}[$__rate_interval]))",
            "{{instance}} lost": "sum by (cluster, instance) (rate(coroner_kmsg_lost_records_total{N}[$__rate_interval]))",
            "{{instance}} forged": "sum by (cluster, instance) (rate(coroner_kmsg_forged_records_total{N}[$__rate_interval]))",
            "{{instance}} malformed": "sum by (cluster, instance) (rate(coroner_kmsg_malformed_records_total{N}[$__rate_interval]))",
        },
        "Records per second. Forged ones look like an OOM kill or a fault and were written by a process.",
        unit="cps",
        runbook="coronerrecordslost",
        width=WIDE,
    ),
    graph(
        "Names",
        {
            "{{instance}} without a name": "coroner_containers_unnamed{N}",
            "{{instance}} named": "sum by (cluster, instance) (increase(coroner_directory_hits_total{N}[$__rate_interval]))",
            "{{instance}} named too late": "sum by (cluster, instance) (increase(coroner_directory_misses_total{N}[$__rate_interval]))",
        },
        "Running containers that no source has named, and how many got their name in time.",
        runbook="coronersourceblind",
        width=WIDE,
    ),
    graph(
        "Watches and unknown candidates",
        {"{{instance}} watches": "coroner_cgroup_inotify_watches{N}", "{{instance}} unknown": "coroner_oom_candidates_unknown{N}"},
        "Cgroups that inotify watches, and near limits at which it could not be told whom the OOM killer would take.",
        width=WIDE,
    ),
    _events("Source restarts", {"{{source}}": "coroner_source_restarts_total"}, "Times a source was started again.", "coronersourceblind"),
    _events(
        "Lost events",
        {
            "signals": "coroner_signals_lost_total",
            "inotify of cgroups": "coroner_cgroup_inotify_overflows_total",
            "inotify of bundles": "coroner_oci_inotify_overflows_total",
        },
        "Signals that were overwritten before they were read, and full queues, after which all is looked at anew.",
        "coronerrecordslost",
    ),
)

CASEBOOK = (
    states(
        "Casebook",
        {"{{instance}}": "coroner_casebook_up{N}"},
        "Whether counts and verdicts are kept. If not, a restart of the agent forgets them.",
        runbook="coronercasebookdown",
        good="kept",
        bad="in memory",
    ),
    _events(
        "Transactions",
        {
            "saves": "coroner_casebook_saves_total",
            "failures": "coroner_casebook_failures_total",
            "records set aside": "coroner_casebook_set_aside_total",
        },
        "What the casebook took, what it could not, and records that cannot be kept because a value in them cannot be true.",
        "coronercasebookdown",
        width=8,
    ),
    graph(
        "Open cases",
        {"{{instance}}": "coroner_open_cases{N}"},
        "Lives whose end is not settled: those that run, and those that just ended.",
    ),
    _events(
        "How exit statuses were learnt",
        {"{{source}}": "coroner_exit_statuses_total"},
        "reaped and zombie: from the kernel, exactly. none: the verdict is a guess that is not made.",
        "coronersourceblind",
    ),
    _events(
        "Exits that the kernel did not tell",
        {"{{reason}}": "coroner_exits_missed_total", "settled early": "coroner_cases_settled_early_total"},
        "late: the init was gone when the agent looked. Runtimes may tell all the same.",
        "coronersourceblind",
    ),
    _events(
        "What was read at the end",
        {"last words {{result}}": "coroner_last_words_total", "exit files {{result}}": "coroner_exit_files_total"},
        "Final counters of ended containers, and files in which a runtime says how one ended.",
        "coronersourceblind",
    ),
    _events(
        "Bundles and layers",
        {"bundles {{result}}": "coroner_oci_bundles_total", "layers {{result}}": "coroner_layer_walks_total"},
        "Bundles by whether they gave a name, and walks of writable layers by how they ended.",
        "coronersourceblind",
    ),
)

AGENT = (
    graph(
        "CPU of the agent",
        {"{{instance}}": "sum by (cluster, instance) (rate(process_cpu_seconds_total{N}[$__rate_interval]))"},
        "Cores. No data with --web.disable-exporter-metrics.",
        steps=(THRESHOLDS["agent_cores"],),
        runbook="coroneragentexpensive",
    ),
    graph(
        "Memory of the agent",
        {"{{instance}}": "process_resident_memory_bytes{N}"},
        "Resident memory. No data with --web.disable-exporter-metrics.",
        unit="bytes",
        steps=(THRESHOLDS["agent_bytes"],),
        runbook="coroneragentexpensive",
    ),
    graph(
        "Scrapes",
        {"{{instance}} seconds": "scrape_duration_seconds{N}"},
        "How long Prometheus waited for a page.",
        unit="s",
        runbook="coroneragentexpensive",
    ),
    graph(
        "Duration of collectors",
        {"{{collector}}": "max by (collector) (coroner_scrape_collector_duration_seconds{N})"},
        "How long each took, the slowest of the nodes that are chosen.",
        unit="s",
        runbook="coroneragentexpensive",
        width=WIDE,
    ),
    graph("Samples of a page", {"{{instance}}": "scrape_samples_scraped{N}"}, "How many samples Prometheus took at each scrape.", width=6),
    table(
        "Versions",
        {"": "coroner_build_info{N}"},
        "Which agent runs where.",
        size=(6, 8),
    ),
)
