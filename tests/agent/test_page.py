"""Pages are read back with prometheus_client's two parsers and checked by Prometheus' own promtool."""

import gzip
import math
import os
import shutil
import subprocess
import unicodedata
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from agent import page
from agent.gzip_segments import Packer, Segment
from agent.page import Page, accepts_gzip, negotiate, registry_lines
from collectors.base import Metric, Sample, counter, gauge

KILLS = counter("coroner_container_oom_kills_total", 'Kills ("victims").\nWith a \\ in it.')
USAGE = gauge("coroner_container_memory_usage_bytes", "Memory used (memory.current).")
INFO = gauge("coroner_container_info", "What a container is.", ("container", "image"))
LOST = counter("coroner_kmsg_lost_records_total", "Records lost.", ())

BOTH_FORMATS = pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])

any_text = st.text(st.characters(exclude_categories=()))
readable_text = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=32)
hostile_text = st.text(st.sampled_from('\ud800\udcff\x00\x01\x1b\x7f\x85\n\r\t\\"{}=,# \u202e\u2066\u200f\u061c\u2028é\U0001f480'))
label_text = any_text | readable_text | hostile_text | any_text.map(lambda text: text * 20)
values = st.sampled_from([0, 1, 2.5, 1 << 63, 1e-9, 1e300, math.inf])


def read(body: bytes, *, openmetrics: bool) -> list[tuple[str, tuple[str, ...], float]]:
    """Parse a page to its samples, label values in order."""
    parse = parse_openmetrics if openmetrics else parse_text
    return [(sample.name, tuple(sample.labels.values()), sample.value) for family in parse(body.decode()) for sample in family.samples]


def plain(samples: Iterable[Sample]) -> list[tuple[str, tuple[str, ...], float]]:
    """Name what read() should return."""
    return [(metric.name, labels, value) for metric, labels, value in samples]


def is_hostile(character: str) -> bool:
    """Tell by Unicode's own tables whether a character can break a line, a terminal or an encoder."""
    reorders = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    marks = {"LEFT-TO-RIGHT MARK", "RIGHT-TO-LEFT MARK", "ARABIC LETTER MARK"}
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(character) in reorders
        or unicodedata.name(character, "") in marks
    )


def promtool(body: bytes) -> None:
    """Let promtool lint a page in the text format."""
    program = shutil.which("promtool")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is missing in CI: install the package prometheus")
        pytest.skip("promtool is missing: install the package prometheus")
    checked = subprocess.run([program, "check", "metrics"], input=body, capture_output=True, check=False)

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


SAMPLES: list[Sample] = [
    (KILLS, ("shop", "web-0", "app"), 3),
    (USAGE, ("shop", "web-0", "app"), 1048576),
    (KILLS, ("", "", "db"), 0),
    (LOST, (), 7),
    (USAGE, ("", "", "db"), 0.25),
]


def test_text_page() -> None:
    """The text format names a counter in full and keeps families together, in the order they first came."""
    expected = b"""\
# HELP coroner_container_oom_kills_total Kills ("victims").\\nWith a \\\\ in it.
# TYPE coroner_container_oom_kills_total counter
coroner_container_oom_kills_total{namespace="shop",pod="web-0",container="app"} 3
coroner_container_oom_kills_total{namespace="",pod="",container="db"} 0
# HELP coroner_container_memory_usage_bytes Memory used (memory.current).
# TYPE coroner_container_memory_usage_bytes gauge
coroner_container_memory_usage_bytes{namespace="shop",pod="web-0",container="app"} 1048576
coroner_container_memory_usage_bytes{namespace="",pod="",container="db"} 0.25
# HELP coroner_kmsg_lost_records_total Records lost.
# TYPE coroner_kmsg_lost_records_total counter
coroner_kmsg_lost_records_total 7
"""

    assert Page().render(SAMPLES, openmetrics=False) == expected


