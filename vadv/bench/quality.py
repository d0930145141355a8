"""How near packed pictures come to their source's, as training sees both."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter


def nearness(packed: np.ndarray, raw: np.ndarray) -> tuple[float, float]:
    """PSNR in dB of a clip's views, (T, 3, H, W) uint8, and the mean SSIM of its frames."""
    return psnr(packed, raw), float(np.mean([ssim(*pair) for pair in zip(packed, raw, strict=True)]))


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 arrays of one shape, in dB."""
    error = np.square(found.astype(np.float64) - wanted).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(found: np.ndarray, wanted: np.ndarray) -> float:
    """Structural similarity of two (3, H, W) uint8 pictures, the mean over channels and pixels.

    Source: Wang et al., 2004: Gaussian window of 1.5 pixels, constants of .01 and .03.
    """
    a, b = found.astype(np.float64), wanted.astype(np.float64)

    def local(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, (0, 1.5, 1.5), truncate=3.5)

    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    both = local(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    shape = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return float((shape / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())
