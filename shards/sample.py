"""The members of a sample, read without trust: KEY.json, the arrays, and which member is the video.

Nothing is unpickled and nothing is allocated by what a member claims of itself.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from shards.tar import MAX_MEMBER

MAX_JSON = 128 << 10
"""Bytes of a KEY.json; a transcript of an hour's speech has half of it."""
MAX_ARRAY = 256 << 10
"""Bytes of a .npy member: a vector of 65,000 float32, or 128 times a 64x8 face table."""
MAX_VIDEO = MAX_MEMBER
"""Bytes of a clip."""


_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
"""First boxes of MP4, MOV and 3GP."""
_MAGICS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\1",
    b"OggS",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF: WMV
    b"\0\0\1\xba",  # MPEG program stream
    b"\0\0\1\xb3",  # MPEG video
)


_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<f4', 'fortran_order': False, 'shape': \(([0-9]{0,12}(?:, ?[0-9]{0,12}){0,3})\), \} *\n",
    re.DOTALL,
)
"""The header that numpy writes for float32. Its own parser is for friends: it evaluates Python literals, and lets
`tokenize`'s errors through."""


class BadSample(ValueError):
    """A sample that cannot be used.

    Attributes:
        cause: one word, as in `clip.Fault`.
        detail: one line for a person.
        member: the ending of the member that is wrong, or "".
        id: the sample's id when KEY.json could be read, or "".
    """

    def __init__(self, cause: str, detail: str, member: str = "", id: str = "") -> None:
        super().__init__(detail)
        self.cause, self.detail, self.member, self.id = cause, detail, member, id


def video_suffix(suffixes: Iterable[str]) -> str | None:
    """The ending of the video among a sample's members: the first that is neither JSON nor an array."""
    return next((suffix for suffix in suffixes if suffix != "json" and not suffix.endswith(".npy")), None)


def is_container(data: bytes) -> bool:
    """Whether a video's first bytes are those of a container file.

    FFmpeg also opens playlists (HLS, DASH, concat), which are texts that name other files and addresses to read: a
    shard must not be able to make a decoder do that.
    """
    head = bytes(data[:16])
    return (
        head[4:8] in _BOXES
        or head.startswith(_MAGICS)
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (head[:1] == b"G" and bytes(data[188:189]) == b"G")  # MPEG transport stream
    )


def limit_of(suffix: str) -> int:
    """Bytes that a member of this ending may have."""
    return MAX_JSON if suffix == "json" else MAX_ARRAY if suffix.endswith(".npy") else MAX_VIDEO


def parse_meta(data: bytes) -> dict[str, Any]:
    """KEY.json as a dict whose `id`, `dataset`, `text` and `label` are sound.

    Raises:
        BadSample: not JSON, a field is missing or of another kind, or a text that is no valid Unicode.
    """
    try:
        meta = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadSample("invalid", f"expected JSON, found something else ({type(error).__name__})", "json") from error
    if not isinstance(meta, dict):
        raise BadSample("invalid", f"expected a JSON object, found {type(meta).__name__}", "json")
    for field in ("id", "dataset", "text"):
        if not isinstance(meta.get(field), str):
            raise BadSample("invalid", f"{field}: expected a text, found {_shown(meta.get(field))}", "json")
        if not meta[field].isascii() and any("\ud800" <= letter <= "\udfff" for letter in meta[field]):
            raise BadSample("invalid", f"{field}: expected Unicode, found half of a surrogate pair", "json")
    label = meta.get("label")
    if isinstance(label, bool) or not isinstance(label, (int, float)) or not math.isfinite(label):
        raise BadSample("invalid", f"label: expected a finite number, found {_shown(label)}", "json")
    return meta


def parse_array(data: bytes, suffix: str) -> np.ndarray:
    """A float32 array from the bytes of a .npy member; a (64, 8) table for faces, a vector else.

    Raises:
        BadSample: another type (an object array above all), another shape, more or fewer bytes than the header says.
    """
    head = _NPY.match(data)
    if not head or head.end() != 10 + int.from_bytes(data[8:10], "little"):
        raise BadSample("invalid", "expected a .npy file of float32 in C order, found another kind", suffix)
    shape = tuple(int(part) for part in head[1].replace(b" ", b"").split(b",") if part)
    wanted = "(64, 8)" if suffix == "faces.npy" else "a vector"
    if shape != (64, 8) if suffix == "faces.npy" else len(shape) != 1:
        raise BadSample("invalid", f"expected {wanted}, found {_shown(shape)}", suffix)
    left = len(data) - head.end()
    if math.prod(shape) * 4 != left:
        raise BadSample("invalid", f"expected the bytes of {_shown(shape)} float32, found {left}", suffix)
    array = np.frombuffer(data, "<f4", offset=head.end()).reshape(shape)
    if not np.isfinite(array).all():
        raise BadSample("invalid", "expected finite numbers", suffix)
    return array.copy()  # writable: PyTorch warns of memory that is not


def parse_arrays(members: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """All .npy members by the name before their ending: faces, audio, visual."""
    return {
        suffix.removesuffix(".npy"): parse_array(data, suffix)
        for suffix, data in members.items()
        if suffix.endswith(".npy")
    }


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