def test_openmetrics_page() -> None:
    """OpenMetrics names a counter's family without _total, escapes quotes in HELP and ends with EOF; an info stays a gauge."""
    expected = b"""\
# HELP coroner_container_oom_kills Kills (\\"victims\\").\\nWith a \\\\ in it.
# TYPE coroner_container_oom_kills counter
coroner_container_oom_kills_total{namespace="shop",pod="web-0",container="app"} 3
# HELP coroner_container_info What a container is.
# TYPE coroner_container_info gauge
coroner_container_info{container="app",image="nginx:1"} 1
# EOF
"""
    samples = [SAMPLES[0], (INFO, ("app", "nginx:1"), 1)]

    assert Page().render(samples, openmetrics=True) == expected


@BOTH_FORMATS
def test_empty_page(openmetrics: bool) -> None:
    """A page without samples is valid."""
    assert Page().render([], openmetrics=openmetrics) == (b"# EOF\n" if openmetrics else b"")


@BOTH_FORMATS
@given(labels=st.lists(readable_text, unique=True), value=values)
def test_readable_labels_come_back(openmetrics: bool, labels: list[str], value: float) -> None:
    """Quotes, backslashes, braces, blanks and any script survive the way to Prometheus unchanged."""
    samples: list[Sample] = [(USAGE, (label, "", label), value) for label in labels]

    assert read(Page().render(samples, openmetrics=openmetrics), openmetrics=openmetrics) == plain(samples)


@BOTH_FORMATS
@given(label=label_text)
def test_hostile_labels_are_harmless(openmetrics: bool, label: str) -> None:
    """Whatever a container calls itself, the page stays readable and only what is hostile or too long is changed."""
    body = Page().render([(INFO, ("app", label), 1), (LOST, (), 2)], openmetrics=openmetrics)
    info, lost = read(body, openmetrics=openmetrics)
    shown = info[1][1]
    clean = "".join("\ufffd" if is_hostile(character) else character for character in label)

    assert lost == (LOST.name, (), 2)
    if len(clean.encode()) <= 256:
        assert shown == clean
    else:
        kept, _, digest = shown.rpartition("~")
        assert clean.startswith(kept)
        assert 247 - 3 <= len(kept.encode()) <= 247
        assert len(digest) == 8


@BOTH_FORMATS
@given(labels=st.lists(label_text))
def test_hostile_pages_are_valid(openmetrics: bool, labels: list[str]) -> None:
    """No two series of a page are equal, and kept and dropped samples add up to what was given."""
    page_ = Page()
    samples: list[Sample] = [(INFO, (label, "nginx"), 1) for label in labels]
    series = [labels_ for _, labels_, _ in read(page_.render(samples, openmetrics=openmetrics), openmetrics=openmetrics)]

    assert len(set(series)) == len(series)
    assert len(series) + page_.duplicates == len(samples)


@given(st.lists(st.tuples(st.booleans(), st.lists(st.tuples(st.sampled_from([USAGE, KILLS]), st.sampled_from("abc\x00\x01"), values)))))
def test_memory_changes_nothing(pages: list[tuple[bool, list[tuple[Metric, str, float]]]]) -> None:
    """Page after page, containers coming, going and trading places, each page is what a new renderer would make of it."""
    page_ = Page()
    for openmetrics, drawn in pages:
        samples: list[Sample] = [(metric, ("", "", name), value) for metric, name, value in drawn]

        assert page_.render(samples, openmetrics=openmetrics) == Page().render(samples, openmetrics=openmetrics)


def test_labels_are_kept_for_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Label text is rendered once, whichever format asks, and forgotten when a page did not need it."""
    rendered: list[tuple[str, ...]] = []
    render_text = page._text

    def counting(metric: Metric, labels: tuple[str, ...]) -> str:
        rendered.append(labels)
        return render_text(metric, labels)

    monkeypatch.setattr(page, "_text", counting)
    page_ = Page()
    stays, goes = ("shop", "web-0", "app"), ("shop", "web-1", "app")
    both: list[Sample] = [(USAGE, goes, 1), (USAGE, stays, 2)]

    page_.render(both, openmetrics=False)
    page_.render([(USAGE, stays, 3), (USAGE, goes, 4)], openmetrics=True)
    assert rendered == [goes, stays]

    page_.render([(USAGE, stays, 5)], openmetrics=True)
    page_.render(both, openmetrics=True)
    assert rendered == [goes, stays, goes]

    page_.render([], openmetrics=True)
    page_.render([(USAGE, stays, 6)], openmetrics=True)
    assert rendered == [goes, stays, goes, stays]


def test_metrics_with_the_same_labels_share_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has some 40 metrics, and its label text would be most of what a page holds."""
    made: list[str] = []
    render_text = page._text

    def counting(metric: Metric, labels: tuple[str, ...]) -> str:
        made.append(metric.name)
        return render_text(metric, labels)

    monkeypatch.setattr(page, "_text", counting)
    labels, image = ("shop", "web-0", "app"), ("app", "registry/app:1")
    Page().render([(USAGE, labels, 1), (KILLS, labels, 2), (INFO, image, 1)], openmetrics=True)

    assert made == [USAGE.name, INFO.name]


