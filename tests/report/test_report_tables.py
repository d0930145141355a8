"""Which runs enter which row, what is flagged, and what is best."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import made_runs
import numpy as np
import pytest

from vadv.report import render, tables
from vadv.report.groups import Group, group
from vadv.report.runs import find
from vadv.report.table import Column, Part, Row, Table, mark_best, wanted_seeds


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight settings with five seeds each."""
    return made_runs.write_sweep(tmp_path_factory.mktemp("sweep"), dataset="mosi", parameters=355_400_000)


def groups_of(*folders: Path) -> list[Group]:
    return group(find(folders))


def table(groups: list[Group], number: int, part: str = "") -> Table:
    return next(one for one in tables.build(groups, [number]) if part in one.name)


def row(made: Table, label: str, *, published: bool = False) -> Row:
    found = [one for one in made.rows if label in one.label and one.published == published]
    assert len(found) == 1, [one.label for one in made.rows]
    return found[0]


def test_means_and_deviations_are_over_seeds(sweep: Path) -> None:
    made = table(groups_of(sweep), 10)
    values = []
    for seed in range(1, 6):
        result = json.loads((sweep / f"crd-{seed}" / "result.json").read_text())
        values.append(result["splits"]["test"]["text"]["mae"])
    crd = row(made, "CRD")
    part = crd.cells["mae"][0]
    assert part.value == pytest.approx(np.mean(values))
    assert part.std == pytest.approx(np.std(values, ddof=1))
    assert part.text == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    assert (crd.n, crd.complete, crd.notes) == (5, True, [])


def test_every_run_is_in_the_rows_it_belongs_to(sweep: Path) -> None:
    groups = groups_of(sweep)
    labels = {
        number: [one.label for made in tables.build(groups, [number]) for one in made.rows if not one.published]
        for number in (2, 6, 7, 10, 12)
    }
    assert labels[2] == ["VideoAdviser (ours)"]
    assert labels[6] == [
        "VideoAdviser (ours)",
        "- w/o facial expression encoder",
        "- w/o video-specific prompting",
    ]
    assert labels[7] == [
        "Teacher (video logit)",
        "Teacher (argmax of the prompts)",
        "RoBERTa-Large w/o teacher",
        "Student (RoBERTa-Large)",
        "Student (RoBERTa-Large), frozen",
    ]
    assert labels[10] == ["CRD", "w/o step-distillation", "w/o step 1", "w/ step-distillation (ours)"]
    assert len(labels[12]) == 3


def test_published_rows_stand_beside_ours_and_are_marked(sweep: Path) -> None:
    made = table(groups_of(sweep), 10)
    assert [(one.key, one.published) for one in made.rows[:2]] == [("crd", True), ("crd", False)]
    assert "published" in render.markdown(made)
    assert row(made, "w/ step-distillation", published=True).cells["mae"][0].text == "0.568"


def test_a_test_split_of_another_size_is_said(sweep: Path) -> None:
    made = table(groups_of(sweep), 10)
    assert "our rows are scored on 120 clips (test), the published ones on 686" in made.notes


def test_runs_of_different_settings_never_share_a_mean(sweep: Path, tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "other", dataset="mosi", seed=1, settings={"train.lr": 1e-5})
    labels = [one.label for one in table(groups_of(sweep, tmp_path), 2).rows if "ours" in one.label]
    assert labels == ["VideoAdviser (ours) (train.lr=8e-06)", "VideoAdviser (ours) (train.lr=1e-05)"]


@pytest.mark.parametrize(
    "settings",
    [
        {"data.workers": 7, "data.shards": "/elsewhere/mosi"},
        {"train.micro_batch_size": 2, "log.every": 1},
        {"deepspeed": "/sweep/deepspeed/zero3.json", "teacher.cache_features": True},
    ],
)
def test_settings_that_change_no_number_do_not_split_a_row(tmp_path: Path, settings: dict[str, Any]) -> None:
    made_runs.write_run(tmp_path / "a", seed=1)
    made_runs.write_run(tmp_path / "b", seed=2, settings=settings)
    assert [sorted(one.runs) for one in groups_of(tmp_path)] == [[1, 2]]


def test_number_formats_split_a_row(tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "a", seed=1)
    made_runs.write_run(tmp_path / "b", seed=2, settings={"deepspeed": "configs/deepspeed/bf16.json"})
    assert len(groups_of(tmp_path)) == 2


