"""Exactly once per epoch, the same sequence for every way of spreading it, and resumable at any sample."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_shards import text_only, with_video, write_shards

from shards.dataset import ClipSet, ClipStream

SIZES = [7, 1, 12, 3, 9]
TOTAL = sum(SIZES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("stream"), SIZES)


@pytest.fixture(scope="module")
def clips(folder):
    return ClipSet(folder, "train")


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    return ClipSet(write_shards(tmp_path_factory.mktemp("filmed"), [5, 3, 6], with_video), "train")


def stream_of(clips, batch, micro, world, rank, **options):
    options = {"workers": 0, "video": False, "window": 2, "seed": 5} | options
    return ClipStream(clips, batch_size=batch, micro_batch_size=micro, world_size=world, rank=rank, **options)


def sequence(clips, batch, micro, world, epoch=0, start=0, steps=None, **options):
    """The global order of sample numbers, put together from all ranks as slot j = a·(world·micro) + r·micro + i."""
    streams = [stream_of(clips, batch, micro, world, rank, **options) for rank in range(world)]
    epochs = [stream.epoch(epoch, start) for stream in streams]
    found, planned = [], []
    for number, parts in enumerate(zip(*epochs, strict=True)):
        assert len({(part.index, part.planned, part.position) for part in parts}) == 1
        assert all(len(part.micro_batches) == batch // (world * micro) for part in parts)
        assert all(len(micro_batch) == micro for part in parts for micro_batch in part.micro_batches)
        slots = [clip for a in range(batch // (world * micro)) for part in parts for clip in part.micro_batches[a]]
        counted = [clip.index for clip in slots if clip.counts]
        # Empty slots stand at the end of the step, and there are as few as there can be.
        assert [clip.index for clip in slots] == counted + [-1] * (batch - len(counted))
        assert len(counted) == parts[0].planned
        found += counted
        planned.append(parts[0].planned)
        if steps and number + 1 == steps:
            break
    for part in epochs:
        part.close()
    for stream in streams:
        stream.close()
    return found, planned


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7, 8, 16, 31, 64])
@pytest.mark.parametrize(("micro", "accumulation"), [(1, 1), (3, 1), (1, 4), (2, 2)])
def test_exactly_once_on_any_number_of_ranks(clips, world, micro, accumulation):
    batch = world * micro * accumulation
    reference, _ = sequence(clips, 1, 1, 1)
    found, planned = sequence(clips, batch, micro, world)
    assert found == reference and sorted(found) == list(range(TOTAL))
    assert planned == [batch] * (TOTAL // batch) + ([TOTAL % batch] if TOTAL % batch else [])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    world=st.integers(1, 6),
    micro=st.integers(1, 4),
    accumulation=st.integers(1, 3),
    window=st.integers(1, 4),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 2**40),
)
def test_exactly_once_for_any_shards(tmp_path_factory, sizes, world, micro, accumulation, window, epoch, seed):
    clips = ClipSet(write_shards(tmp_path_factory.mktemp("any"), sizes), "train")
    batch = world * micro * accumulation
    found, _ = sequence(clips, batch, micro, world, epoch, window=window, seed=seed)
    assert found == sequence(clips, 1, 1, 1, epoch, window=window, seed=seed)[0]
    assert sorted(found) == list(range(sum(sizes)))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_resume_at_any_sample_on_any_other_world_size(clips, data):
    """Also a second time, in a later epoch, and the epoch after a resume."""
    epoch = data.draw(st.integers(0, 2))
    whole, _ = sequence(clips, 1, 1, 1, epoch)
    found, position = [], 0
    for _ in range(3):
        world, micro = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
        accumulation = data.draw(st.integers(1, 2))
        steps = data.draw(st.integers(1, 3))
        part, planned = sequence(clips, world * micro * accumulation, micro, world, epoch, position, steps)
        found += part
        position += sum(planned)
        if position == TOTAL:
            break
    found += sequence(clips, 2, 1, 2, epoch, position)[0]
    assert found == whole
    assert sequence(clips, 4, 2, 2, epoch + 1)[0] == sequence(clips, 1, 1, 1, epoch + 1)[0]


def test_position_is_where_the_next_step_begins(clips):
    with stream_of(clips, 5, 5, 1, 0) as stream:
        steps = list(stream.epoch(0))
        assert [step.position for step in steps] == [5, 10, 15, 20, 25, 30, 32]
        assert [step.index for step in steps] == list(range(7)) and stream.steps_per_epoch == 7
        later = next(stream.epoch(0, 10))
        assert later.index == 2 and later.position == 15
        assert list(stream.epoch(0, TOTAL)) == []
        with pytest.raises(ValueError, match="position of 0 to 32"):
            stream.epoch(0, TOTAL + 1)


@pytest.mark.parametrize("workers", [0, 1, 2, 5, 8])
def test_workers_change_nothing(filmed, workers):
    """Order, texts, features and pixels are the same for every number of decoders."""
    expected = None
    with stream_of(filmed, 4, 2, 1, 0, workers=workers, video=True, frame_size=32, frames=4) as stream:
        clips = [c for e in range(2) for step in stream.epoch(e) for m in step.micro_batches for c in m if c.index >= 0]
    with stream_of(filmed, 1, 1, 1, 0, video=True, frame_size=32, frames=4) as stream:
        expected = [c for e in range(2) for step in stream.epoch(e) for m in step.micro_batches for c in m]
    assert [clip.index for clip in clips] == [clip.index for clip in expected]
    for clip, other in zip(clips, expected, strict=True):
        assert (clip.id, clip.text, clip.label, clip.dataset) == (other.id, other.text, other.label, other.dataset)
        assert clip.fault is None and (clip.faces == clip.index).all()
        np.testing.assert_array_equal(clip.frames, other.frames)


def test_combined_folders_are_one_set(folder, tmp_path):
    other = write_shards(tmp_path, [4, 10], lambda n: [("json", text_only(n)[0][1].replace(b"toy", b"two"))], "two")
    both = ClipSet([folder, other], "train")
    assert both.dataset == "toy+two" and len(both) == TOTAL + 14 and both.sizes.tolist() == [*SIZES, 4, 10]
    found, _ = sequence(both, 8, 2, 2, window=3)
    assert sorted(found) == list(range(TOTAL + 14))
    # Shuffled as one: neither folder comes as a block.
    folders = [index < TOTAL for index in sequence(both, 1, 1, 1, window=7)[0]]
    assert sum(a != b for a, b in itertools.pairwise(folders)) > 8
    with stream_of(both, 4, 4, 1, 0, shuffle=False) as stream:
        names = [clip.dataset for step in stream.epoch(0) for m in step.micro_batches for clip in m if clip.counts]
    assert names == ["toy"] * TOTAL + ["two"] * 14
    assert both.locate(TOTAL) == (5, 0) and both.index(6, 9) == TOTAL + 13
    assert both.meta(*both.locate(TOTAL + 13))["id"] == "two-13"


def test_the_order_of_evaluation_is_the_splits(clips):
    assert sequence(clips, 8, 2, 2, epoch=3, shuffle=False)[0] == list(range(TOTAL))


def test_random_frames_belong_to_seed_view_and_sample(filmed):
    def frames(epoch, **options):
        with stream_of(filmed, 1, 1, 1, 0, video=True, frame_size=16, frames=3, **options) as stream:
            clips = [c for step in stream.epoch(epoch) for m in step.micro_batches for c in m]
        return {clip.id: clip.frames.tobytes() for clip in clips}

    assert frames(1) == frames(1) and frames(1) != frames(2) != frames(1, seed=6)
    assert frames(0, views=2) == frames(2, views=2) != frames(1, views=2)
    assert frames(0, views=2) == frames(0)
    assert frames(0, shuffle=False) == frames(7, shuffle=False, seed=9)


def test_videos_whose_features_are_cached_are_not_decoded(filmed):
    asked = []

    def cached(dataset, id, view):
        asked.append((dataset, view))
        return id if id in ("toy-3", "toy-4") else None

    with stream_of(filmed, 2, 2, 1, 0, video=True, views=3, features=cached, frame_size=16) as stream:
        clips = [clip for step in stream.epoch(4) for m in step.micro_batches for clip in m]
    assert {clip.id for clip in clips if clip.frames is None} == {"toy-3", "toy-4"}
    assert {clip.features for clip in clips} == {"toy-3", "toy-4", None}
    assert all(clip.faces is not None for clip in clips) and set(asked) == {("toy", 1)}


def test_leaving_an_epoch_early_costs_nothing(filmed):
    with stream_of(filmed, 2, 2, 1, 0, video=True, workers=2, frame_size=16) as stream:
        for _ in range(30):
            steps = stream.epoch(0)
            next(steps)
            steps.close()
        two = stream.epoch(0), stream.epoch(1)  # also two walks at once
        for _ in range(3):
            assert all(clip.fault is None for walk in two for m in next(walk).micro_batches for clip in m)
        assert len(list(stream.epoch(0))) == 7


@pytest.mark.parametrize(
    ("batch", "micro", "world", "rank", "message"),
    [(5, 2, 2, 0, "multiple of world size x micro_batch_size = 2 x 2, found 5"), (4, 2, 2, 2, "0 to 1, found 2")],
)
def test_wrong_arithmetic(clips, batch, micro, world, rank, message):
    with pytest.raises(ValueError, match=message):
        stream_of(clips, batch, micro, world, rank)


def test_a_set_that_is_not_there(folder, tmp_path):
    with pytest.raises(ValueError, match="expected samples in split test, found some in train only"):
        ClipSet(folder, "test")
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        ClipSet(tmp_path, "train")
    with pytest.raises(ValueError, match="at least one folder"):
        ClipSet([], "train")
