"""`coroner check`: what is wrong with the containers on this node now, from the agent that runs here or by a look of its own."""

import asyncio
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from agent.app import App
from agent.ask_agent import addresses, ask
from agent.check_table import count, findings_table, summary, unseen, whose
from agent.config import Config
from agent.findings_json import as_json, from_json
from agent.flags import SWITCH, Flag, Values, one_of
from agent.kept import only_read
from agent.output import complain, write
from collectors.findings import NODE, SEVERITIES, Examination, Finding

NONE, FOUND, BLIND = 0, 1, 2

NAMES = "NAME"
_ANSWER_SECONDS = 15
_SHORTEST_ID = 4
_MOST_NAMES = 20

log = logging.getLogger(__name__)


def check(config: Config, flags: Values) -> int:
    """Print what is wrong; 0 nothing, 1 something, 2 it cannot be told. Raises CannotWrite."""
    examination = (_asked(config) if flags["daemon"] else None) or _looked(config)
    there = {*examination.containers, *(finding.labels for finding in examination.findings if finding.labels != NODE)}
    chosen = there
    if names := flags[NAMES]:
        called = {name: {labels for labels in there if _is_called(name, labels, examination)} for name in names}
        if strange := [name for name, found in called.items() if not found]:
            complain(f"there is no container {', '.join(map(repr, strange))}; there are {_all_names(there)}")
            _say_unseen(examination)
            return BLIND
        chosen = set().union(*called.values())
    concerned = [finding for finding in examination.findings if not names or finding.labels in chosen]
    wanted = SEVERITIES[: SEVERITIES.index(flags["severity"]) + 1]
    shown = [finding for finding in concerned if finding.severity in wanted]
    if flags["format"] == "json":
        write(f"{json.dumps(as_json(replace(examination, findings=shown)))}\n".encode())
    else:
        where = f"{count(len(chosen), 'container')}{'' if names else ' and the node'}"
        write((_table(shown) + summary(examination, len(shown), len(concerned) - len(shown), where)).encode())
    _say_unseen(examination)
    return FOUND if shown else BLIND if examination.could_not_look else NONE


def _say_unseen(examination: Examination) -> None:
    for line in unseen(examination):
        complain(line)


def _table(shown: Sequence[Finding]) -> str:
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    colour = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return findings_table(shown, shutil.get_terminal_size().columns if is_terminal else None, colour=colour)


def _asked(config: Config) -> Examination | None:
    """Ask the agent that listens on this machine, if one does and is one: it knows more than a single look can tell."""
    for address in addresses(config):
        try:
            answer = asyncio.run(ask(address, "/api/v1/findings", "application/json", _ANSWER_SECONDS))
            return from_json(json.loads(answer))
        except (OSError, ValueError, RecursionError) as error:
            log.debug("no agent to ask", extra={"reason": str(error)})
    return None


def _looked(config: Config) -> Examination:
    # As coroner metrics: the trace of signals is the daemon's, and no walk through a layer ends in time.
    config = replace(config, signals=False, layers=False)
    with _quiet(config):
        return asyncio.run(App(config, only_read(config)).examine())


@contextmanager
def _quiet(config: Config) -> Iterator[None]:
    """Log nothing, unless everything is asked for: whatever matters to this one look is in what it says."""
    if config.log_level != "debug":
        logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _is_called(name: str, labels: tuple[str, ...], examination: Examination) -> bool:
    """Whether a container is called so: by its name, its pod's, both with slashes, or the beginning of its id."""
    _namespace, pod, container = labels
    if name in filter(None, (container, pod, whose(labels), pod and f"{pod}/{container}")):
        return True
    identifier = examination.containers.get(labels, "").rpartition("//")[2]
    return len(name) >= _SHORTEST_ID and identifier.startswith(name)


def _all_names(there: Iterable[tuple[str, ...]]) -> str:
    names = sorted(map(whose, there))
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) + more) or "none"


FLAGS = (
    Flag("format", "table", one_of("table", "json"), "Output format. JSON is that of /api/v1/findings."),
    Flag("severity", "warning", one_of(*SEVERITIES), "Only findings of this severity or worse."),
    Flag(
        "daemon",
        "true",
        SWITCH,
        "Ask the agent at --web.listen-address, if one runs. If not, or with --no-daemon, the command looks for itself.",
    ),
)
