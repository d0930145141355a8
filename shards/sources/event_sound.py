"""The sound of the made events: one function per class, from a score to 16 kHz samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shards.sources.event_score import EVENTS, EventScore, compose

RATE = 16000
"""Samples per second."""


def sound(score: EventScore) -> np.ndarray:
    """The clip's sound track: the event, perhaps a fainter second one, and a room's noise.

    Returns:
        (seconds * RATE,) float32 in [-1, 1].
    """
    rng = score.rng(1)
    wave = _unit(_VOICES[score.event](score, rng))
    if score.other >= 0:
        second = replace(compose(score.other, score.seed + 1), seconds=score.seconds)
        wave = wave + rng.uniform(0.2, 0.6) * _unit(_VOICES[score.other](second, rng))
    wave = wave + 10 ** (-rng.uniform(4, 24) / 20) * _unit(_noise(len(wave), rng, 40, 7000, slope=rng.uniform(0, 1)))
    # A microphone's own colour: no class may be known by its level or by one band alone.
    wave = _shape(wave, lambda f: (f / 1000 + 0.05) ** rng.uniform(-0.35, 0.35))
    peak = 10 ** (-rng.uniform(1, 14) / 20)
    return (peak * wave / max(np.abs(wave).max(), 1e-9)).astype(np.float32)


def _length(score: EventScore) -> int:
    return round(score.seconds * RATE)


def _unit(wave: np.ndarray) -> np.ndarray:
    return wave / max(float(np.sqrt(np.mean(wave**2))), 1e-9)


def _shape(wave: np.ndarray, gain) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Multiply the spectrum by gain(frequency in Hz)."""
    return np.fft.irfft(np.fft.rfft(wave) * gain(np.fft.rfftfreq(len(wave), 1 / RATE)), len(wave))


def _noise(samples: int, rng: np.random.Generator, low: float, high: float, slope: float = 0.0) -> np.ndarray:
    """Noise between two frequencies in Hz whose power falls with frequency to the power `slope`."""
    return _shape(
        rng.normal(size=samples),
        lambda f: (
            np.where(f > 0, np.maximum(f, 1.0) ** (-slope / 2), 0)
            / (1 + (f / high) ** 6)
            / (1 + (low / np.maximum(f, 1)) ** 6)
        ),
    )


def _place(score: EventScore, kernel: np.ndarray, onsets: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """The kernel once at each onset, cut at the clip's end."""
    wave = np.zeros(_length(score))
    for onset, strength in zip(onsets, strengths):
        start = int(onset * RATE)
        part = kernel[: max(0, len(wave) - start)]
        wave[start : start + len(part)] += strength * part
    return wave


def _decay(seconds: float, half_life: float) -> np.ndarray:
    return 0.5 ** (np.arange(int(seconds * RATE)) / RATE / half_life)


def _ring(frequencies: np.ndarray, seconds: float, half_lives: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    phases = rng.uniform(0, 2 * np.pi, len(frequencies))
    partials = [
        np.sin(2 * np.pi * f * t + p) * 0.5 ** (t / h) / (i + 1)
        for i, (f, p, h) in enumerate(zip(frequencies, phases, half_lives))
    ]
    return np.sum(partials, axis=0)


def _ball(score: EventScore, rng: np.random.Generator) -> np.ndarray:
    pitch = 260 - 150 * score.size + rng.uniform(0, 60)
    body = _ring(pitch * np.array([1, 1.59, 2.6]), 0.25, np.array([0.035, 0.02, 0.01]), rng)
    slap = 0.8 * _noise(len(body), rng, 300, 2500) * _decay(0.25, 0.006)
    return _place(score, body + slap, score.onsets, score.strengths * 0.85 ** np.arange(len(score.onsets)))


def _bell(score: EventScore, rng: np.random.Generator) -> np.ndarray:
    pitch = 900 - 500 * score.size + rng.uniform(-60, 60)
    partials = pitch * np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.74, 3.76])
    return _place(score, _ring(partials, 2.0, rng.uniform(0.15, 0.6, 7), rng), score.onsets, score.strengths)


def _birds(score: EventScore, rng: np.random.Generator) -> np.ndarray:
    wave = np.zeros(_length(score))
    centre = 4200 - 1800 * score.size
    for onset, strength in zip(score.onsets, score.strengths):
        seconds = float(rng.uniform(0.05, 0.16))
        t = np.arange(int(seconds * RATE)) / RATE
        bend = rng.uniform(-0.3, 0.3) * t / seconds + 0.06 * np.sin(2 * np.pi * rng.uniform(15, 40) * t)
        chirp = np.sin(2 * np.pi * np.cumsum(centre * rng.uniform(0.85, 1.2) * (1 + bend)) / RATE)
        wave += _place(score, chirp * np.hanning(len(t)), np.array([onset]), np.array([strength]))
    return wave


