"""An index of clips for retrieval: a folder with both students' vectors of each clip, and who the clips are.

vectors.safetensors   audio (N, C), visual (N, C) float32
clips.jsonl           one line a clip: id, dataset, and where they are known split, label, class
index.json            {"format": 1, "students": folder, "clips": number}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vadv.retrieval.folder import MODALITIES, Students

FORMAT = 1
VECTORS, CLIPS, FACTS = "vectors.safetensors", "clips.jsonl", "index.json"


@dataclass(frozen=True, kw_only=True)
class Index:
    """Clips that can be asked for.

    Attributes:
        clips: id, dataset of each; label, class and split where they are known.
        vectors: (N, C) float32 by modality, rows of length 1.
        students: folder of the students that made them.
    """

    clips: list[dict[str, Any]]
    vectors: dict[str, np.ndarray]
    students: str

    def __len__(self) -> int:
        return len(self.clips)

    def find(self, identity: str) -> int:
        """Row of a clip.

        Raises:
            ValueError: no such clip.
        """
        for row, clip in enumerate(self.clips):
            if clip["id"] == identity:
                return row
        raise ValueError(f"expected the id of one of {len(self)} indexed clips, found {identity!r}")

    def nearest(
        self, vector: np.ndarray, modality: str, count: int, without: int | None = None
    ) -> list[dict[str, Any]]:
        """The clips whose `modality` is most like a vector.

        Args:
            vector: (C,), a student's vector of either modality.
            modality: audio or visual: which side of the clips is ranked.
            count: how many.
            without: row that is left out, the asking clip itself.

        Returns:
            Clips with their `similarity`, the most similar first; of equals the first indexed.
        """
        similarity = self.vectors[modality] @ unit(vector[None])[0]
        order = [row for row in np.argsort(-similarity, kind="stable") if row != without][:count]
        return [{**self.clips[row], "similarity": round(float(similarity[row]), 6)} for row in order]


def unit(rows: np.ndarray) -> np.ndarray:
    """(N, C) → rows of length 1; zeros stay."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0), np.float32)


def index_shards(students: Students, folders: Sequence[str], splits: Sequence[str]) -> Index:
    """Index the clips of shards.

    Raises:
        ValueError: no such split, no vectors, or vectors of another width or making than the students'.
    """
    from shards.features import described
    from shards.vectors import read_vectors
    from vadv.clips import open_clips
    from vadv.config import Data

    rows: list[dict[str, Any]] = []
    features: dict[str, list[np.ndarray]] = {name: [] for name in MODALITIES}
    for split in splits:
        clips = open_clips(Data(shards=list(folders)), split, "retrieval")
        for folder, manifest in zip(clips.folders, clips.manifests, strict=True):
            students.require_same(described(manifest.packing), str(folder))
        found = read_vectors(clips)
        for name in MODALITIES:
            features[name].append(getattr(found, name))
        for identity, dataset, label in zip(found.ids, found.datasets, found.labels.tolist()):
            rows.append(_clip(students, identity, dataset, label, split))
    joined = {name: _joined(parts, name) for name, parts in features.items()}
    return Index(
        clips=rows,
        vectors={name: unit(students.project(name, array)) for name, array in joined.items()},
        students=str(students.folder),
    )


def index_features(students: Students, file: Path, splits: Sequence[str]) -> Index:
    """Index the clips of a feature file in vegas_feature.h5's form; ids are test-000000 and so on.

    Raises:
        ValueError, FileNotFoundError: see `shards.sources.vegas_h5.read_h5`.
    """
    from shards.features import described
    from shards.sources.vegas_h5 import PARTS, read_h5

    students.require_same(described({}), str(file))
    parts = read_h5(file, students.widths["audio"], students.widths["visual"])
    wanted = [name for name in PARTS if name in splits]
    if not wanted:
        raise ValueError(f"--split: expected train or test, which {file} has, found {', '.join(splits)}")
    rows = [
        _clip(students, f"{name}-{number:06d}", file.stem, int(label), name)
        for name in wanted
        for number, label in enumerate(parts[name].labels)
    ]
    features = {m: np.concatenate([getattr(parts[name], m) for name in wanted]) for m in MODALITIES}
    return Index(
        clips=rows,
        vectors={name: unit(students.project(name, array)) for name, array in features.items()},
        students=str(students.folder),
    )


