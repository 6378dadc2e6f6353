"""The joins that the documents recommend work in a real PromQL engine."""

from tests.dashboards.queries import ROOT, promtool


def test_info_joins_with_kube_state_metrics_on_container_id() -> None:
    """Both spell a container's id alike, so what one knows can be put on what the other counts."""
    done = promtool("test", "rules", ROOT / "dashboards" / "joins_test.yaml")

    assert done.returncode == 0, done.stdout + done.stderr