def test_missing_and_failed_seeds_are_flagged_and_not_called_best(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        made_runs.write_run(tmp_path / f"crd-{seed}", seed=seed, settings={"objective.variant": "crd"}, error=0.6)
    made_runs.write_run(tmp_path / "step-1", seed=1, error=0.2)
    made_runs.write_run(tmp_path / "step-2", seed=2, finished=False)
    made = table(groups_of(tmp_path), 10)
    ours = row(made, "step-distillation (ours)")
    assert (ours.n, ours.complete) == (1, False)
    assert ours.notes == [
        f"seed 2 is missing: {tmp_path.name}/step-2: no result.json: not finished, or it failed (at step 90 of epoch 3)",
        "seed 3: not run, as most other rows of this table were",
    ]
    assert ours.marks == "a,b"
    assert [note[:2] for note in made.notes] == ["a:", "b:"]
    # The leader lacks seeds: neither it nor the next one is the best.
    assert not any(part.best for one in made.rows for part in one.cells["mae"])


def test_one_odd_seed_does_not_make_the_other_rows_incomplete() -> None:
    class Some:
        seedless = False

        def __init__(self, *seeds: int) -> None:
            self.seeds = set(seeds)

    assert wanted_seeds([Some(1, 2, 3), Some(1, 2, 3), Some(1, 2, 3, 9)]) == {1, 2, 3}  # type: ignore[list-item]
    assert wanted_seeds([Some(1, 2, 3), Some(1)]) == {1, 2, 3}  # type: ignore[list-item]


def test_a_seed_run_twice_counts_once_and_is_said(tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "a")
    made_runs.write_run(tmp_path / "b")
    ours = row(table(groups_of(tmp_path), 2), "ours")
    assert ours.n == 1
    name = tmp_path.name
    assert ours.notes == [f"seed 1 was run twice; {name}/a counts, {name}/b does not"]


def test_a_metric_that_one_seed_lacks_has_no_mean(tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "a", seed=1)
    folder = made_runs.write_run(tmp_path / "b", seed=2)
    result = json.loads((folder / "result.json").read_text())
    result["splits"]["test"]["text"]["corr"] = None
    (folder / "result.json").write_text(json.dumps(result))
    ours = row(table(groups_of(tmp_path), 2), "ours")
    assert "corr" not in ours.cells and "mae" in ours.cells
    assert ours.notes == ["Corr is undefined for seed 2 and has no mean"]


def test_different_test_splits_in_one_row_are_said(tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "a", seed=1)
    made_runs.write_run(tmp_path / "b", seed=2, rows=made_runs.clips(60))
    assert row(table(groups_of(tmp_path), 2), "ours").notes == ["test sizes differ: 120 (seed 1), 60 (seed 2)"]


def test_students_are_told_apart(sweep: Path, tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "b", dataset="mosi", settings={"student.model": "bert-base-uncased"})
    groups = groups_of(sweep, tmp_path)
    assert [one.label for one in table(groups, 2).rows if "ours" in one.label] == [
        "VideoAdviser (ours), RoBERTa-Large",
        "VideoAdviser (ours), BERT",
    ]
    # Nothing to compare it with: not in the ablations.
    assert not any("BERT" in one.label for one in table(groups, 6).rows if "ours" in one.label)
    assert row(table(groups, 5, "mosi"), "Student (BERT, ours)").cells["parameters"][0].text == "22.7M"


def test_combined_sets_are_scored_on_each_part(tmp_path: Path) -> None:
    rows = [*made_runs.clips(50, "mosi"), *made_runs.clips(70, "mosei", seed=1)]
    made_runs.write_run(tmp_path / "both", dataset="mosi+mosei", rows=rows)
    made_runs.write_run(tmp_path / "mosi", dataset="mosi")
    groups = groups_of(tmp_path)
    made = table(groups, 9)
    assert made.name == "table-09-mosi-mosei"
    both = [one for one in made.rows if not one.published]
    assert [one.label for one in both] == [
        "tested on MOSI, trained on MOSI+MOSEI",
        "tested on MOSI, trained on MOSI",
        "tested on MOSEI, trained on MOSI+MOSEI",
        "tested and trained on MOSI+MOSEI",
    ]
    whole = both[3].cells["mae"][0].value
    parts = [both[0].cells["mae"][0].value, both[2].cells["mae"][0].value]
    assert None not in parts and whole == pytest.approx((50 * parts[0] + 70 * parts[1]) / 120)  # type: ignore[operator]
    # A run on the combination is none on MOSI.
    assert [one.n for one in table(groups, 2, "mosi").rows if not one.published] == [1]


def test_runs_that_fit_nowhere_are_in_no_table(tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "x", settings={"teacher.face": False, "teacher.prompting": False})
    groups = groups_of(tmp_path)
    used = [one for number in tables.NUMBERS for made in tables.build(groups, [number]) for one in made.used]
    assert used == []


def test_the_modified_mosei_is_starred_by_its_size(tmp_path: Path) -> None:
    made_runs.write_run(tmp_path / "x", dataset="mosei", rows=made_runs.clips(2710, "mosei"), error=0.3)
    made = table(groups_of(tmp_path), 2)
    ours = row(made, "ours")
    assert ours.cells["mae"][0].star and ours.cells["mae"][0].best
    # Values on the original set compete among themselves.
    assert row(made, "UniMSE", published=True).cells["mae"][0].best
    two = row(made, "Self-MM", published=True).cells["mae"]
    assert [(part.text, part.star) for part in two] == [("0.530", False), ("0.579", True)]


def test_best_is_decided_as_printed() -> None:
    column = Column(key="mae", label="MAE", better="low")
    rows = [Row(key="", label="", cells={"mae": [Part(text="", value=value)]}) for value in (0.5004, 0.4996, 0.6)]
    mark_best(rows, column)
    assert [one.cells["mae"][0].best for one in rows] == [True, True, False]


def test_a_table_without_runs_has_its_published_rows_only(sweep: Path) -> None:
    made = tables.build(groups_of(sweep), [4])
    assert len(made) == 1 and not made[0].measured and len(made[0].rows) == 10
    with pytest.raises(ValueError, match=r"--table: expected one of 2, 4, .*, found 3"):
        tables.build([], [3])


def test_table_12_agrees_with_the_scores(sweep: Path) -> None:
    made = table(groups_of(sweep), 12)
    ours = next(one for one in made.rows if not one.published)
    assert ours.label.startswith("w/ step-distillation → w/o step-distillation")
    assert ours.cells["epsilon"][0].value == pytest.approx(0, abs=0.05)
    assert ours.cells["difference"][0].value < 0  # type: ignore[operator]


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs for Tables 4, 8 and 11."""
    root = tmp_path_factory.mktemp("retrieval")
    points: dict[str, tuple[dict[str, Any], float]] = {
        "step": ({}, 0.5),
        "none": ({"objective.variant": "none"}, 0.9),
        "alone": ({"teacher": None}, 0.9),
        "visual": ({"retrieval.sides": "visual"}, 0.7),
        "audio": ({"retrieval.sides": "audio"}, 0.7),
        "kd": ({"objective.variant": "kd"}, 0.8),
    }
    for name, (settings, noise) in points.items():
        for seed in (1, 2):
            made_runs.write_retrieval(root / f"{name}-{seed}", seed=seed, settings=settings, noise=noise)
    made_runs.write_retrieval(root / "c-cca-1", method="c-cca", noise=1.2)
    made_runs.write_retrieval(root / "dcca-1", method="dcca", noise=1.2)
    return root


NOT_DISTILLED = ["EICS-style students", "EICS-style students, w/o distillation"]


def test_retrieval_runs_fill_their_tables(retrieval: Path) -> None:
    groups = groups_of(retrieval)
    ours = {n: [one.label for one in table(groups, n).rows if not one.published] for n in (4, 8, 11)}
    assert ours[4] == ["C-CCA", "DCCA", *NOT_DISTILLED, "VideoAdviser (ours)"]
    assert ours[8] == [
        *NOT_DISTILLED,
        "- w/ video distillation",
        "- w/ audio distillation",
        "- w/ audio and video distillation",
    ]
    assert ours[11] == ["KD", "w/ step-distillation (ours)"]
    made = table(groups, 4)
    assert row(made, "VideoAdviser (ours)").cells["map_mean"][0].text.count("±") == 1
    # Nothing random in CCA: one run is all there is. A comparator with seeds lacks one.
    assert (row(made, "C-CCA").complete, row(made, "DCCA").complete) == (True, False)
    used = [one for number in (4, 8, 11) for one in table(groups, number).used]
    assert set(used) == set(groups)


SWEEPS = sorted((Path(__file__).parents[2] / "configs" / "sweeps").glob("table*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_point_of_a_shipped_sweep_is_in_its_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm.sweep import expand, read_sweep
    from vadv.report.runs import Run

    monkeypatch.chdir(path.parents[2])
    number = int("".join(filter(str.isdigit, path.stem)))
    runs = []
    for point in expand(read_sweep(path), 1):
        config = asdict(point.config)
        shards = [shards.removeprefix("data/").removesuffix("-shards") for shards in point.config.data.folders()]
        scores = {"mae": 0.5, "acc2": 0.8, "map_mean": 0.5, "n": 9}
        heads = dict.fromkeys(("text", "video", "scores", "students"), scores)
        measure = {"output": "text", "metric": "mae", "name": "MAE", "better": "low"}
        result = {"seed": config["seed"], "splits": {"test": heads}, "config": config, "measure": measure}
        runs.append(Run(folder=Path("x"), name=point.name, config=config, result=result, datasets=tuple(shards)))
    groups = group(runs)
    used = {one for made in tables.build(groups, [number]) for one in made.used}
    assert groups and [one.traits for one in groups if one not in used] == []
    # One mean over all seeds of a point, never a run on its own.
    assert {len(one.runs) for one in groups} == {len({run.seed for run in runs})}


def test_csv_holds_plain_numbers(sweep: Path) -> None:
    made = table(groups_of(sweep), 10)
    lines = list(csv.DictReader(io.StringIO(render.comma_separated(made))))
    crd = next(line for line in lines if line["row"] == "CRD")
    assert float(crd["acc7"]) == pytest.approx(row(made, "CRD").cells["acc7"][0].value)
    assert (crd["source"], crd["n"], crd["complete"]) == ("measured", "5", "true")
    assert lines[0]["source"] == "published" and float(lines[0]["acc2"]) == 0.863


def test_markup_in_labels_stays_text() -> None:
    made = Table(number=2, name="t", title="x", columns=(Column(key="mae", label="MAE"),))
    made.rows.append(Row(key="", label="a|b <i> 50% _x_ & {y} $z$ \\ #1", notes=[]))
    made.notes.append("see <script>")
    text = render.markdown(made)
    assert r"a\|b \<i\> 50% \_x\_ & {y} $z$ \\ \#1" in text
    assert r"see \<script\>" in text
    tex = render.latex(made)
    assert r"a\textbar{}b" in tex or "a|b" in tex
    assert r"50\% \_x\_ \& \{y\} \$z\$ \textbackslash{} \#1" in tex


def test_latex_compiles(sweep: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (apt-get install texlive-latex-recommended)")
    groups = groups_of(sweep)
    made = [render.latex(one, "source_of & all") for number in (2, 10, 12) for one in tables.build(groups, [number])]
    odd = Table(
        number=2, name="odd", title="$%&#_{}~^\\ <é>", columns=(Column(key="mae", label="MAE_x", better="low"),)
    )
    odd.rows.append(Row(key="", label="{a} \\b %c ε_min", cells={"mae": [Part(text="-0.100 ± 0.02", value=-0.1)]}))
    body = "\n".join([*made, render.latex(odd)])
    packages = r"\usepackage[utf8]{inputenc}\usepackage{booktabs,graphicx}"
    text = rf"\documentclass[twocolumn]{{article}}{packages}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "x.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "x.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_a_distiller_of_ones_own_has_a_row_and_a_scene(tmp_path: Path) -> None:
    from vadv.report.scenes import scenes

    for seed in (1, 2):
        made_runs.write_run(tmp_path / f"step-{seed}", seed=seed)
        made_runs.write_run(tmp_path / f"own-{seed}", seed=seed, settings={"objective.variant": "rkd"})
    groups = groups_of(tmp_path)
    assert [one.label for one in table(groups, 10).rows if not one.published] == ["w/ step-distillation (ours)", "rkd"]
    (scene,) = scenes(groups)
    assert list(scene.groups) == ["w/ step-distillation (ours)", "rkd"]