def index_vectors(students: Students, folders: Mapping[str, Path]) -> Index:
    """Index clips by files of their vectors, AUDIO/ID.npy and VISUAL/ID.npy; nothing is known of them but their ids.

    Args:
        folders: by modality.

    Raises:
        ValueError, FileNotFoundError: no such folder, a clip with one vector only, or a bad vector; names the file.
    """
    from shards.features import described
    from shards.sources.vegas import read_vector

    students.require_same(described({}), str(folders["audio"]))
    found: dict[str, dict[str, Path]] = {}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise FileNotFoundError(f"--{name}-features: expected a folder of ID.npy files, found none at {folder}")
        found[name] = {p.relative_to(folder).with_suffix("").as_posix(): p for p in sorted(folder.rglob("*.npy"))}
    identities = sorted(found["audio"].keys() | found["visual"].keys())
    if not identities:
        raise ValueError(f"--audio-features: expected ID.npy files in {folders['audio']}, found none")
    features: dict[str, list[np.ndarray]] = {name: [] for name in MODALITIES}
    for identity in identities:
        for name in MODALITIES:
            if identity not in found[name]:
                raise ValueError(f"--{name}-features: expected {identity}.npy in {folders[name]}, found none")
            vector = read_vector(found[name][identity])
            if len(vector) != students.widths[name]:
                raise ValueError(
                    f"{found[name][identity]}: expected {students.widths[name]} numbers as the students were trained "
                    f"on, found {len(vector)}"
                )
            features[name].append(vector)
    return Index(
        clips=[{"id": identity, "dataset": folders["audio"].name} for identity in identities],
        vectors={name: unit(students.project(name, np.stack(rows))) for name, rows in features.items()},
        students=str(students.folder),
    )


def save_index(index: Index, folder: Path) -> None:
    """Write an index; index.json comes last, so that a folder with it is whole.

    Raises:
        ValueError: the folder holds something else than an index.
    """
    from safetensors.numpy import save_file

    if folder.exists() and any(folder.iterdir()) and not (folder / FACTS).is_file():
        raise ValueError(
            f"{folder}: expected an empty folder or an older index, found other files; choose another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FACTS).unlink(missing_ok=True)
    save_file({name: np.ascontiguousarray(rows) for name, rows in index.vectors.items()}, folder / VECTORS)
    with (folder / CLIPS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(clip, ensure_ascii=False) + "\n" for clip in index.clips)
    facts = {"format": FORMAT, "students": index.students, "clips": len(index)}
    (folder / FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")


def open_index(folder: Path) -> Index:
    """Read an index.

    Raises:
        FileNotFoundError: none there.
        ValueError: another format, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not (folder / FACTS).is_file():
        raise FileNotFoundError(
            f"{folder}: expected an index, found no {FACTS}; make one with launch/retrieve.py index"
        )
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts.get("format") != FORMAT:
            raise ValueError(f"format {facts.get('format')}")
        clips = [json.loads(line) for line in (folder / CLIPS).read_text(encoding="utf-8").splitlines()]
        vectors = load_file(folder / VECTORS)
        sizes = {len(clips), *(len(vectors[name]) for name in MODALITIES)}
        if len(sizes) > 1 or not all("id" in clip for clip in clips):
            raise ValueError("clips and vectors do not belong together")
    except (ValueError, KeyError, AttributeError, TypeError, OSError, SafetensorError) as error:
        raise ValueError(f"{folder}: expected an index of format {FORMAT}, found a damaged one ({error})") from error
    return Index(clips=clips, vectors={name: vectors[name] for name in MODALITIES}, students=str(facts["students"]))


def answers(index: Index, identities: Sequence[str], asked: str, ranked: str, count: int) -> Iterator[dict[str, Any]]:
    """For each clip of the index: the clips whose `ranked` side is most like its `asked` side."""
    for identity in identities:
        row = index.find(identity)
        results = index.nearest(index.vectors[asked][row], ranked, count, without=row)
        yield {"query": identity, "asked": asked, "ranked": ranked, "results": results}


def _clip(students: Students, identity: str, dataset: str, label: int, split: str) -> dict[str, Any]:
    name = students.classes[label] if 0 <= label < len(students.classes) else str(label)
    return {"id": identity, "dataset": dataset, "split": split, "label": label, "class": name}


def _joined(parts: list[np.ndarray], name: str) -> np.ndarray:
    if len({part.shape[1] for part in parts}) > 1:
        raise ValueError(f"expected {name} vectors of one width in all splits, found others; pack them together")
    return np.concatenate(parts)
