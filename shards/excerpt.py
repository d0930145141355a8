"""Only the pictures that are shown, out of a clip in the packed form.

decord decodes ahead: after each seek it begins with the next frame and throws it away, and copies what it reads on the way
there. So it is given a file of just the wanted pictures, in order: their JPEGs are found through the MP4's sample table
and written behind each other as an AVI, in memory. A clip that is not in the packed form, or whose table does not fit its
bytes, is left to decord as it is.

Sources: ISO/IEC 14496-12 (boxes stsd, stsz, stsc, stco), Microsoft's AVI RIFF reference (avih, strh, strf, idx1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

START_OF_JPEG = np.frombuffer(b"\xff\xd8\xff", np.uint8)


@dataclass(frozen=True)
class Pictures:
    """Where the JPEGs of a packed clip lie.

    Attributes:
        data: the clip.
        offsets, sizes: (n,) int64 in bytes; every picture lies inside `data`.
        width, height: in pixels, as the clip says.
    """

    data: memoryview
    offsets: np.ndarray
    sizes: np.ndarray
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, number: int) -> memoryview:
        return self.data[self.offsets[number] : self.offsets[number] + self.sizes[number]]

    def avi(self, numbers: Sequence[int]) -> bytes:
        """A file that shows these pictures one after the other; numbers may repeat."""
        chosen = [self[number] for number in numbers]
        count, most = len(chosen), max(map(len, chosen))
        film, index, at = bytearray(b"movi"), bytearray(), 4
        for picture in chosen:
            film += struct.pack("<4sI", b"00dc", len(picture)) + picture + b"\0" * (len(picture) % 2)
            index += struct.pack("<4sIII", b"00dc", 0x10, at, len(picture))  # 0x10: a keyframe
            at = len(film)
        size = self.width, self.height
        # 25 frames per second; no reader of this file asks for times.
        avih = struct.pack("<14I", 40_000, 0, 0, 0x10, count, 0, 1, most, *size, 0, 0, 0, 0)
        strh = struct.pack(
            "<4s4sIHHIIIIIIIIHHHH", b"vids", b"MJPG", 0, 0, 0, 0, 1, 25, 0, count, most, 0, 0, 0, 0, *size
        )
        strf = struct.pack("<IiiHH4sIiiII", 40, *size, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
        stream = _chunk(b"LIST", b"strl" + _chunk(b"strh", strh) + _chunk(b"strf", strf))
        header = _chunk(b"LIST", b"hdrl" + _chunk(b"avih", avih) + stream)
        return _chunk(b"RIFF", b"AVI " + header + _chunk(b"LIST", film) + _chunk(b"idx1", index))


def pictures(data: bytes | memoryview) -> Pictures | None:
    """The pictures of a clip in the packed form; None for any other file."""
    view = memoryview(data)
    try:
        for track in _inside(view, b"moov", b"trak"):
            (media,) = _inside(track, b"mdia")
            (handler,) = _inside(media, b"hdlr")
            if handler[8:12] == b"vide":
                return _pictures_of(view, media)
    except (ValueError, struct.error):  # not an MP4, or not one that holds together
        return None
    return None


def _pictures_of(data: memoryview, media: memoryview) -> Pictures | None:
    (table,) = _inside(media, b"minf", b"stbl")
    (described,), (sized,), (grouped,), (placed,) = (
        list(_inside(table, name)) for name in (b"stsd", b"stsz", b"stsc", b"stco")
    )
    width, height = struct.unpack_from(">HH", described, 8 + 32)
    same, count = struct.unpack_from(">II", sized, 4)
    if not 0 < count <= len(data):  # before anything of that length is made
        return None
    chunks = _numbers(placed, 4)
    first, each = _numbers(grouped, 4, columns=3)[:, :2].T
    sizes = np.full(count, same) if same else _numbers(sized, 12, count)
    # Chunks from `first` on, up to the next entry's, hold `each` pictures, which lie behind each other.
    held = np.repeat(each, np.diff(np.append(first, len(chunks) + 1)))
    if held.sum() != count or len(held) != len(chunks):
        return None
    before = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    begins = np.cumsum(held) - held
    offsets = np.repeat(chunks - before[begins], held) + before
    if sizes.min() < 3 or offsets.min() < 0 or (offsets + sizes).max() > len(data):
        return None
    begun = np.frombuffer(data, np.uint8)[offsets[:, None] + np.arange(3)]
    return Pictures(data, offsets, sizes, width, height) if (begun == START_OF_JPEG).all() else None


def _numbers(box: memoryview, at: int, count: int | None = None, columns: int = 1) -> np.ndarray:
    """int64 numbers of a table at this place of a box, behind their count unless that is given."""
    if count is None:
        count, at = struct.unpack_from(">I", box, at)[0], at + 4
    found = np.frombuffer(box, ">u4", count * columns, at).astype(np.int64)
    return found.reshape(-1, columns) if columns > 1 else found


def _inside(data: memoryview, name: bytes, *names: bytes) -> Iterator[memoryview]:
    """What the boxes of this name hold, or the boxes of the next name in them, and so on."""
    at = 0
    while at + 8 <= len(data):
        size, found = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if size == 1:
            size, body = struct.unpack_from(">Q", data, body)[0], body + 8
        stop = at + size if size else len(data)
        if not body <= stop <= len(data):
            raise ValueError(f"a box of {size} bytes where {len(data) - at} are left")
        if found == name:
            content = data[body:stop]
            yield from _inside(content, *names) if names else [content]
        at = stop


def _chunk(name: bytes, content: bytes | bytearray) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content
