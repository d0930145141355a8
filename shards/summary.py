"""What a pack came to: a table for the terminal, rejected.csv, and the distribution of labels as a picture."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from shards.durable import write_whole
from shards.manifest import Manifest
from shards.sources.record import Rejected


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Numbers of a finished pack.

    Attributes:
        manifest: what was written.
        folder: where.
    """

    manifest: Manifest
    folder: Path

    @property
    def clips(self) -> int:
        return sum(split.samples for split in self.manifest.splits.values())

    @property
    def rejected(self) -> dict[str, int]:
        """Number of rows left out, by cause."""
        causes: dict[str, int] = self.manifest.packing.get("rejected", {})
        return causes

    @property
    def rejected_share(self) -> float:
        """Rows left out, as a share of all rows."""
        out = sum(self.rejected.values())
        return out / max(1, out + self.clips)

    def table(self) -> str:
        """The summary for a person, some 15 lines."""
        packing = self.manifest.packing
        lines = [f"{self.manifest.dataset} in {self.folder}: {self.clips} clips, {packing.get('hours', 0):.2f} h"]
        for name, split in self.manifest.splits.items():
            size = sum(shard.bytes for shard in split.shards)
            lines.append(f"  {name:6} {split.samples:7} clips in {len(split.shards):5} shards, {size / 1e6:9.1f} MB")
        lines.append(f"  with a face {packing.get('with_face', 0)}, source bytes kept {packing.get('kept_bytes', 0)}")
        lines += self._histogram()
        if self.rejected:
            lines.append(
                f"  rejected {sum(self.rejected.values())} ({100 * self.rejected_share:.2f} %), see rejected.csv:"
            )
            lines += [f"    {count:7}  {cause}" for cause, count in self.rejected.items()]
        else:
            lines.append("  rejected none")
        return "\n".join(lines)

    def _histogram(self) -> list[str]:
        """One line per class: its number, and how many clips each split has of it."""
        names = list(self.manifest.splits)
        histograms = [self.manifest.splits[name].labels.get("histogram", {}) for name in names]
        values = sorted({value for histogram in histograms for value in histogram}, key=int)
        head = "  label  " + " ".join(f"{name:>7}" for name in names)
        rows = [
            f"  {value:>5}  " + " ".join(f"{histogram.get(value, 0):7}" for histogram in histograms) for value in values
        ]
        return [head, *rows]

    def draw(self, path: Path) -> None:
        """The distribution of labels as a PNG, a bar per class and split (Fig. 3)."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        histograms = {name: split.labels["histogram"] for name, split in self.manifest.splits.items() if split.samples}
        values = sorted({value for histogram in histograms.values() for value in histogram}, key=int)
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        width = 0.8 / max(1, len(histograms))
        for number, (name, histogram) in enumerate(histograms.items()):
            left = [at - 0.4 + (number + 0.5) * width for at in range(len(values))]
            axes.bar(left, [histogram.get(value, 0) for value in values], width, label=name)
        axes.set_xticks(range(len(values)), values)
        axes.set(xlabel="label", ylabel="clips", title=f"{self.manifest.dataset}: {self.clips} clips")
        if histograms:  # none where every clip was rejected
            axes.legend()
        buffer = io.BytesIO()
        # Without the version of matplotlib: the same shards give the same file.
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
        write_whole(path, buffer.getvalue())


def write_rejected(path: Path, rejected: list[Rejected]) -> None:
    """rejected.csv: id, cause, detail, one row per record that packing left out."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["id", "cause", "detail"])
    for row in rejected:
        writer.writerow([row.id, row.cause, " ".join(row.detail.split())])
    write_whole(path, buffer.getvalue().encode("utf-8", "backslashreplace"))
