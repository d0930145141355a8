"""What 8, 64 and 1,024 GPUs would meet: the calculation behind docs/scale.md.

    python docs/experiments/scale.py

Operations, parameters and bytes come from the code and configs/mosei.yaml; seconds per clip and per message are the
measured ones of docs/benchmarks.md; what a card and a network can do are assumptions, named below.
"""

from __future__ import annotations

import math

from vadv import config_file
from vadv.training.flops import Work
from vadv.training.shapes import shapes_of

TOKENS, FRAMES, PATCHES, WIDTH = 30, 8, 257, 1024
PEAK, MFU = 989e12, 0.5
"""H100 in bf16 (configs/gpu-peaks.json), and the share of it that is assumed."""
PRODUCTS, MEMORY, STREAMED = 0.7, 3.35e12, 0.8
"""Share of the peak that large bf16 products reach; bytes per second of HBM3, and the share that streaming reaches."""
NODE = 8
"""GPUs of a node."""
NVLINK, NETWORK, DISK, HOST = 450e9, 50e9, 5e9, 20e9
"""Bytes per second and GPU within a node and between nodes (400 Gb/s each), and per node from its NVMe disk and by a
copy to host memory."""
CORES = 12
"""Cores of a node per GPU."""
DECODE = 0.0094
"""Core seconds per packed clip (launch/bench.py pipeline)."""
AGREE = 60e-6
"""Seconds per hop of a small message between hosts; an agreement has 2·log2(ranks) of them."""
SHARED = 20e9
"""Bytes per second that a shared file system or object store gives to all nodes together."""
MICRO = (4, 16, 64)


def main() -> None:
    """Print the tables."""
    settings = config_file.load("configs/mosei.yaml", {"student.weights": "random", "teacher.weights": "random"})
    with shapes_of(settings, 1, TOKENS) as (model, _):
        work = Work(model)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    student = work.student(1, 1, TOKENS).total
    full, cached = (work.frozen + work.teacher).total + student, work.teacher.total + student
    features = FRAMES * PATCHES * WIDTH * 2
    print(f"trained {trained / 1e6:.0f} M, frozen {frozen / 1e6:.0f} M; TFLOP per clip: {full / 1e12:.2f}, from the "
          f"cache {cached / 1e12:.2f}; a clip's features in bf16: {features / 1e6:.1f} MB")  # fmt: skip
    for name, width, tokens in (("ViT-L/14", WIDTH, PATCHES), ("RoBERTa-Large", 1024, 256)):
        eager, fused = (roofline(width, tokens, fused) for fused in (False, True))
        print(f"{name}: at most {100 * eager:.0f} % of the peak, {100 * fused:.0f} % with its element-wise parts fused")
    print(
        "\n| GPUs | clips per GPU | from | model, ms | gradients, ms | agreement, ms | clips/s | cores per GPU or disk per node | first bottleneck |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for gpus in (8, 64, 1024):
        for micro in MICRO:
            for source, flops in (("video", full), ("cache", cached)):
                compute = micro * flops / (PEAK * MFU)
                gradients = communication(trained, gpus)
                agree = 2 * math.log2(gpus) * AGREE
                step = max(compute, gradients) + agree  # DeepSpeed reduces gradients beside the backward pass
                rate = micro / step
                if source == "video":
                    need, have = rate * DECODE, CORES
                    supply = f"{need:.1f} cores"
                else:
                    need, have = NODE * rate * features, DISK
                    supply = f"{need / 1e9:.1f} GB/s"
                limits = {
                    "GPU": compute,
                    "gradients": gradients,
                    "decoding" if source == "video" else "disk": step * need / have,
                }
                first = max(limits, key=lambda name: limits[name])
                real = micro / max(step, limits.get("decoding", 0), limits.get("disk", 0))
                print(f"| {gpus} | {micro} | {source} | {1e3 * compute:.1f} | {1e3 * gradients:.1f} | {1e3 * agree:.2f} | "
                      f"{gpus * real:,.0f} | {supply} | {first} |")  # fmt: skip
    print(
        "\n| GPUs | checkpoint per rank, GB | training waits, s | written after, s | manifest of 10^6 shards, all ranks |"
    )
    print("|---|---|---|---|---|")
    for gpus in (8, 64, 1024):
        share = trained * (2 + 12) / gpus  # bf16 weights, fp32 weights and two moments
        wait, written = NODE * share / HOST, max(NODE * share / DISK, gpus * share / SHARED)
        print(
            f"| {gpus} | {share / 1e9:.3f} | {wait:.2f} | {written:.1f} | {gpus * 176e6 / 1e9:.1f} GB read, {gpus * 176e6 / SHARED:.0f} s |"
        )


def roofline(width: int, tokens: int, fused: bool) -> float:
    """Share of the peak that a transformer block can reach in bf16: matrix products at 70 % of it, then memory.

    Per token, in bytes: two layer norms (4 widths), GELU on 4 widths (8), two residual sums (6); a compiler fuses all but
    a third of these with their neighbours. Products are compute-bound at the sizes here, and their own traffic hides.
    """
    flops = 24.0 * width**2 + 4.0 * tokens * width
    moved = 2.0 * width * (4 + 8 + 6) * (1 / 3 if fused else 1)
    seconds = flops / (PRODUCTS * PEAK) + moved / (STREAMED * MEMORY)
    return flops / seconds / PEAK


def communication(trained: int, gpus: int) -> float:
    """Seconds for a ring to reduce the gradients and gather the parameters of ZeRO-1 in bf16."""
    sent = 2 * 2.0 * trained * (gpus - 1) / gpus
    return sent / (NVLINK if gpus <= NODE else NETWORK)


if __name__ == "__main__":
    main()
