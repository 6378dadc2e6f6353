"""The page at /: the containers, those in trouble first; why others ended; what the agent sees of the node, and what it does not."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from agent.cases_rows import exit_of, verdict_of
from agent.overview import Overview, View, spelled
from agent.web import words
from agent.web.html import NOTHING, Html, join
from agent.web.node_part import About, node_part
from agent.web.parts import ago, badge, link, moment, page, section, table
from collectors.findings import SEVERITIES, Finding

DEATHS = 30
"""How many of the latest are on the page; all are in the casebook."""

_COLUMNS = ("Container", "Findings", "Memory", "Threads", "Zombies", "PID 1", "CPU", "Pressure")


def index_page(seen: Overview, deaths: Sequence[Mapping[str, object]], about: About) -> Html:
    """Make the page of one pass; `deaths` are rows of the casebook, newest first."""
    return page(
        Html("Coroner on %s") % about.node,
        Html("Coroner on %s") % about.node,
        [*_summary(seen, about), _containers(seen, about), _findings(seen), _deaths(seen, deaths), node_part(seen, about)],
        time=seen.time,
    )


def _summary(seen: Overview, about: About) -> Iterator[Html]:
    found = Counter(finding.severity for view in seen.views for finding in view.findings) + Counter(
        finding.severity for finding in seen.findings
    )
    said = [badge(f"{found[severity]} {severity}", severity) for severity in SEVERITIES if found[severity]]
    paused = sum(view.levels.get("frozen") == 1 for view in seen.views)
    words_ = [Html("%s containers run") % len(seen.views), *([Html("%s of them paused") % paused] if paused else [])]
    blind = [source.source for source in about.sources if source.is_expected and not source.is_up]
    if blind:
        words_.append(Html('%s <a href="#sources">%s</a>') % (badge("blind:", "critical"), ", ".join(blind)))
    yield Html('<p class="summary">%s%s</p>') % (join(Html("%s ") % each for each in said), join(_commas(words_)))


def _commas(parts: Sequence[Html]) -> Iterator[Html]:
    for number, part in enumerate(parts):
        yield Html("%s%s") % (Html(", ") if number else NOTHING, part)


def _containers(seen: Overview, about: About) -> Html:
    if not seen.views:
        reason = seen.failures.get("census") or next((source.reason for source in about.sources if source.source == "cgroup"), "")
        return section("containers", "Containers", Html("<p>None is seen. %s</p>") % reason)
    rows = ([_head(view), *_cells(view, seen)] for view in seen.views)
    return section(
        "containers",
        "Containers",
        Html(
            '<p id="filters" hidden><label for="filter">Filter</label> <input type="search" id="filter" autocomplete="off"> '
            '<span id="shown" role="status"></span></p>'
        ),
        table("Those in trouble first. Shares and CPU are means over the last minute.", _COLUMNS, rows, "cards"),
    )


def _head(view: View) -> Html:
    return Html("%s%s") % (link(view.labels), Html(" %s") % badge("paused", "info") if view.levels.get("frozen") else NOTHING)


def _cells(view: View, seen: Overview) -> Iterator[Html]:
    yield words.findings(view)
    yield words.memory(view, is_complete=seen.is_complete("memory"))
    yield words.threads(view, is_complete=seen.is_complete("pids"))
    yield words.zombies(view)
    yield words.init(view)
    yield words.cpu(view, is_complete=seen.is_complete("cpu"))
    yield words.pressure(view)


def _findings(seen: Overview) -> Html:
    parts = []
    if seen.findings:
        parts.append(section("node-findings", "Findings of the node", join(finding(each) for each in seen.findings)))
    if seen.could_not_look:
        rows = [(rule, reason) for rule, reason in seen.could_not_look]
        parts.append(section("not-looked", "What could not be examined", table("", ("Rule", "Why"), rows)))
    return join(parts)


def finding(each: Finding) -> Html:
    """Show a finding in full."""
    whose = Html(" in %s") % spelled(each.labels) if any(each.labels) else NOTHING
    more = Html('<p><a href="%s" rel="noreferrer">Runbook</a></p>') % each.runbook if each.runbook.startswith("https://") else NOTHING
    return Html("<article><h3>%s %s%s</h3><p>%s</p><p>%s</p><p><strong>What to change:</strong> %s</p>%s</article>") % (
        badge(each.severity, each.severity),
        each.rule,
        whose,
        each.evidence,
        each.why,
        each.fix,
        more,
    )


def _deaths(seen: Overview, deaths: Sequence[Mapping[str, object]]) -> Html:
    rows = []
    for row in deaths:
        verdict = verdict_of(row)
        labels = (str(row["namespace"]), str(row["pod"]), str(row["container"]))
        why = next(iter(verdict.evidence), "") or (f"missing: {', '.join(verdict.missing)}" if verdict.missing else "")
        when = Html("%s<small>%s</small>") % (moment(verdict.ended), ago(verdict.ended, seen.time))
        rows.append([link(labels), when, badge(verdict.cause, KINDS.get(verdict.cause, "warning")), exit_of(verdict), why])
    body = table("The latest first.", ("Container", "Ended", "Cause", "Exit", "Why"), rows) if rows else Html("<p>No verdict yet.</p>")
    return section("deaths", "Why containers ended", body)


KINDS = {"completed": "good", "stopped": "good", "unknown": "info", "oom_kill": "critical", "crashed": "critical"}
"""The colours of causes."""