def _clock(score: EventScore, rng: np.random.Generator) -> np.ndarray:
    pitch = 2600 - 1500 * score.size + rng.uniform(-200, 200)
    tick = _ring(pitch * np.array([1, 1.7, 2.4]), 0.08, np.array([0.007, 0.005, 0.003]), rng)
    tock = _ring(0.8 * pitch * np.array([1, 1.7, 2.4]), 0.08, np.array([0.007, 0.005, 0.003]), rng)
    even, odd = slice(0, None, 2), slice(1, None, 2)
    return _place(score, tick, score.onsets[even], score.strengths[even]) + _place(
        score, tock, score.onsets[odd], score.strengths[odd]
    )


def _drum(score: EventScore, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(int(0.5 * RATE)) / RATE
    pitch = (150 - 80 * score.size + rng.uniform(0, 30)) * (1 + 0.6 * 0.5 ** (t / 0.02))
    skin = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * _decay(0.5, 0.07)
    snare = rng.uniform(0.0, 0.5) * _noise(len(t), rng, 800, 6000) * _decay(0.5, 0.04)
    return _place(score, skin + snare, score.onsets, score.strengths)


def _engine(score: EventScore, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(_length(score)) / RATE
    wobble = 1 + 0.04 * np.sin(2 * np.pi * score.speed * t) + 0.15 * rng.uniform() * t / score.seconds
    phase = 2 * np.pi * np.cumsum((95 - 55 * score.size) * wobble) / RATE
    hum = sum(np.sin(k * phase + rng.uniform(0, 6)) / k ** rng.uniform(0.6, 1.0) for k in range(1, 14))
    return hum * (1 + 0.4 * np.sin(phase / 2)) + 0.5 * _noise(len(t), rng, 60, 1500, slope=1)


def _fireworks(score: EventScore, rng: np.random.Generator) -> np.ndarray:
    boom = _noise(RATE, rng, 40, 500 - 250 * score.size, slope=1) * _decay(1.0, 0.08)
    crackle = _noise(RATE, rng, 1500, 7000) * (rng.uniform(size=RATE) < 0.004) * _decay(1.0, 0.25)
    crackle = np.convolve(crackle, _decay(0.01, 0.001))[:RATE]
    return _place(score, _unit(boom) + 0.6 * _unit(crackle), score.onsets, score.strengths)


def _rain(score: EventScore, rng: np.random.Generator) -> np.ndarray:
    samples = _length(score)
    hiss = _noise(samples, rng, 900 - 500 * score.size, 7500, slope=rng.uniform(0, 0.8))
    drops = np.zeros(samples)
    for start in rng.integers(0, samples - 800, 60):
        drops[start : start + 800] += (
            rng.uniform() * np.sin(2 * np.pi * rng.uniform(900, 3000) * np.arange(800) / RATE) * _decay(0.05, 0.006)
        )
    return _unit(hiss) + 0.5 * _unit(drops)


def _siren(score: EventScore, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(_length(score)) / RATE
    swing = np.sin(2 * np.pi * score.speed * t + rng.uniform(0, 6))
    swing = np.sign(swing) if rng.uniform() < 0.3 else swing
    phase = 2 * np.pi * np.cumsum((1000 - 450 * score.size) * (1 + rng.uniform(0.15, 0.35) * swing)) / RATE
    return np.sum([np.sin(k * phase) / k ** rng.uniform(1, 2) for k in (1, 2, 3, 4)], axis=0)


def _waves(score: EventScore, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(_length(score)) / RATE
    swell = (0.55 + 0.45 * np.sin(2 * np.pi * score.speed * t + rng.uniform(0, 6))) ** 2
    roar = _unit(_noise(len(t), rng, 60, 900 - 400 * score.size, slope=1))
    foam = _unit(_noise(len(t), rng, 800, 5500, slope=0.6))
    return swell * roar + rng.uniform(0.3, 0.8) * swell**2 * foam


_VOICES = (_ball, _bell, _birds, _clock, _drum, _engine, _fireworks, _rain, _siren, _waves)
assert len(_VOICES) == len(EVENTS)