@BOTH_FORMATS
def test_duplicate_is_dropped(openmetrics: bool) -> None:
    """Of two samples with the same metric and labels the first is served, on every page, and the other is counted."""
    page_ = Page()
    first: Sample = (USAGE, ("shop", "web-0", "app"), 1)
    samples = [first, (KILLS, ("shop", "web-0", "app"), 5), (USAGE, ("shop", "web-0", "app"), 2)]

    for counted in (1, 2):
        assert read(page_.render(samples, openmetrics=openmetrics), openmetrics=openmetrics) == plain([first, samples[1]])
        assert page_.duplicates == counted


def test_duplicate_after_sanitising() -> None:
    """Labels that differ only in what is replaced are one series."""
    page_ = Page()
    body = page_.render([(INFO, ("a\x01", "x"), 1), (INFO, ("a\x02", "x"), 2)], openmetrics=False)

    assert read(body, openmetrics=False) == [(INFO.name, ("a\ufffd", "x"), 1)]
    assert page_.duplicates == 1


def test_long_labels_stay_apart() -> None:
    """Paths that are the same for more than 256 bytes remain two series."""
    slices = ["/kubelet.slice/" * 20 + f"pod{number}.slice" for number in (1, 2)]
    page_ = Page()
    series = read(page_.render([(INFO, (path, ""), 1) for path in slices], openmetrics=True), openmetrics=True)

    assert page_.duplicates == 0
    assert [len(labels[0].encode()) for _, labels, _ in series] == [256, 256]


def test_special_values() -> None:
    """Infinities and NaN are spelled as Prometheus spells them; a truth value is a number."""
    values_ = [math.inf, -math.inf, math.nan, True, 1e16, -0.5]
    body = Page().render([(INFO, (str(index), ""), value) for index, value in enumerate(values_)], openmetrics=False)
    spelled = [line.rpartition(b" ")[2] for line in body.splitlines() if not line.startswith(b"#")]

    assert spelled == [b"+Inf", b"-Inf", b"NaN", b"1", b"1e+16", b"-0.5"]


def test_truth_value_among_numbers() -> None:
    """A truth value is a number also when all values are finite."""
    assert Page().render([(LOST, (), True)], openmetrics=False).endswith(b"\ncoroner_kmsg_lost_records_total 1\n")


def test_wrong_number_of_labels() -> None:
    """A collector that yields too few label values is named."""
    with pytest.raises(ValueError, match="coroner_container_info has the labels"):
        Page().render([(INFO, ("app",), 1)], openmetrics=False)


