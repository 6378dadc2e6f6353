"""Findings as people read them: a block for each on a terminal, a line for each in a pipe. Pure."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from agent.cases_rows import UNKNOWN, visible
from agent.table import Layout, laid_out
from collectors.findings import NODE, Examination, Finding

_BLOCKS = Layout(header=("SEVERITY", "CONTAINER", "FINDING"), name=1, last=0)
_LINES = Layout(header=("SEVERITY", "CONTAINER", "FINDING", "EVIDENCE", "FIX"), name=1)
_COLOURS = {"critical": "\x1b[1;31m", "warning": "\x1b[33m", "info": "\x1b[36m"}
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"
_INDENT = "  "
_NARROWEST = 20


def findings_table(findings: Sequence[Finding], width: int | None, *, colour: bool) -> str:
    """Return the table, in the order of the findings. `width` is that of the terminal; None: one long line for each."""
    if not findings:
        return ""
    if width is None:
        rows = [(*_cells(finding), visible(". ".join((finding.evidence, *finding.details))), visible(finding.fix)) for finding in findings]
        return "".join(f"{line}\n" for lines in laid_out(_LINES, rows, None) for line in lines)
    (header,), *heads = laid_out(_BLOCKS, [_cells(finding) for finding in findings], width)
    lines = [f"{_BOLD}{header}{_PLAIN}" if colour else header]
    for finding, head in zip(findings, heads, strict=True):
        lines += [_coloured(head[0], finding.severity) if colour else head[0], *head[1:], *_block(finding, width)]
    return "".join(f"{line}\n" for line in lines)


def summary(examination: Examination, shown: int, hidden: int, where: str) -> str:
    """Return one line: how much was found, and in what. `hidden` counts findings below the severity that was asked for."""
    left_out = len(examination.left_out)
    notes = [
        *([f"{hidden} of lower severity not shown: --severity=info"] if hidden else []),
        *([f"{count(left_out, 'rule')} {'does' if left_out == 1 else 'do'} not apply here: --format=json says why"] if left_out else []),
    ]
    note = f" ({'; '.join(notes)})" if notes else ""
    return f"{count(shown, 'finding') if shown else 'no findings'} in {where}{note}\n"


def count(number: int, noun: str) -> str:
    """Return 1 container, 2 containers."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def unseen(examination: Examination) -> Iterator[str]:
    """Yield a line for each reason why rules could not look."""
    rules: dict[str, list[str]] = {}
    for rule, reason in examination.could_not_look:
        rules.setdefault(reason, []).append(rule)
    for reason, blind in rules.items():
        yield f"could not look for {', '.join(map(visible, blind))}: {visible(reason)}"


def whose(labels: tuple[str, ...]) -> str:
    """Return namespace/pod/container, as far as it has them."""
    return "(node)" if labels == NODE else visible("/".join(filter(None, labels))) or UNKNOWN


def _cells(finding: Finding) -> tuple[str, str, str]:
    return finding.severity, whose(finding.labels), visible(finding.rule)


def _coloured(line: str, severity: str) -> str:
    return f"{_COLOURS[severity]}{line[: len(severity)]}{_PLAIN}{line[len(severity) :]}"


def _block(finding: Finding, width: int) -> Iterator[str]:
    for text in (finding.evidence, *finding.details, " ".join(finding.why.split("\n")), f"Fix: {finding.fix}"):
        yield from wrap(
            visible(text),
            max(width, _NARROWEST),
            initial_indent=_INDENT,
            subsequent_indent=_INDENT,
            break_on_hyphens=False,
        )
