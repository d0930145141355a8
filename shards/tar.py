"""A strict reader of tar headers, for tars that may come from a stranger.

Only what FORMAT.md allows passes: regular files named KEY.SUFFIX, where KEY is the sample's number in 8 or more digits,
keys growing, sizes in octal and inside the file. Everything else that tar can say (links, devices, directories, sparse
files, GNU long names, negative or base-256 sizes, PAX records that change a member) is refused. PAX records that change
nothing we use (mtime, which the webdataset package writes as a fraction) are passed over. Names are matched, never used
as paths. Nothing is allocated by what a header claims.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block".
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK = 512
MAX_MEMBER = 1 << 30
"""Bytes of one member; a five-minute clip in source quality has a tenth."""
_SUFFIX = r"[a-z0-9_]{1,32}(?:\.[a-z0-9_]{1,32}){0,2}"
_NAME = re.compile(rf"([0-9]{{8,15}})\.({_SUFFIX})".encode())
_OCTAL = re.compile(rb"[ ]*([0-7]+)[ \0]*")
_PAX_LIMIT = 16 * BLOCK
_PAX_RECORD = re.compile(rb"([0-9]{1,5}) ([A-Za-z0-9_.]+)=")
_PAX_HARMLESS = {b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname", b"comment"}
_CHUNK = 1 << 20
_ZEROS = bytes(BLOCK)


class TarError(ValueError):
    """A tar cannot be read on from `offset`.

    Attributes:
        cause: truncated, damaged (what stands there cannot be right) or refused (sound, but not what we accept).
    """

    def __init__(self, cause: str, offset: int, detail: str) -> None:
        super().__init__(f"tar {cause} at byte {offset}: {detail}")
        self.cause, self.offset = cause, offset


@dataclass(frozen=True)
class Member:
    """One file of a tar.

    Attributes:
        number: the sample's number in its split (KEY).
        suffix: what follows the first dot: json, mp4, faces.npy, ...
        offset, size: where its bytes are, in bytes from the start of the tar.
        crc: CRC-32 of its bytes as they were read.
    """

    number: int
    suffix: str
    offset: int
    size: int
    crc: int


def is_suffix(text: str) -> bool:
    """Whether `text` may stand behind a KEY and its dot."""
    return re.fullmatch(_SUFFIX, text) is not None


class Source(Protocol):
    """Bytes in order; both `io` files and our hashing reader serve."""

    def read(self, size: int, /) -> bytes: ...


def walk(source: Source, size: int, resume: bool = False) -> Iterator[Member | TarError]:
    """All members of a tar, in file order, reading each byte once.

    Args:
        source: the tar's bytes from its start.
        size: how many bytes it has.
        resume: go on after a damaged header with the next sound one whose key is higher.

    Yields:
        Members; where the tar breaks, the error. After a damaged header and with `resume` more members may follow.
    """
    offset, last, suffixes = 0, -1, set[str]()
    searching = False
    while offset < size:
        header = source.read(BLOCK)
        if len(header) < BLOCK:
            yield TarError("truncated", offset, f"expected a header of {BLOCK} bytes, found {len(header)}")
            return
        start, offset = offset, offset + BLOCK
        if header == _ZEROS and not searching:
            return
        try:
            number, suffix, length, kind = _parse(header, start, size)
            if kind == "x":
                if length > _PAX_LIMIT:
                    raise TarError("refused", start, f"PAX records of {length} bytes; at most {_PAX_LIMIT} are read")
                records = source.read(length)
                offset += _padded(length)
                _skip(source, _padded(length) - length)
                _check_pax(records, start, length)
                continue
            if number < last or (number == last and suffix in suffixes):
                raise TarError("refused", start, f"member {number:08d}.{suffix} comes twice or out of order")
        except TarError as error:
            if searching:
                continue
            yield error
            if error.cause != "damaged" or not resume:
                return
            searching = True
            continue
        if searching and number == last:
            # The rest of a sample whose other members were lost: not a whole sample any more.
            continue
        searching = False
        if number != last:
            last, suffixes = number, set()
        suffixes.add(suffix)
        crc, left = 0, length
        while left:
            data = source.read(min(left, _CHUNK))
            if not data:
                yield TarError("truncated", offset, f"{number:08d}.{suffix} lacks {left} of its {length} bytes")
                return
            crc, left = zlib.crc32(data, crc), left - len(data)
        yield Member(number, suffix, offset, length, crc)
        offset += _padded(length)
        _skip(source, _padded(length) - length)


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def _skip(source: Source, count: int) -> None:
    if count:
        source.read(count)


def _parse(header: bytes, start: int, size: int) -> tuple[int, str, int, str]:
    """number, suffix, length and kind ("0", or "x" for PAX records) of a header at byte `start`."""
    checksum = _octal(header[148:156], start, "checksum", "damaged")
    if checksum != sum(header[:148]) + 256 + sum(header[156:]):
        raise TarError("damaged", start, "the header's checksum is wrong")
    length = _octal(header[124:136], start, "size", "refused")
    kind = header[156:157].decode("latin-1")
    kind = "0" if kind == "\0" else kind
    if kind not in "0x":
        raise TarError("refused", start, f"expected a regular file, found a member of type {kind!r}")
    if length > MAX_MEMBER:
        raise TarError("refused", start, f"a member claims {length} bytes; at most {MAX_MEMBER} are read")
    if length > size - start - BLOCK:
        raise TarError(
            "truncated", start, f"a member claims {length} bytes, {max(0, size - start - BLOCK)} are left in the file"
        )
    if kind == "x":
        return 0, "", length, kind
    name = header[:100].split(b"\0", 1)[0]
    found = _NAME.fullmatch(name)
    if header[257:262] == b"ustar" and header[345:500].strip(b"\0"):
        found = None  # a name in two parts
    if not found or found[1] != b"%08d" % int(found[1]):
        shown = name[:60].decode("utf-8", "backslashreplace")
        raise TarError("refused", start, f"expected a name such as 00000042.json, found {shown!r}")
    return int(found[1]), found[2].decode("ascii"), length, kind


def _octal(field: bytes, start: int, name: str, cause: str) -> int:
    found = _OCTAL.fullmatch(field)
    if not found:
        raise TarError(cause, start, f"expected {name} as an octal number, found {field!r}")
    return int(found[1], 8)


def _check_pax(data: bytes, start: int, length: int) -> None:
    """Refuse PAX records that would change a member's name, size or meaning."""
    if len(data) < length:
        raise TarError("truncated", start, "the file ends inside PAX records")
    at = 0
    while at < length:
        found = _PAX_RECORD.match(data, at)
        end = at + int(found[1]) if found else 0
        if not found or not found.end() < end <= length or data[end - 1 : end] != b"\n":
            raise TarError("damaged", start, "PAX records that are not of the form LENGTH KEY=VALUE")
        if found[2] not in _PAX_HARMLESS:
            raise TarError(
                "refused", start, f"a PAX record of {found[2][:40].decode('ascii')}, which could change a member"
            )
        at = end