@BOTH_FORMATS
def test_own_metrics_on_the_same_page(openmetrics: bool) -> None:
    """What prometheus_client knows of the agent's process follows on the same page, without _created series."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    Counter("coroner_pages_total", "Pages.", registry=registry)
    body = Page().render(SAMPLES, openmetrics=openmetrics, extra=registry_lines(registry, openmetrics=openmetrics))
    names = [name for name, _, _ in read(body, openmetrics=openmetrics)]

    assert names[:2] == [KILLS.name, KILLS.name]
    assert {"process_cpu_seconds_total", "python_info", "python_gc_collections_total", "coroner_pages_total"} < set(names)
    assert not [name for name in names if name.endswith("_created")]
    assert body.count(b"# EOF\n") == openmetrics


def test_promtool_accepts_the_page() -> None:
    """Prometheus' own linter has no objection, whatever the labels hold."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    hostile = ['"\\n\\', "\udcff\x00\r\n", "\u202eexe", "💀" * 100, "}", " 1\n# EOF", ""]
    samples = [*SAMPLES, *((INFO, (text, "nginx"), math.nan) for text in hostile)]

    promtool(Page().render(samples, openmetrics=False, extra=registry_lines(registry, openmetrics=False)))


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ('Application/OpenMetrics-Text; Version="1.0.0"; Q=0.5', True),
        ("application/openmetrics-text;version=2.0.0", True),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.5", True),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.5", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=high", False),
        ("application/openmetrics-text;q=nan", False),
        ("application/openmetrics-text;version=0.0.1", False),
        ('application/openmetrics-text; version="0.0.1"', False),
        ("text/plain;version=0.0.4", False),
        ("text/html,*/*;q=0.8", False),
        ("*/*", False),
        (";=,;,", False),
        ("", False),
    ],
)
def test_negotiation(accept: str, openmetrics: bool) -> None:
    """OpenMetrics is served to who names it and does not want the text format more."""
    assert negotiate(accept) is openmetrics


@pytest.mark.parametrize(
    ("accept_encoding", "accepted"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0, identity", False),
        ("zstd, br", False),
        ("", False),
    ],
)
def test_accepts_gzip(accept_encoding: str, accepted: bool) -> None:
    """Only who says so gets a compressed page."""
    assert accepts_gzip(accept_encoding) is accepted


@BOTH_FORMATS
def test_a_compressed_page_is_the_same_page(openmetrics: bool) -> None:
    """Whatever changed since the last one: a value, the labels, a whole family, or the format that was asked for."""
    page = Page()
    some: list[Sample] = [(USAGE, ("shop", f"web-{index}", "app"), index) for index in range(1000)]
    kills: list[Sample] = [(KILLS, ("shop", "web-0", "app"), 0)]
    for samples in (some, some, [*some, *kills], [*some[:-1], (*some[-1][:2], math.inf), *kills], [*kills, *some[1:]], kills, []):
        for asked in (openmetrics, openmetrics, not openmetrics):
            compressed = page.compressed(samples, openmetrics=asked, extra=b"# extra\n")

            assert gzip.decompress(compressed) == Page().render(samples, openmetrics=asked, extra=b"# extra\n")
            assert compressed == Page().compressed(samples, openmetrics=asked, extra=b"# extra\n"), "it holds no time"
    body = Page().render(some, openmetrics=openmetrics)
    assert len(page.compressed(some, openmetrics=openmetrics)) < len(body) / 5


def test_what_has_not_changed_is_not_compressed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of most metrics nothing ever happens."""
    packed: list[bytes] = []
    pack = Packer.pack

    def noted(packer: Packer, raw: bytes) -> Segment:
        packed.append(raw)
        return pack(packer, raw)

    monkeypatch.setattr(Packer, "pack", noted)
    page = Page()
    page.compressed([(USAGE, ("", "", "a"), 1), (LOST, (), 0)], openmetrics=False)
    packed.clear()
    page.compressed([(USAGE, ("", "", "a"), 2), (LOST, (), 0)], openmetrics=False)

    assert [raw[:40] for raw in packed] == [b"# HELP coroner_container_memory_usage_by", b""]


def test_metrics_of_the_same_containers_share_what_is_kept_of_their_labels() -> None:
    """Their lists alone are megabytes on a large node; each has its own as soon as it is not there for all of them."""
    page = Page()
    limit = gauge("coroner_container_memory_limit_bytes", "Limit (memory.max).")
    everybody: list[Sample] = [(metric, ("", "", name), 1) for metric in (USAGE, limit) for name in ("web", "db")]
    page.render(everybody, openmetrics=True)
    first, second = page._last[USAGE], page._last[limit]
    assert first.labels is second.labels
    assert first.texts is second.texts

    body = page.render(everybody[:-1], openmetrics=False)
    assert page._last[limit].labels == [("", "", "web")]
    assert body.count(b'container="db"') == 1
