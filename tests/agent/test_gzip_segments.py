"""Streams of gzip, joined from segments."""

import gzip
import zlib

from hypothesis import given
from hypothesis import strategies as st

from agent.gzip_segments import Packer, compress, joined

pieces = st.lists(st.binary(max_size=300) | st.binary(max_size=3).map(lambda few: few * 20_000), max_size=6)


@given(pieces, st.data())
def test_segments_are_one_stream_in_any_order(raw: list[bytes], data: st.DataObject) -> None:
    """One member, as every client understands; the checksum and the length are those of the whole."""
    packer = Packer()
    segments = {number: packer.pack(piece) for number, piece in enumerate(raw)}
    order = data.draw(st.lists(st.sampled_from([*segments]), max_size=8) if segments else st.just([]))
    whole = b"".join(raw[number] for number in order)

    stream = joined(segments[number] for number in order)

    assert gzip.decompress(stream) == whole
    member = zlib.decompressobj(31)
    assert (member.decompress(stream), member.eof, member.unused_data) == (whole, True, b"")
    assert stream == joined(segments[number] for number in order)


def test_a_changed_byte_is_noticed() -> None:
    """The checksum is there to be checked."""
    stream = bytearray(compress(b"a" * 1000 + b"b" * 1000))
    assert gzip.decompress(stream) == b"a" * 1000 + b"b" * 1000
    stream[-8] ^= 1

    try:
        gzip.decompress(stream)
    except gzip.BadGzipFile:
        return
    raise AssertionError("not noticed")
