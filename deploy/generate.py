"""Make the manifests that hold the dashboards and the alerts, from dashboards/. `make manifests` runs it; a test holds the files to it."""

from pathlib import Path
from textwrap import indent

ROOT = Path(__file__).parents[1]
MONITORING = ROOT / "deploy" / "kubernetes" / "components" / "monitoring"

HEAD = """\
# Made by `make manifests` from dashboards/{source}: change that.
apiVersion: {version}
kind: {kind}
metadata:
  name: {name}
  namespace: coroner
  labels:
    app.kubernetes.io/name: coroner
    app.kubernetes.io/part-of: coroner
{labels}"""


def manifests() -> dict[Path, str]:
    """Return the text of each file."""
    rules = ROOT / "dashboards" / "alerts.yaml"
    boards = []
    for board in sorted((ROOT / "dashboards").glob("*.json")):  # one object each: all of them are too large for kubectl apply
        label = '    grafana_dashboard: "1"\n'
        head = HEAD.format(source=board.name, version="v1", kind="ConfigMap", name=f"coroner-{board.stem}", labels=label)
        boards.append(f"{head}data:\n  coroner-{board.name}: |\n{indent(board.read_text(), '    ')}")
    rule = HEAD.format(source=rules.name, version="monitoring.coreos.com/v1", kind="PrometheusRule", name="coroner", labels="")
    return {
        MONITORING / "dashboards.yaml": "---\n".join(boards),
        MONITORING / "rules.yaml": f"{rule}spec:\n{indent(rules.read_text(), '  ')}",
    }


if __name__ == "__main__":
    for path, text in manifests().items():
        path.write_text(text)
