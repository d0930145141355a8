"""An index tells where members are, notices damage, and is made again when it is lost or not this tar's."""

import os
import tarfile
import threading

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from small_shards import npy, text_only, with_video, write_shards, write_tar

from shards.index import BadIndex, ShardIndex, index_path, open_index


@pytest.fixture(scope="module")
def tar(tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "000000.tar"
    write_tar(path, 40, [with_video(n) for n in range(5)])
    return path


@pytest.fixture(scope="module")
def good(tar):
    return ShardIndex.build(tar)


def test_it_agrees_with_tarfile_and_webdataset(tar, good):
    with tarfile.open(tar) as file:
        expected = [(m.name, m.offset_data, m.size) for m in file.getmembers()]
    found = [
        (f"{good.key(row)}.{suffix}", member.offset, member.size)
        for row in range(len(good))
        for suffix, member in good.members(row).items()
    ]
    assert found == expected and good.errors == ()
    data = tar.read_bytes()
    for row, sample in enumerate(webdataset.WebDataset(str(tar), shardshuffle=False)):
        assert sample["__key__"] == good.key(row)
        for suffix, member in good.members(row).items():
            assert data[member.offset : member.offset + member.size] == sample[suffix]


def test_what_is_saved_is_what_is_read(good):
    assert ShardIndex.parse(good.tobytes()).tobytes() == good.tobytes()


def test_an_empty_tar(tmp_path):
    write_tar(tmp_path / "000000.tar", 0, [])
    index = ShardIndex.build(tmp_path / "000000.tar")
    assert len(index) == 0 and len(ShardIndex.parse(index.tobytes())) == 0


def test_fractional_mtimes_are_passed_over(tmp_path):
    """webdataset's default: tarfile then writes PAX records."""
    write_tar(tmp_path / "000000.tar", 0, [text_only(0), text_only(1)], mtime=0.5)
    index = ShardIndex.build(tmp_path / "000000.tar")
    assert len(index) == 2 and not index.errors


@given(st.data())
def test_any_flipped_byte_is_noticed(good, data):
    raw = bytearray(good.tobytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadIndex):
        ShardIndex.parse(bytes(raw))


@given(st.data())
def test_any_other_length_is_noticed(good, data):
    raw = good.tobytes()
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    for wrong in (cut, raw + b"\0"):
        with pytest.raises(BadIndex):
            ShardIndex.parse(wrong)


@pytest.mark.parametrize("found", ["missing", "garbage", "empty", "of another tar", "a folder"])
def test_a_lost_or_foreign_index_is_made_again(tmp_path, found):
    folder = write_shards(tmp_path, [4, 6])
    tar = folder / "train/000000.tar"
    good = ShardIndex.build(tar)
    path = index_path(tar)
    match found:
        case "garbage":
            path.write_bytes(os.urandom(500))
        case "empty":
            path.write_bytes(b"")
        case "of another tar":
            ShardIndex.build(folder / "train/000001.tar").save(path)
        case "a folder":
            path.mkdir()
    assert open_index(tar, good.sha256).tobytes() == good.tobytes()
    if found != "a folder":
        assert path.read_bytes() == good.tobytes()


def test_an_index_goes_on_protecting_a_tar_that_was_damaged_afterwards(tmp_path):
    tar = write_shards(tmp_path, [4]) / "train/000000.tar"
    good = ShardIndex.build(tar)
    good.save(index_path(tar))
    raw = bytearray(tar.read_bytes())
    raw[600] ^= 1
    tar.write_bytes(raw[:4000])
    assert open_index(tar, good.sha256).tobytes() == good.tobytes()


def test_damaged_bytes_are_not_blessed(tmp_path, caplog):
    """A new index of a tar that is not the manifest's is used with a warning and never saved."""
    tar = write_shards(tmp_path, [4]) / "train/000000.tar"
    expected = ShardIndex.build(tar).sha256
    raw = bytearray(tar.read_bytes())
    raw[520] ^= 1
    tar.write_bytes(raw)
    assert len(open_index(tar, expected)) == 4
    assert "not the file that the manifest describes" in caplog.text
    assert not index_path(tar).exists()


def test_samples_behind_a_damaged_header_are_found(tmp_path):
    tar = tmp_path / "000000.tar"
    write_tar(tar, 0, [[("json", b"{}"), ("faces.npy", npy_bytes())] for _ in range(6)])
    good = ShardIndex.build(tar)
    raw = bytearray(tar.read_bytes())
    raw[good.members(2)["json"].offset - 512 + 3] ^= 0xFF
    tar.write_bytes(raw)
    index = ShardIndex.build(tar)
    # What is left of sample 2 has no KEY.json: it will be a fault of that sample alone.
    assert [error.cause for error in index.errors] == ["damaged"]
    assert index.numbers.tolist() == [0, 1, 2, 3, 4, 5]
    assert list(index.members(2)) == ["faces.npy"] and index.members(3) == good.members(3)


@pytest.mark.parametrize("left", [0, 100, 512, 600, 1500, 2600])
def test_a_truncated_tar_gives_what_is_whole(tmp_path, left):
    tar = tmp_path / "000000.tar"
    write_tar(tar, 0, [text_only(n) for n in range(3)])
    tar.write_bytes(tar.read_bytes()[:left])
    index = ShardIndex.build(tar)
    assert len(index) == left // 1024
    assert [error.cause for error in index.errors] == ([] if left in (0,) else ["truncated"])


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    tar = write_shards(tmp_path, [3]) / "train/000000.tar"

    def refuse(self, path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(ShardIndex, "save", refuse)
    assert len(open_index(tar)) == 3


def test_several_processes_may_make_it_at_once(tmp_path):
    tar = write_shards(tmp_path, [50]) / "train/000000.tar"
    found = []
    threads = [threading.Thread(target=lambda: found.append(len(open_index(tar)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [50] * 8 and len(ShardIndex.parse(index_path(tar).read_bytes())) == 50


def npy_bytes():
    import numpy as np

    return npy(np.zeros((64, 8), np.float32))
