"""Samples to the bytes that a scrape is answered with: OpenMetrics 1.0 or Prometheus text 0.0.4.

prometheus_client renders the agent's own few metrics (`registry_lines`); the thousands of a node are rendered here, from
label text that is kept from page to page. It is the same in both formats, so what is kept serves both.
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from math import isfinite

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_latest_openmetrics

from agent.gzip_segments import Packer, Segment, joined
from collectors.base import Metric, Sample, Samples

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""The Content-Type of a page rendered with openmetrics=True. Prometheus 3 rejects a page without the right one."""
PLAIN_TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""The Content-Type of a page rendered with openmetrics=False."""

_EOF = b"# EOF\n"
_MAX_VALUE_BYTES = 256  # a pod's cgroup path has some 180, and an image with its digest not many fewer
_DIGEST_BYTES = 4

# Control characters, line and paragraph separators, what reorders text on a screen (Unicode's Bidi_Control), and the
# surrogates that stand for bytes which were not UTF-8.
_HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_Texts = dict[tuple[tuple[str, ...], tuple[str, ...]], str]
"""Label text by the names and the values of the labels: the 40 metrics of a container share one."""


class Page:
    """Renders one page after the other. Used by one thread at a time.

    `duplicates` counts the samples dropped so far: an earlier one of the same page had the same metric and labels.
    """

    def __init__(self) -> None:
        self.duplicates = 0
        self._last: dict[Metric, _Family] = {}

    def render(self, samples: Iterable[Sample] | Samples, *, openmetrics: bool, extra: bytes = b"") -> bytes:
        """Render one whole page.

        `extra` are lines of other metrics in the same format (see registry_lines). Families come in the order of their first sample.
        Of two samples with the same metric and labels the first is kept, for the second would make the page invalid. Label text is
        remembered for the next page, no longer.
        Raises ValueError for a sample whose number of label values is not that of its metric.
        """
        pieces = [piece for family, values in self._families(samples) for piece in (family.header(openmetrics), family.lines(values))]
        return b"".join((*pieces, extra, _EOF if openmetrics else b""))

    def compressed(self, samples: Iterable[Sample] | Samples, *, openmetrics: bool, extra: bytes = b"") -> bytes:
        """Render one whole page, compressed with gzip: only what is not as on the last one, for on most of it nothing ever happens."""
        packer = Packer()
        segments = [family.segment(values, packer, openmetrics=openmetrics) for family, values in self._families(samples)]
        return joined((*segments, packer.pack(extra + (_EOF if openmetrics else b""))))

    def _families(self, samples: Iterable[Sample] | Samples) -> Iterator[tuple["_Family", list[float]]]:
        families: dict[Metric, _Family] = {}
        made: _Texts = {}
        alike: dict[tuple[str, ...], _Family] = {}
        for metric, (labels, values) in Samples.of(samples).columns.items():
            family = self._last.get(metric)
            if family is None or family.labels != labels:
                family = _Family(metric, labels, family, made, alike.get(metric.labels))
            families[metric] = alike[metric.labels] = family
            self.duplicates += len(values) - family.distinct
            yield family, values
        self._last = families


class _Family:
    """The labels of one metric's samples on one page, and their text; `distinct` counts those that differ."""

    __slots__ = ("_metric", "_openmetrics", "_segment", "_values", "distinct", "labels", "texts")

    labels: list[tuple[str, ...]]
    texts: list[str]
    distinct: int

    def __init__(
        self, metric: Metric, labels: list[tuple[str, ...]], last: "_Family | None", made: _Texts, alike: "_Family | None"
    ) -> None:
        """Make it; `last` is that of the page before, `alike` another one of this page: most have the same containers, and share lists."""
        self._metric = metric
        self._segment: Segment | None = None
        self._values: list[float] = []
        self._openmetrics = False
        if alike is not None and alike.labels == labels:
            self.labels, self.texts, self.distinct = alike.labels, alike.texts, alike.distinct
        else:
            known = dict(zip(last.labels, last.texts, strict=True)) if last is not None else {}
            self.labels, self.texts = labels, [known.get(each) or _shared_text(metric, each, made) for each in labels]
            self.distinct = len(set(self.texts))

    def header(self, openmetrics: bool) -> bytes:
        """Render what stands before the samples."""
        # An OpenMetrics counter is named without the _total of its samples, and quotes in HELP are escaped; in 0.0.4 neither.
        metric = self._metric
        name, text = metric.name, metric.help.replace("\\", r"\\").replace("\n", r"\n")
        if openmetrics:
            text = text.replace('"', r"\"")
            if metric.kind == "counter":
                name = name.removesuffix("_total")
        return f"# HELP {name} {text}\n# TYPE {name} {metric.kind}\n".encode()

    def lines(self, values: list[float]) -> bytes:
        """Render the samples with these values."""
        texts, name = self.texts, self._metric.name
        if self.distinct < len(texts):
            # By the text and not by the labels: two label sets may have become equal when they were sanitised.
            first: dict[str, float] = {}
            for text, value in zip(texts, values, strict=True):
                first.setdefault(text, value)
            texts, values = list(first), list(first.values())
        if isfinite(sum(values)):  # asked once for all, because asking each would take a tenth of the time of a page
            lines = [f"{text}{+value!r}" for text, value in zip(texts, values, strict=True)]
        else:
            lines = [f"{text}{_number(value)}" for text, value in zip(texts, values, strict=True)]
        next_line = f"\n{name}"
        return f"{name}{next_line.join(lines)}\n".encode()

    def segment(self, values: list[float], packer: Packer, *, openmetrics: bool) -> Segment:
        """Return all of it compressed: what was made last if it has the same values."""
        if self._segment is None or self._values != values or self._openmetrics != openmetrics:
            self._segment = packer.pack(self.header(openmetrics) + self.lines(values))
            self._values, self._openmetrics = values, openmetrics
        return self._segment


