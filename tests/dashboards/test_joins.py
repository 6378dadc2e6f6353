"""The joins that the documents recommend work in a real PromQL engine."""

import re

from tests.dashboards.queries import ROOT, promtool

JOINS = ROOT / "dashboards" / "joins_test.yaml"


def test_the_joins_do_what_their_cases_say() -> None:
    """Both spell a container's id alike, so what one knows can be put on what the other counts."""
    done = promtool("test", "rules", JOINS)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_join_of_the_readme_has_a_case() -> None:
    """What is to be pasted is what was tested."""
    (block,) = re.findall(r"```promql\n(.*?)```", (ROOT / "dashboards" / "README.md").read_text(), re.DOTALL)
    queries = [" ".join(re.sub(r"(?m)^#.*", "", query).split()) for query in block.split("\n\n")]
    tested = " ".join(JOINS.read_text().split())

    assert len(queries) == 4
    assert [query for query in queries if query not in tested] == []
