"""The page of one container: what is wrong and how to mend it, its levels and their last hour, its life, and why the lives before ended."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.cases_rows import exit_of, span, verdict_of
from agent.cases_words import WHY
from agent.culprits import sentence
from agent.history import Series
from agent.overview import Overview, View, spelled
from agent.web import words
from agent.web.charts import charts
from agent.web.html import NOTHING, Html, join
from agent.web.index_page import KINDS, finding
from agent.web.parts import UNKNOWN, ago, badge, count, moment, page, section, size, table
from collectors.forensics import Culprit
from collectors.inquest.advice import advice
from collectors.inquest.kill_state import Labels

Line = tuple[float, str]
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of a container beside the pass.

    `timeline` is of its present life, `verdicts` and `victims` are rows of the casebook, newest first. `series` is None without a
    history.
    """

    timeline: Sequence[Line] = ()
    verdicts: Sequence[Row] = ()
    victims: Sequence[Row] = ()
    culprits: Sequence[Culprit] = ()
    series: Series | None = None


def container_page(labels: Labels, view: View | None, life: Life, seen: Overview) -> Html:
    """Make the page; `view` is None of a container that has ended."""
    name = spelled(labels)
    title = Html("%s: Coroner") % name
    heading = Html('<a href="./" aria-label="All containers">Coroner</a> / %s') % name
    body = [*_living(view, life, seen)] if view is not None else _dead(labels, life, seen)
    return page(
        title,
        heading,
        [*body, *_history(view, life), *_timeline(life, seen), *_ends(life, seen, is_living=view is not None), *_victims(life)],
        time=seen.time,
    )


def _dead(labels: Labels, life: Life, seen: Overview) -> list[Html]:
    why = "" if life.verdicts else " There is no verdict yet: what is told of its end may take some seconds to come."
    info = seen.ended.get(labels, {})
    return [Html("<p>%s It does not run now.%s</p>") % (badge("ended", "critical"), why), _list(_told(info))]


def _living(view: View, life: Life, seen: Overview) -> Iterator[Html]:
    started = view.levels.get("start_timestamp_seconds")
    state = badge("paused", "info") if view.levels.get("frozen") else badge("runs", "good")
    since = Html(", started %s (%s)") % (moment(started), ago(started, seen.time)) if started else NOTHING
    yield Html("<p>%s%s</p>") % (state, since)
    if view.findings:
        yield section("findings", "Findings", join(finding(each) for each in view.findings))
    elif seen.could_not_look:
        yield section("findings", "Findings", Html("<p>None, but not everything could be examined.</p>"))
    if seen.could_not_look:
        rows = [(rule, reason) for rule, reason in seen.could_not_look]
        yield Html("<details><summary>What could not be examined</summary>%s</details>") % table("", ("Rule", "Why"), rows)
    yield section("now", "Now", _list(_levels(view, life, seen)))


def _list(items: Iterator[tuple[object, object]]) -> Html:
    return Html("<dl>%s</dl>") % join(Html("<div><dt>%s</dt><dd>%s</dd></div>") % item for item in items)


def _levels(view: View, life: Life, seen: Overview) -> Iterator[tuple[object, object]]:
    levels = view.levels
    yield "Memory", words.memory(view, is_complete=seen.is_complete("memory"))
    yield (
        "Working set",
        Html("%s, at most %s in all since its start")
        % (
            size(levels.get("memory_working_set_bytes")),
            size(levels.get("memory_peak_bytes")),
        ),
    )
    yield "OOM kills", count(levels.get("oom_kills_total"))
    yield "CPU", words.cpu(view, is_complete=seen.is_complete("cpu"))
    yield "Pressure", words.pressure(view)
    yield "Threads", words.threads(view, is_complete=seen.is_complete("pids"))
    yield "Refused forks", count(levels.get("fork_failures_total"))
    oldest = levels.get("oldest_zombie_timestamp_seconds")
    whose = join(Html("<br>%s") % each for each in map(sentence, life.culprits))
    yield (
        "Zombies",
        Html("%s%s%s")
        % (
            words.zombies(view),
            Html("<small>the oldest first seen %s</small>") % ago(oldest, seen.time) if oldest else NOTHING,
            whose,
        ),
    )
    yield "PID 1", words.init(view)
    yield "Processes by exec", count(levels.get("exec_sessions"))
    yield from _told(view.info)


