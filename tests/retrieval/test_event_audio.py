"""Audio features against computations of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from event_data import media, onnx_mean

from shards.audio import WIDTH, NoSound, OnnxAudio, decode_sound, log_mel, log_mel_statistics


def slow_log_mel(wave: np.ndarray) -> np.ndarray:
    """VGGish's definition in loops: DFT by its formula, triangles edge by edge."""
    count = 1 + (len(wave) - 400) // 160
    window = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / 400) for n in range(400)])
    dft = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(400)) / 512)
    mels = [1127 * np.log(1 + bin_ * 16000 / 512 / 700) for bin_ in range(257)]
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    out = np.zeros((count, 64))
    for frame in range(count):
        magnitude = np.abs(dft @ (wave[frame * 160 : frame * 160 + 400] * window))
        for band in range(64):
            low, centre, high = edges[band : band + 3]
            total = 0.0
            for bin_ in range(1, 257):
                weight = min((mels[bin_] - low) / (centre - low), (high - mels[bin_]) / (high - centre))
                total += max(0.0, weight) * magnitude[bin_]
            out[frame, band] = np.log(total + 0.01)
    return out


def test_log_mel_equals_its_definition() -> None:
    wave = np.random.default_rng(0).normal(size=1500).astype(np.float32) * 0.1
    np.testing.assert_allclose(log_mel(wave), slow_log_mel(wave), atol=1e-4)


def test_a_tone_is_in_its_band() -> None:
    t = np.arange(16000) / 16000
    low, high = (log_mel_statistics(np.sin(2 * np.pi * f * t).astype(np.float32))[:64].argmax() for f in (300, 4000))
    assert low < 15 < 40 < high


def test_statistics_are_mean_and_deviation_over_time() -> None:
    wave = np.random.default_rng(1).normal(size=16000).astype(np.float32)
    spectrogram, found = log_mel(wave), log_mel_statistics(wave)
    assert found.shape == (WIDTH,) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.concatenate([spectrogram.mean(0), spectrogram.std(0)]), rtol=1e-6)


def test_less_than_a_window_is_padded() -> None:
    assert log_mel(np.ones(10, np.float32)).shape == (1, 64)


def test_stereo_of_any_rate_becomes_16_khz_mono(tmp_path: Path) -> None:
    t = np.arange(44100) / 44100
    tone = np.stack([np.sin(2 * np.pi * 1000 * t), np.sin(2 * np.pi * 1000 * t)]).astype(np.float32) * 0.5
    data = media(tone, rate=44100, layout="stereo")
    (tmp_path / "clip.mp4").write_bytes(data)
    wave = decode_sound(tmp_path / "clip.mp4")
    np.testing.assert_array_equal(wave, decode_sound(data))
    assert 15500 < len(wave) < 18500
    spectrum = np.abs(np.fft.rfft(wave[4000:12000]))
    assert abs(int(spectrum.argmax()) * 2 - 1000) <= 4  # 8000 samples: 2 Hz a bin


def test_a_cut_is_cut() -> None:
    sound = np.concatenate([np.zeros(8000), np.random.default_rng(0).normal(size=8000) * 0.2])[None]
    data = media(sound)
    assert len(decode_sound(data, start=0.5, end=0.8)) == 4800


@pytest.mark.parametrize(("sound", "message"), [(None, "no|none"), (np.zeros((1, 16000)), "silence")])
def test_no_sound_is_told(sound: np.ndarray | None, message: str) -> None:
    with pytest.raises(NoSound, match=message):
        decode_sound(media(sound))


def test_rubbish_is_no_sound_track(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected an audio track that decodes"):
        decode_sound(b"not a video at all" * 10)


@pytest.mark.parametrize(
    ("shape", "axes"), [(["p", 96, 64], [1, 2]), (["p", 1, 96, 64], [1, 2, 3]), (["p", 96, 64, 1], [1, 2, 3])]
)
def test_a_users_vggish_gets_patches_in_its_layout(tmp_path: Path, shape: list[object], axes: list[int]) -> None:
    model = OnnxAudio(onnx_mean(tmp_path / "vggish.onnx", shape, axes))
    wave = np.random.default_rng(2).normal(size=40000).astype(np.float32)
    spectrogram = log_mel(wave)
    assert model(wave) == pytest.approx([spectrogram[: len(spectrogram) // 96 * 96].mean()], rel=1e-5)
    assert model(wave[:3000]).shape == (1,)  # less than a patch


def test_a_wrong_onnx_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected an input \(patches, 96, 64\)"):
        OnnxAudio(onnx_mean(tmp_path / "flat.onnx", ["p", 64], [1]))
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="expected an ONNX model"):
        OnnxAudio(tmp_path / "broken.onnx")
    with pytest.raises(FileNotFoundError, match="found no file"):
        OnnxAudio(tmp_path / "none.onnx")
