"""The memory that the trainer shares with its decoders: where a decoder writes is where the caller reads.

It has no name in /dev/shm and ends with the last process that maps it. The trainer lends frames out where they lie and
gives the decoder another slot, since a copy into fresh memory would cost it more than all else that a sample needs.
"""

from __future__ import annotations

import contextlib
import logging
import math
import mmap
import os
import tempfile
import weakref

import numpy as np

from shards.decode import Settings
from shards.sample import MAX_ARRAY

log = logging.getLogger(__name__)

ARRAYS = 3 * MAX_ARRAY
"""Bytes for a sample's arrays: faces, audio, visual."""


class Memory:
    """Room for the arrays of the samples in work, a place for each, then room for frames in slots.

    Frames may be lent out, so that there are more slots than places.

    Attributes:
        shape: places, slots.
    """

    def __init__(self, descriptor: int, settings: Settings, places: int, slots: int) -> None:
        """Map `size(...)` bytes of a file."""
        self.settings, self.shape = settings, (places, slots)
        self._map = mmap.mmap(descriptor, self.size(settings, places, slots))
        self._before = _whole_pages(places * ARRAYS)
        self._pixels = math.prod(settings.frames_shape)

    @staticmethod
    def size(settings: Settings, places: int, slots: int) -> int:
        """Bytes that it takes."""
        return _whole_pages(places * ARRAYS) + slots * _whole_pages(math.prod(settings.frames_shape))

    def arrays(self, place: int) -> np.ndarray:
        """(ARRAYS,) uint8, the room for one sample's arrays."""
        return np.frombuffer(self._map, np.uint8, ARRAYS, place * ARRAYS)

    def frames(self, slot: int) -> np.ndarray:
        """(T, 3, H, W) uint8, a slot."""
        begin = self._before + slot * _whole_pages(self._pixels)
        return np.frombuffer(self._map, np.uint8, self._pixels, begin).reshape(self.settings.frames_shape)

    def close(self) -> None:
        """Unmap it, now or when the last view of it goes."""
        with contextlib.suppress(BufferError):
            self._map.close()


class LentMemory(Memory):
    """The trainer's side: it allocates the memory and knows which slot each place writes to and which are lent.

    Attributes:
        descriptor: of the memory, for the decoders.
        slots: of each place, the slot that its decoder writes to.
        spare: slots that are neither written to nor lent. They come back from any thread; the last to come is the first
            to go again, while the processor's caches still hold it.
    """

    def __init__(self, settings: Settings, places: int, lend: int) -> None:
        """Allocate.

        Raises:
            OSError: no shared memory.
        """
        self.descriptor = allocate(self.size(settings, places, places + lend))
        super().__init__(self.descriptor, settings, places, places + lend)
        self.slots = list(range(places))
        self.spare = list(range(places, places + lend))

    def take(self, place: int) -> np.ndarray:
        """The frames written at a place, for the caller to keep: lent, or copied when too many are out."""
        slot = self.slots[place]
        frames = self.frames(slot)
        if not self.spare:
            return frames.copy()
        self.slots[place] = self.spare.pop()
        weakref.finalize(_owner(frames), self.spare.append, slot).atexit = False
        return frames

    def close(self) -> None:
        """Give it back, but for what is still lent."""
        super().close()
        os.close(self.descriptor)


def allocate(size: int) -> int:
    """A descriptor of `size` bytes that processes can share, allocated now: a later lack of memory would be a SIGBUS.

    Raises:
        OSError: there is not so much memory, nor so much space in the folder for temporary files.
    """
    try:
        descriptor = os.memfd_create("videoadviser-frames", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(descriptor, 0, size)
            return descriptor
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        log.warning("no shared memory for frames (%s): using a temporary file in %s", error, tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return os.dup(file.fileno())
    except OSError as error:
        raise OSError(
            f"decoders need {size >> 20} MiB of shared memory: {error.strerror or error}; "
            "lower data.workers or data.prefetch"
        ) from error


def _owner(frames: np.ndarray) -> memoryview:
    """What numpy holds on to as long as there is any view of `frames`; a view of a view does not hold the first."""
    owner = frames.base
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner, memoryview)
    return owner


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
