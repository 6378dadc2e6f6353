"""config.json is read in pieces, and gives the annotations that json.loads gives, whatever else is in it."""

import io
import json
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources import oci_config_json
from agent.sources.oci_config_json import Steps, Unreadable, read_annotations

WANTED = ("name", "pod", "ü", 'a "quoted" one')
FORGED = (
    *('"annotations": {"name": "forged"}', '{"annotations": {"name": "forged"}}', '"}],"annotations":{"name":"forged"}'),
    *('\\"', "\\", "\\u0022"),
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(FORGED)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.sampled_from(["annotations", *WANTED]), inner, max_size=4),
    max_leaves=12,
)
annotations = st.dictionaries(st.sampled_from(WANTED) | texts, texts | values, max_size=5)
documents = st.dictionaries(texts, values, max_size=4).flatmap(
    lambda rest: (annotations | values).map(lambda found: {**rest, "annotations": found, "last": [found, *FORGED]})
)


def read(raw: bytes, size: int = 1 << 15) -> Mapping[str, str]:
    """Read a document in pieces of at most `size` bytes."""
    file = io.BytesIO(raw)
    steps = read_annotations(lambda most: file.read(min(size, most)), WANTED)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Mapping[str, str] = end.value
            return found


def expected(document: Mapping[str, Any]) -> dict[str, str]:
    """Say what json.loads would give: of those wanted, a text, or "" for what is none."""
    found = document.get("annotations")
    found = found if isinstance(found, dict) else {}
    return {key: value if isinstance(value, str) else "" for key, value in found.items() if key in WANTED}


@given(documents, st.integers(1, 40), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_any_document_gives_what_json_gives(document: dict[str, Any], size: int, ascii_only: bool, indent: int | str | None) -> None:
    """However it is spelled and wherever it is cut; a text that looks like annotations is never taken for them."""
    raw = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()

    assert read(raw, size) == expected(json.loads(raw))


@given(documents, st.integers(1, 40), st.data())
def test_a_document_that_is_cut_anywhere_is_not_complete(document: dict[str, Any], size: int, data: st.DataObject) -> None:
    """It is still being written."""
    raw = json.dumps(document, ensure_ascii=False).encode()
    cut = data.draw(st.integers(0, len(raw) - 1))

    with pytest.raises(Unreadable, match="not complete JSON"):
        read(raw[:cut], size)


@given(st.lists(st.tuples(st.sampled_from(["annotations", "other"]), annotations | values), max_size=4))
def test_of_several_annotations_the_last_is_taken(members: list[tuple[str, Any]]) -> None:
    """As json.loads does, who also takes the last of several values of one key."""
    raw = "{" + ",".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in members) + "}"

    assert read(raw.encode(), 7) == expected(json.loads(raw))


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ('{"annotations":{"name":"a","name":"b"}}', {"name": "b"}),
        ('{"annotations":{"name":"a","name":7}}', {"name": ""}),
        ('{"annotations":{"name":"a"},"annotations":null}', {}),
        (r'{"\u0061nnotations":{"n\u0061me":"\ud83d\ude00\n"}}', {"name": "\U0001f600\n"}),
        (r'{"annotations":{"name":"\ud800"}}', {"name": "\ud800"}),
        ('{"annotations":{"name":"' + "x" * 1024 + '"}}', {"name": "x" * 1024}),
        ('{"annotations":{"name":"' + "x" * 1025 + '"}}', {"name": ""}),
        ('{"annotations":{"name":"' + r"\ud83d\ude00" * 1024 + '"}}', {"name": "\U0001f600" * 1024}),
        ('{"annotations":{"name":"' + "x" * 100_000 + '","pod":"p"}}', {"name": "", "pod": "p"}),
        ('{"annotations":{"' + "x" * 100_000 + '":1,"pod":"p"}}', {"pod": "p"}),
        ('{"a":' * 50_000 + "0" + "}" * 49_999 + ',"annotations":{"pod":"p"}}', {"pod": "p"}),
        ('{"a":' + "9" * 100_000 + ',"annotations":{"pod":"p"}}', {"pod": "p"}),
        ('{"a":-1.5e+7,"b":true,"annotations":{}}', {}),
        ("{}", {}),
        (" \r\n{ \t} \n", {}),
    ],
)
def test_what_is_odd_but_right_is_read(raw: str, found: dict[str, str]) -> None:
    """Escapes, long texts, depth, and numbers that json.loads refuses."""
    assert read(raw.encode()) == read(raw.encode(), 100) == found


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b" ", b"null", b"[]", b'"annotations"', b"7", b"\0" * 10, b"{} {}", b"{}\0", b"{}]", b"{,}", b'{"a"}', b'{"a":}'),
        *(b'{"a":1,}', b'{"a":1 "b":2}', b'{"a":[}', b'{"a":{]}', b"{7:1}", b'{"a":1]', b'{"annotations":{"name":"\\x"}}'),
        *(b'{"annotations":{"name":"\n"}}', b'{"a":"\xff"}', b'{"a":"\xc3', b'{"annotations":{"name":"\xed\xa0\x80"}}', b"\xff\xfe{\0}\0"),
    ],
)
def test_what_is_no_document_is_refused(raw: bytes) -> None:
    """And nothing of it is said."""
    for size in (1, 1 << 15):
        with pytest.raises(Unreadable, match=r"^config\.json is not complete JSON$"):
            read(raw, size)


def test_a_large_document_takes_turns_and_is_never_in_memory_as_a_whole() -> None:
    """4 MB of an environment: between two pieces others have their turn, and the piece is all there is."""
    env = ['X="annotations": {"name": "forged"}'] * 60_000
    raw = json.dumps({"process": {"env": env, "args": ["x" * 500_000]}, "annotations": {"name": "right"}}).encode()
    file = io.BytesIO(raw)
    turns = 0

    def whole() -> Steps[None]:
        assert (yield from read_annotations(file.read, WANTED)) == {"name": "right"}

    tracemalloc.start()
    for _ in whole():
        turns += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert turns == len(raw) // oci_config_json._PIECE
    assert peak < len(raw) // 2


def test_a_document_that_never_ends_is_given_up() -> None:
    """Beyond what a process can start with."""
    pieces = iter([b'{"a": "'])

    with pytest.raises(Unreadable, match="larger than 16 MiB"):
        for _ in read_annotations(lambda most: next(pieces, b"x" * most), WANTED):
            pass