def _told(info: Mapping[str, str]) -> Iterator[tuple[object, object]]:
    for name, what in _INFO:
        if info.get(name):
            yield what, Html("<code>%s</code>") % info[name]


_INFO = (
    ("image", "Image"),
    ("container_id", "Id"),
    ("cgroup", "Cgroup"),
    ("workload_kind", "Kind of workload"),
    ("workload", "Workload"),
    ("compose_project", "Compose project"),
    ("compose_service", "Compose service"),
)


def _history(view: View | None, life: Life) -> Iterator[Html]:
    if life.series is not None:
        limits = view.levels.get if view is not None else lambda name: None
        yield section("history", "The last hour", charts(life.series, limits, is_living=view is not None))


def _timeline(life: Life, seen: Overview) -> Iterator[Html]:
    if life.timeline:
        yield section("life", "This life", _lines(life.timeline, seen.time, "ago", "from now"))


def _lines(lines: Sequence[Line], zero: float, before: str, after: str) -> Html:
    """Show what happened, and when, by the clock and as seen from a moment that matters."""
    rows = ((moment(time), f"{span(abs(zero - time))} {before if time <= zero else after}", text) for time, text in lines)
    return table("", ("When", "That is", "What happened"), rows, "timeline")


def _ends(life: Life, seen: Overview, *, is_living: bool) -> Iterator[Html]:
    for number, row in enumerate(life.verdicts):
        verdict = verdict_of(row)
        lived = "" if verdict.started is None or verdict.ended is None else f", after {span(verdict.ended - verdict.started)}"
        said = Html("<p>%s %s %s</p><p>Ended %s (%s)%s, with %s.</p>") % (
            badge(verdict.cause, KINDS.get(verdict.cause, "warning")),
            WHY.get(verdict.cause, ""),
            Html("It may have been otherwise: facts are missing.") if verdict.missing and verdict.cause != "unknown" else "",
            *(moment(verdict.ended), ago(verdict.ended, seen.time), lived, exit_of(verdict)),
        )
        evidence = Html("<ul>%s</ul>") % join(Html("<li>%s</li>") % each for each in verdict.evidence) if verdict.evidence else NOTHING
        missing = Html("<p>Missing: %s</p>") % ", ".join(verdict.missing) if verdict.missing else NOTHING
        change = Html("<p><strong>What to change:</strong> %s</p>") % advice(verdict)
        before = [(time, text) for time, text in verdict.timeline]
        ended = verdict.ended
        lines = _lines(before, seen.time, "ago", "from now") if ended is None else _lines(before, ended, "before the end", "after the end")
        details = Html("<details%s><summary>Timeline</summary>%s</details>") % (NOTHING if number else Html(" open"), lines)
        title = "Why it ended before" if number or is_living else "Why it ended"
        yield section(f"end-{number}", title, said, evidence, missing, change, details)


def _victims(life: Life) -> Iterator[Html]:
    rows = [
        (
            Html("%s (<code>%s</code>)") % (row["pid"] or UNKNOWN, row["comm"]),
            moment(row["time"]),
            {True: "yes", False: "no"}.get(bool(row["is_init"])) if row["is_init"] is not None else UNKNOWN,
            size(_sum(row)),
            Html("%s, %s") % (row["scope"], _bytes(row["limit_bytes"])),
        )
        for row in life.victims
    ]
    if rows:
        yield section("victims", "Victims of the OOM killer", table("", ("Process", "When", "PID 1", "Memory", "Whose limit"), rows))


def _sum(row: Row) -> float | None:
    parts = [row[name] for name in ("anon_rss_bytes", "file_rss_bytes", "shmem_rss_bytes")]
    numbers = [part for part in parts if isinstance(part, int)]
    return sum(numbers) if numbers else None


def _bytes(amount: object) -> Html:
    return size(amount) if isinstance(amount, int) else UNKNOWN