def _shared_text(metric: Metric, labels: tuple[str, ...], made: _Texts) -> str:
    text = made.get((metric.labels, labels))
    if text is None:
        text = made[metric.labels, labels] = _text(metric, labels)
    return text


def _text(metric: Metric, labels: tuple[str, ...]) -> str:
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.labels}, but a sample of it has the values {labels}")
    pairs = ",".join([f'{name}="{_value_text(value)}"' for name, value in zip(metric.labels, labels, strict=True)])
    return f"{{{pairs}}} " if pairs else " "


def _number(value: float) -> str:
    if isfinite(value):
        return str(+value)  # the plus makes 1 of True, which the type checker takes for a number and Prometheus does not
    if value > 0:
        return "+Inf"
    return "-Inf" if value < 0 else "NaN"


def _value_text(value: str) -> str:
    if not value.isprintable():
        value = _HOSTILE.sub("\ufffd", value)
    if len(value) > _MAX_VALUE_BYTES // 4:
        value = _capped(value)
    return value.replace("\\", r"\\").replace('"', r"\"")  # a newline would be escaped too, were it not replaced


def _capped(value: str) -> str:
    # The end is what tells long cgroup paths and pod names apart, so what is cut off leaves its digest.
    raw = value.encode()
    if len(raw) <= _MAX_VALUE_BYTES:
        return value
    digest = blake2b(raw, digest_size=_DIGEST_BYTES).hexdigest()
    return raw[: _MAX_VALUE_BYTES - 1 - len(digest)].decode(errors="ignore") + "~" + digest


def registry_lines(registry: CollectorRegistry, *, openmetrics: bool) -> bytes:
    """Render what is registered with prometheus_client, the agent's own process above all, for Page.render's `extra`.

    Without the _created samples of OpenMetrics, which Prometheus would store as series of their own.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call] # prometheus_client has no annotation there
    if openmetrics:
        page: bytes = generate_latest_openmetrics(registry)  # type: ignore[no-untyped-call] # nor here
        return page.removesuffix(_EOF)
    return generate_latest(registry)


def negotiate(accept: str) -> bool:
    """Tell from the Accept header whether to answer in OpenMetrics; if not, the text format is for everyone.

    Whichever version from 1 on is asked for, 1.0.0 is the answer: a later one has rules that this page does not follow.
    """
    openmetrics = text = 0.0
    for media_type, parameters, quality in _preferences(accept):
        if media_type == "application/openmetrics-text" and not parameters.get("version", "1").startswith("0"):
            openmetrics = max(openmetrics, quality)
        elif media_type == "text/plain":
            text = max(text, quality)
    return openmetrics > 0 and openmetrics >= text


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell from the Accept-Encoding header whether the answer may be compressed."""
    return any(coding in ("gzip", "*") and quality > 0 for coding, _, quality in _preferences(accept_encoding))


def _preferences(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    # RFC 9110 section 12.4.2; what cannot be read as a quality is not wanted.
    for preference in header.lower().split(","):
        name, *rest = (part.strip() for part in preference.split(";"))
        parameters = {key.strip(): value.strip().strip('"') for key, _, value in (part.partition("=") for part in rest)}
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        yield name, parameters, quality
