"""Write the dashboards, and alerts.yaml from rules/*.yaml.in: `python -m dashboards.build`. What is committed is what this writes."""

import json
import re
from pathlib import Path

from dashboards import container, fleet, node
from dashboards.thresholds import THRESHOLDS

HERE = Path(__file__).parent
GROUPS = ("pids", "zombies", "oom", "deaths", "life", "node", "agent")
BOARDS = {"fleet": fleet.BOARD, "container": container.BOARD, "node": node.BOARD}

_NODE = ("cluster", "job", "instance")
_CONTAINER = ("namespace", "pod", "container")

# namespace and pod are empty outside Kubernetes, and container where a whole pod runs in one cgroup: only what is set is printed.
_POD = "{{ with $labels.namespace }}{{ . }}/{{ end }}{{ $labels.pod }}"
_NAME = _POD + "{{ if and $labels.pod $labels.container }}/{{ end }}{{ $labels.container }}"
_CHOSEN = "var-cluster={{ urlquery $labels.cluster }}&var-instance={{ urlquery $labels.instance }}"
_OF_CONTAINER = "&".join(f"var-{name}={{{{ urlquery $labels.{name} }}}}" for name in _CONTAINER)


def _last(metric: str, *names: str) -> str:
    """Return what a template asks for the counter of an alert's own labels: what it was last, also when its series has just ended."""
    matchers = ", ".join(f"{name}=%q" for name in names)
    return f'printf "last_over_time({metric}{{{matchers}}}[12m]) > 0" {" ".join(f"$labels.{name}" for name in names)} | query'


TEXTS = {
    "container_name": _NAME,
    "container": _NAME + " on {{ $labels.instance }}",
    "runbooks": "https://github.com/coroner-agent/coroner/blob/main/dashboards/runbooks",
    "container_dashboard": f"/d/coroner-container?{_CHOSEN}&{_OF_CONTAINER}",
    "node_dashboard": f"/d/coroner-node?{_CHOSEN}",
    "same_container": ", ".join((*_NODE, *_CONTAINER)),
    "same_node": ", ".join(_NODE),
    "kills_of_container": _last("coroner_container_oom_kills_total", *_NODE, *_CONTAINER),
    "kills_of_scope": _last("coroner_oom_kills_total", *_NODE, "scope"),
}
"""What rules/*.yaml.in write as @NAME@, beside the thresholds."""

HEAD = """\
# Made by `python -m dashboards.build` from rules/*.yaml.in and thresholds.py: edit those, or your own copy of this.
# For Prometheus 2.42 and newer (keep_firing_for). Load it with `rule_files`; the scrape job must be named "coroner".
# Rules that record are named level:metric:operations (https://prometheus.io/docs/practices/rules/). Every alert has a runbook in
# runbooks/, and cases that fire and cases that stay silent in alerts*_test.yaml. Where clusters are told apart by a label `cluster` of
# the series, it is kept. `dashboard` is a path below Grafana's address.
groups:
"""


def rules(source: str) -> str:
    """Return the rules with thresholds and texts in the place of @NAME@; an unknown name is a KeyError."""
    values = TEXTS | {name: f"{value:.10g}" for name, value in THRESHOLDS.items()}
    values["forecast_hours"] = f"{THRESHOLDS['forecast_seconds'] / 3600:g}"
    return re.sub(r"@(\w+)@", lambda match: values[match[1]], source)


def files() -> dict[Path, str]:
    """Return the text of every file that is made."""
    made = {HERE / f"{name}.json": json.dumps(board, indent=2, ensure_ascii=False) + "\n" for name, board in BOARDS.items()}
    groups = [rules((HERE / "rules" / f"{name}.yaml.in").read_text(encoding="utf-8")) for name in GROUPS]
    return made | {HERE / "alerts.yaml": HEAD + "\n".join(groups)}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
