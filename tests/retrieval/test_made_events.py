"""The made event corpus: real files, balanced, the same on every machine."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from shards.audio import decode_sound
from shards.sources.event_score import EVENTS, compose
from shards.sources.event_sound import RATE, sound
from shards.sources.sample_events import SampleEvents, clip_bytes, split_of


def test_the_same_clip_has_the_same_bytes() -> None:
    assert clip_bytes(3) == clip_bytes(3)
    assert clip_bytes(3) != clip_bytes(13)


def test_clips_are_h264_with_aac() -> None:
    import av

    with av.open(io.BytesIO(clip_bytes(1))) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        assert 2.0 <= container.duration / 1e6 <= 3.1


@pytest.mark.parametrize("clips", [30, 50, 600])
def test_every_split_is_balanced(clips: int) -> None:
    counts = Counter((split_of(number, clips), number % 10) for number in range(clips))
    for split in ("train", "valid", "test"):
        per_class = {counts[split, event] for event in range(10)}
        assert len(per_class) == 1 and per_class.pop() >= 1


@pytest.mark.parametrize("event", range(10))
def test_sounds_are_audible_and_bounded(event: int) -> None:
    for seed in range(3):
        wave = sound(compose(event, seed))
        assert wave.dtype == np.float32 and np.isfinite(wave).all()
        assert 0.1 < np.abs(wave).max() <= 1.0


def test_hits_are_heard_when_they_are_seen() -> None:
    """A drum's energy rises at the onsets that the drawing moves at."""
    score = next(s for s in (compose(EVENTS.index("a drum beating"), seed) for seed in range(50)) if s.other < 0)
    wave = sound(score)
    window = RATE // 50
    after = [np.square(wave[int(t * RATE) : int(t * RATE) + window]).mean() for t in score.onsets]
    before = [np.square(wave[max(0, int(t * RATE) - window) : int(t * RATE)]).mean() for t in score.onsets]
    assert np.mean(np.array(after) > np.array(before)) > 0.9


def test_the_file_holds_the_sound_that_was_made(event_corpus: Path) -> None:
    number = 4
    decoded = decode_sound(event_corpus / "clips" / f"event-{number:05d}.mp4")
    made = sound(compose(number % 10, 20_000 + number))
    n = min(len(decoded), len(made)) - 3000
    # AAC delays by its priming samples; the best of the lags up to 3000 must match well.
    best = max(np.corrcoef(decoded[lag : lag + n], made[:n])[0, 1] for lag in range(0, 3000, 64))
    best = max(best, max(np.corrcoef(decoded[lag : lag + n], made[:n])[0, 1] for lag in range(1000, 1100)))
    assert best > 0.8


def test_another_corpus_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="expected an empty folder for the event corpus"):
        list(SampleEvents(root=tmp_path, clips=30))
    with pytest.raises(ValueError, match="multiple of 10"):
        SampleEvents(root=tmp_path, clips=31)
