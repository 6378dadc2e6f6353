"""The page at /: what the agent sees, what it does not and why, and what it costs. No scripts, no outside assets."""

import html
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from agent import __version__
from agent.status import Status

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1c2733; background: #fff;
overflow-wrap: anywhere; text-size-adjust: 100% }
h1 { margin: 0; font-size: 1.5rem } p { margin: .3rem 0 1rem } table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #dfe5eb; vertical-align: top }
th:nth-child(-n+2), td:nth-child(-n+2) { white-space: nowrap } th:last-child, td:last-child { width: 100% }
.good { color: #146c3a } .bad { color: #a4161a; font-weight: 600 } nav { margin: 1rem 0 } nav a { margin-right: 1rem }
@media (max-width: 40rem) { body { margin: 1rem auto } th:last-child { display: none } tr { display: flex; flex-wrap: wrap;
padding: .3rem 0; border-bottom: 1px solid #dfe5eb } th, td { padding: 0; border: 0 } th:first-child, td:first-child { width: 50% }
td:last-child:empty { display: none } }
@media (prefers-color-scheme: dark) { body { color: #dfe5eb; background: #14181d } tr, th, td { border-color: #333c45 }
.good { color: #5fd08d } .bad { color: #ff7b7b } a { color: #8ab8ff } }
"""


def status_page(
    *, telemetry_path: str, sources: Iterable[Status], collectors: Iterable[str], failures: Mapping[str, str], notes: Iterable[str]
) -> str:
    """Render the whole page; every text in it is escaped."""
    import psutil  # noqa: PLC0415 - it holds more than 1 MiB, and few look at this page

    node = html.escape(platform.node())
    process = psutil.Process()
    with process.oneshot():
        cpu, memory = process.cpu_times(), process.memory_info()
        footprint = (
            f"{memory.rss / 2**20:.0f} MiB resident, {cpu.user + cpu.system:.1f} s of CPU used, "
            f"{process.num_fds()} open files, {process.num_threads()} threads"
        )
    source_rows = "".join(_row(source.source, source.is_up or not source.is_expected, _state(source), source.reason) for source in sources)
    collector_rows = "".join(
        _row(name, name not in failures, "failed" if name in failures else "ok", failures.get(name, "")) for name in collectors
    )
    started = datetime.fromtimestamp(process.create_time(), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    remarks = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Coroner on {node}</title><style>{_STYLE}</style></head><body>
<h1>Coroner on {node}</h1><p>Says why containers die, and which are about to.</p>
<nav><a href="{html.escape(telemetry_path)}">Metrics</a><a href="/api/v1/victims">Victims of the OOM killer</a>
<a href="/api/v1/verdicts">Why containers ended</a>
<a href="/api/v1/findings">What is wrong now</a>
<a href="/healthz">Health</a><a href="/readyz">Readiness</a></nav>
{remarks}
<h2>Sources</h2><table><tr><th>Source</th><th>State</th><th>What is missing, and what to do</th></tr>{source_rows}</table>
<h2>Collectors, last pass</h2><table><tr><th>Collector</th><th>State</th><th>Why</th></tr>{collector_rows}</table>
<h2>This agent</h2><p>Version {html.escape(__version__)}, runs since {started}: {footprint}.</p>
</body></html>
"""


def _state(source: Status) -> str:
    if source.is_up:
        return "up"
    return "blind" if source.is_expected else "not here"


def _row(name: str, good: bool, word: str, reason: str) -> str:
    kind = "good" if good else "bad"
    return f'<tr><td>{html.escape(name)}</td><td class="{kind}">{word}</td><td>{html.escape(reason)}</td></tr>'
