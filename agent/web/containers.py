"""/api/v1/containers: what the pages show of containers, as JSON. Its schema is static/containers.schema.json; null is not known."""

import math
from collections.abc import Mapping
from typing import Any

from agent.overview import Overview, View


def described(seen: Overview) -> Mapping[str, Any]:
    """Return all containers of a pass, in the order of the page."""
    return {"time": seen.time, "failures": dict(seen.failures), "containers": [_container(view) for view in seen.views]}


def _container(view: View) -> Mapping[str, Any]:
    levels, info, rates = view.levels, view.info, view.rates
    namespace, pod, container = view.labels

    def level(name: str) -> float | None:
        return _finite(levels.get(name))

    def word(name: str) -> str | None:
        return info.get(name) or None

    frozen = level("frozen")
    return {
        "namespace": namespace,
        "pod": pod,
        "container": container,
        "id": word("container_id"),
        "image": word("image"),
        "runtime": word("runtime"),
        "workload_kind": word("workload_kind"),
        "workload": word("workload"),
        "is_paused": None if frozen is None else bool(frozen),
        "started": level("start_timestamp_seconds"),
        "oom_kills": level("oom_kills_total"),
        "memory": {
            "usage_bytes": level("memory_usage_bytes"),
            "working_set_bytes": level("memory_working_set_bytes"),
            "peak_bytes": level("memory_peak_bytes"),
            "high_bytes": level("memory_high_bytes"),
            "limit_bytes": level("memory_limit_bytes"),
        },
        "cpu": {
            "cores": _finite(rates.cpu_cores),
            "limit_cores": level("cpu_limit_cores"),
            "throttled_share": _finite(rates.throttled_share),
        },
        "threads": {
            "current": level("threads"),
            "peak": level("threads_peak"),
            "limit": level("threads_limit"),
            "fork_failures": level("fork_failures_total"),
        },
        "zombies": {
            "of_init": view.zombies.get("init"),
            "of_others": view.zombies.get("other"),
            "oldest_seen": level("oldest_zombie_timestamp_seconds"),
        },
        "init": {
            "comm": view.init.comm,
            "role": view.init.role,
            "stop_signal": view.init.stop_signal,
            "handles_stop_signal": view.init.handles,
            "is_wrapper": view.init.is_wrapper,
        },
        "waiting_share": {
            "cpu": _finite(rates.cpu_waiting_share),
            "memory": _finite(rates.memory_waiting_share),
            "io": _finite(rates.io_waiting_share),
        },
        "findings": [{"finding": finding.rule, "severity": finding.severity, "evidence": finding.evidence} for finding in view.findings],
    }


def _finite(value: float | None) -> float | None:
    """JSON has no other numbers."""
    return value if value is not None and math.isfinite(value) else None
