"""Sound of a clip → one feature vector: decoding with PyAV, then a log-mel spectrogram's statistics or an ONNX model.

Legend: n samples, F spectrogram frames, 64 mel bands, P patches of 96 frames.
The spectrogram is VGGish's (16 kHz, 25 ms windows every 10 ms, 64 bands from 125 to 7500 Hz, log(mel + 0.01)), so that
a user's VGGish in ONNX format sees what it was trained on. Without one, the feature is the mean and the standard
deviation over time of each band: 128 numbers, VGGish's width, and nothing to download.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np

RATE = 16000
"""Samples per second."""
BANDS = 64
WIDTH = 2 * BANDS
"""Width of `log_mel_statistics`."""
_WINDOW, _HOP, _FFT = 400, 160, 512
_LOW, _HIGH, _FLOOR = 125.0, 7500.0, 0.01
_PATCH = 96
"""Frames of one VGGish input: 0.96 s."""
_LONGEST = 600
"""Seconds of sound that are read; a clip has 2 to 10. A damaged file may claim days."""


class NoSound(ValueError):
    """The clip has no audio track, or nothing but digital silence in it."""


def decode_sound(video: Path | bytes, start: float | None = None, end: float | None = None) -> np.ndarray:
    """The first audio track as 16 kHz mono.

    Args:
        video: a file, or its bytes.
        start, end: seconds of a cut; None means its beginning, its end.

    Returns:
        (n,) float32 in about [-1, 1].

    Raises:
        NoSound: there is no audio track, or every sample is zero.
        ValueError: the container or the track cannot be decoded.
    """
    import av

    blocks: list[np.ndarray] = []
    try:
        with av.open(io.BytesIO(video) if isinstance(video, bytes) else str(video)) as container:
            if not container.streams.audio:
                raise NoSound("expected an audio track, found none")
            resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
            samples = 0
            for frame in container.decode(container.streams.audio[0]):
                for part in resampler.resample(frame):
                    blocks.append(part.to_ndarray().reshape(-1))
                    samples += len(blocks[-1])
                if samples > _LONGEST * RATE:
                    break
            blocks.extend(part.to_ndarray().reshape(-1) for part in resampler.resample(None))
    except av.FFmpegError as error:
        raise ValueError(f"expected an audio track that decodes, found: {error}") from error
    wave = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    first, last = (None if t is None else round(t * RATE) for t in (start, end))
    wave = wave[first:last]
    wave = np.nan_to_num(wave, nan=0.0, posinf=0.0, neginf=0.0)
    if not np.any(wave):
        raise NoSound(f"expected sound, found {len(wave)} samples of digital silence")
    return wave


def log_mel(wave: np.ndarray) -> np.ndarray:
    """VGGish's log-mel spectrogram of 16 kHz sound.

    Args:
        wave: (n,); less than one window is padded with silence.

    Returns:
        (F, 64) float32 with F = 1 + (n - 400) // 160.
    """
    wave = np.pad(wave, (0, max(0, _WINDOW - len(wave))))
    windows = np.lib.stride_tricks.sliding_window_view(wave, _WINDOW)[::_HOP]
    # The periodic Hann window, as VGGish has it; numpy's own is the symmetric one.
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    magnitude = np.abs(np.fft.rfft(windows * hann, _FFT))
    return np.log(magnitude @ _mel_matrix() + _FLOOR).astype(np.float32)


def log_mel_statistics(wave: np.ndarray) -> np.ndarray:
    """Mean and standard deviation over time of each log-mel band.

    Args:
        wave: (n,) 16 kHz sound.

    Returns:
        (128,) float32: 64 means, then 64 standard deviations.
    """
    spectrogram = log_mel(wave)
    return np.concatenate([spectrogram.mean(0), spectrogram.std(0)])


@cache
def _mel_matrix() -> np.ndarray:
    """(257, 64): triangles in the mel scale 1127 ln(1 + f / 700), as HTK and VGGish have them."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    edges = np.linspace(mel(_LOW), mel(_HIGH), BANDS + 2)
    bins = mel(np.linspace(0, RATE / 2, _FFT // 2 + 1))[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    triangles[0] = 0  # no band holds the constant part
    return triangles


class OnnxAudio:
    """A user's VGGish (or a model with the same input) in ONNX format.

    Its input is (P, 96, 64), (P, 1, 96, 64) or (P, 96, 64, 1); its output (P, D) is averaged over the patches.
    """

    def __init__(self, path: Path) -> None:
        """Raises: ValueError if the model has another kind of input."""
        self._session = onnx_session(path)
        self._input = self._session.get_inputs()[0]
        shape = self._input.shape
        self._layouts = {3: (0, 1, 2), 4: (0, 3, 1, 2) if shape[-1] != 1 else (0, 1, 2, 3)}
        if len(shape) not in self._layouts:
            raise ValueError(
                f"{path}: expected an input (patches, 96, 64), or with a channel of 1 behind or before, found {shape}"
            )

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(n,) 16 kHz sound → (D,) float32. Less than 0.96 s is repeated up to one patch."""
        spectrogram = log_mel(wave)
        if len(spectrogram) < _PATCH:
            spectrogram = np.resize(spectrogram, (_PATCH, BANDS))
        count = len(spectrogram) // _PATCH
        patches = spectrogram[: count * _PATCH].reshape(count, _PATCH, BANDS)
        if len(self._input.shape) == 4:
            patches = patches[..., None].transpose(self._layouts[4])
        output = self._session.run(None, {self._input.name: patches})[0]
        return np.asarray(output, np.float32).reshape(count, -1).mean(0)


def onnx_session(path: Path):  # type: ignore[no-untyped-def]
    """An onnxruntime session on one CPU thread: packing runs one process per core.

    Raises:
        FileNotFoundError: no such file.
        ValueError: onnxruntime is missing or cannot read the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected an ONNX model, found no file {path}")
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            f"{path}: expected onnxruntime to run it, found it is not installed; pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes are not public
        raise ValueError(f"{path}: expected an ONNX model, found: {str(error).splitlines()[0]}") from error
