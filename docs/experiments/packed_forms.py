"""Time, room and quality of packed forms: python docs/experiments/packed_forms.py [CLIPS]

Packs the clips of `launch/bench.py pipeline` in several ways and reads 8 frames of each, from the excerpt that training
makes of them and from the whole file; the best of five passes, processor time. Quality is that of the 224 x 224 view
against the source's.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from shards.excerpt import pictures
from shards.frames import segment_centres
from shards.packed_form import Coding
from shards.transcode import transcode
from vadv.bench.clips import make
from vadv.bench.quality import nearness
from vadv.bench.ways import FRAMES, decord_frames, videos_of

FORMS = {
    "the default: 64 frames, quantizer 6": Coding(),
    "quantizer 4": Coding(quantizer=4),
    "quantizer 8": Coding(quantizer=8),
    "32 frames": Coding(frames=32),
    "all frames": Coding(frames=100_000),
    "256 pixels, quantizer 6": Coding(frame_size=256),
    "256 pixels, quantizer 1": Coding(frame_size=256, quantizer=1),
    "raw": Coding(mode="keep"),
}


def milliseconds(clips: list[bytes], excerpts: bool) -> float:
    """Processor time per clip."""
    import decord

    def one_pass() -> float:
        began = time.process_time()
        for data in clips:
            if excerpts and (stored := pictures(data)) is not None:
                data = stored.avi(segment_centres(len(stored), FRAMES).tolist())
            reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
            reader.get_batch(segment_centres(len(reader), FRAMES)).asnumpy()
        return time.process_time() - began

    return min(one_pass() for _ in range(5)) / len(clips) * 1e3


def main(count: int) -> None:
    """Print a row per form."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder, count, 640, 360)
        raw = videos_of(folder / "raw")
        sources = []
        for number, data in enumerate(raw):
            sources.append(folder / f"{number}.mp4")
            sources[-1].write_bytes(data)
        seen = [decord_frames(data) for data in raw]
        for name, coding in FORMS.items():
            packed = [transcode(path, coding, wanted=1).data for path in sources]
            views = [decord_frames(data) for data in packed]
            near = np.array([nearness(*pair) for pair in zip(views, seen, strict=True)])
            (db, like), (least_db, least_like) = near.mean(axis=0), near.min(axis=0)
            print(
                f"{name:36} {milliseconds(packed, True):6.1f} ms, whole {milliseconds(packed, False):6.1f} ms "
                f"{np.mean([len(data) for data in packed]) / 1e3:6.0f} kB  "
                f"PSNR {db:.1f} ({least_db:.1f})  SSIM {like:.3f} ({least_like:.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 16)
