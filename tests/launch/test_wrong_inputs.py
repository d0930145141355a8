"""What goes wrong ends in one line on standard error that says what was expected, and in the documented exit code.

Each row: the command line (W/ is a folder of wrong things, see wrong_things.py), words of the one line, in order.
The exit code is 2 (wrong use or input) unless it is given.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import NAMES, call, called, started
from wrong_things import make_all

TRAIN = "train --config configs/sample.yaml"
HERE = f"{TRAIN} --data.shards W/shards --run W/out"
RAW = "pack csv --root W/raw-broken --out W/out"
PREDICT = "predict --student W/student"
SWEEP = "sweep --dry-run --executor local --sweep W/sweeps"
INDEX = "retrieve index --out W/out --student"
QUERY = "retrieve query --index W/index"

ROWS = f"""
pack                                                   | expected SOURCE, found none
pack csvv --out W/out                                  | SOURCE: expected one of csv, mmsa | found csvv; did you mean csv?
pack csv --root W/raw-broken                           | expected --out, found none
{RAW} --frame-sise 3                                   | unknown option --frame-sise; did you mean --frame-size?
{RAW} --frame-size big                                 | --frame-size: expected a whole number, found 'big'
{RAW} --frame-size 3                                   | --frame-size: expected 80 to 4096, found 3
{RAW} --frames 0                                       | --frames: expected 1 to 100000, found 0
{RAW} --quantizer 300                                  | --quantizer: expected 1 to 255, found 300
{RAW} --workers 0                                      | --workers: expected 1 or more, found 0
{RAW} --clip-timeout 0                                 | --clip-timeout: expected more than 0 seconds
{RAW} --max-rejected 5                                 | --max-rejected: expected a share from 0 to 1, found 5
{RAW} --mode keeep                                     | --mode: expected one of transcode, keep | did you mean keep?
{RAW} --openface W/nowhere                             | --openface: expected a folder | found none at W/nowhere
{RAW} --fer-onnx W/file                                | --fer-onnx W/file: expected a FER+ model in ONNX | found another
{RAW} --table tables.csv                               | expected a table at W/raw-broken/tables.csv, found none
{RAW} --out W/file/out                                 | W/file: expected a folder, found a file
{RAW} --out W/full                                     | W/full: expected an empty folder | found 'thesis.txt' | --out
{RAW} --out W/shards                                   | W/shards: expected an empty folder or this same pack | --out
pack csv --root W/raw-no-label --out W/out             | clips.csv: expected the columns | add label to the first line
pack csv --root W/raw-semicolon --out W/out            | expected the columns id, video | found id;video;text
pack csv --root W/raw-header --out W/out               | expected clips, found none at all
pack csv --root W/raw-quote --out W/out                | expected clips, found 1 rows, none of them usable: | (1)
pack csv --root W/raw-empty --out W/out                | expected the columns | found no header
pack csv --root W/raw-latin --out W/out                | clips.csv: expected UTF-8 text | save it as UTF-8
pack csv --root W/raw-picture --out W/out              | clips.csv: expected UTF-8 text
pack mmsa --root W/empty --out W/out                   | expected a table at W/empty/label.csv, found none; check --root
pack mosi --root W/mmsa-no-mode --out W/out            | label.csv: expected the columns | add mode to the first line
pack mosei --root W/empty --out W/out --keep-ids W/gone.txt | --keep-ids: expected a file with one id a line | W/gone.txt
pack sample --out W/out --clips 0                      | --clips: expected 1 to 4200, found 0
pack sample --out W/out --sdist W/file                 | W/file: expected the source distribution vaderSentiment
pack sample-events --out W/out --clips 7               | --clips: expected a multiple of 10 from 30 on, found 7
pack sample-events --out W/out --clip W/gone.json      | --clip: expected an open_clip model JSON, found no file W/gone.json
pack sample-events --out W/out --root W/full           | W/full: expected an empty folder | choose another --root
pack vegas --out W/out                                 | expected either --root (videos) or --h5 | found neither
pack vegas --out W/out --root W/one-class              | expected a folder per event class, or clips.csv, found 1
pack vegas --out W/out --root W/no-videos              | expected clips, found none at all
pack vegas --out W/out --h5 W/picture.h5               | W/picture.h5: expected an HDF5 file
pack vegas --out W/out --h5 W/features-part.h5         | expected the arrays | lab_test is missing
pack vegas --out W/out --h5 W/features.h5 --audio-width 64 | audio_train: expected shape (n, 64), found (20, 128)
pack vegas --out W/out --h5 W/features.h5 --valid-share 2 | --valid-share: expected a share between 0 and 1, found 2
pack vegas --out W/out --root W/no-videos --visual-features W/gone | --visual-features: expected a folder of ID.npy files

verify                                                 | expected SHARDS, found none
verify W/empty                                         | expected shards in W/empty, found no manifest.json | launch/pack.py
verify W/file                                          | expected shards in W/file, found no manifest.json
verify W/shards-torn                                   | manifest.json: expected JSON, found | pack the dataset again
verify W/shards-list                                   | manifest.json: top level: expected an object, found []
verify W/shards-picture                                | manifest.json: expected JSON
verify W/shards-old                                    | manifest.json: format: expected 1 | found 99
verify W/shards --workers 0                            | --workers: expected 1 or more, found 0
verify W/shards --fsat                                 | unknown option --fsat; did you mean --fast?

train --config                                         | --config: expected a YAML file after it
train --config configs/sampel.yaml                     | no such configuration file; did you mean configs/sample.yaml?
train --config configs                                 | configs: expected a configuration file, found a folder
train --config W/empty.yaml                            | W/empty.yaml: expected settings, found none
train --config W/torn.yaml                             | W/torn.yaml: line 3: expected YAML
train --config W/list.yaml                             | W/list.yaml: expected a mapping of settings, found list
train --config W/flat.yaml                             | W/flat.yaml: train: expected a section of settings, found 3
train --config W/typo.yaml                             | unknown setting train.epoch; did you mean train.epochs?
train --config W/kind.yaml                             | train.lr: expected a number, found fast
train --config W/picture.yaml                          | W/picture.yaml: expected YAML, found a file that is no text
{TRAIN} --train.lrr 1                                  | unknown option --train.lrr; did you mean train.lr?
{TRAIN} --train.epochs many                            | train.epochs: expected a whole number, found many
{TRAIN} --train.epochs 0                               | train.epochs: expected at least 1, found 0
{TRAIN} --train.lr -1                                  | train.lr: expected 0 or more, found -1
{TRAIN} --data.max_bad_fraction 1.5                    | data.max_bad_fraction: expected a share, 0 to 1, found 1.5
{TRAIN} --objective.variant stp                        | objective.variant: expected one of | found stp; did you mean step?
{TRAIN} --task sentimentt                              | task: expected one of | did you mean sentiment?
{TRAIN} --teacher none                                 | teacher: expected a section of settings or null, found none
{TRAIN} --teacher.prompting true                       | teacher.prompting: expected paper, xclip or false, found true
{TRAIN} --student.frozen maybe                         | student.frozen: expected true or false, found maybe
{TRAIN} --seed one                                     | seed: expected a whole number, found one
{TRAIN} --run                                          | --run: expected a value after it, found none
{TRAIN} again                                          | expected options such as --seed VALUE, found again
{TRAIN} --train.batch_size 10 --train.micro_batch_size 4 | train.batch_size: expected a multiple of | found 10; change
{TRAIN} --plan --world-size many                       | --world-size: expected a whole number, found many
{TRAIN} --plan --world-size 0                          | --world-size: expected at least 1, found 0
{TRAIN} --plan --world-size 3                          | train.batch_size: expected a multiple of world size
{HERE} --deepspeed zero9.json                          | deepspeed: expected the path of a DeepSpeed JSON, found no file
{HERE} --deepspeed W/zero.json                         | deepspeed: expected JSON in W/zero.json
{HERE} --deepspeed W/zero-list.json                    | deepspeed: expected a JSON object in W/zero-list.json, found list
{HERE} --data.shards W/nowhere                         | expected shards in W/nowhere, found no manifest.json | launch/pack.py
{HERE} --data.shards [W/shards,W/empty]                | expected shards in W/empty, found no manifest.json
{HERE} --task retrieval                                | expected shards of the retrieval task, found sentiment
{HERE} --data.shards W/events                          | expected shards of the sentiment task, found retrieval
{HERE} --student.model W/file                          | student.model: cannot load W/file | expected a Hugging Face name or a
{HERE} --student.model package:nothing/x               | student.model: expected an installed package nothing, found none
{HERE} --teacher.clip configs/clip/tiy.json            | teacher.clip: no file configs/clip/tiy.json; expected the path
{HERE} --resume always                                 | --resume: expected auto, never or the path of a checkpoint, found
{HERE} --resume W/empty                                | W/empty: expected a complete checkpoint, found no complete.json
{HERE} --run W/file/run                                | W/file: expected a folder, found a file

doctor --config configs/sampel.yaml                    | no such configuration file; did you mean configs/sample.yaml?
doctor --config configs/sample.yaml --ranks -1         | --ranks: expected at least 1, found -1
doctor --config configs/sample.yaml --thoroughly       | unknown option --thoroughly; did you mean

evaluate                                               | expected --run, found none
evaluate --run W/empty                                 | W/empty: expected a run folder (with config.yaml) or a student
evaluate --run W/run                                   | expected the weights of a validated student, found no best
evaluate --run W/run-torn-config                       | config.yaml: line 2: expected YAML
evaluate --run W/run-old-config                        | config.yaml: unknown setting train.epoch; did you mean
evaluate --run W/student                               | W/student: expected --shards with a student folder outside
evaluate --run W/student --shards W/shards-no-test     | expected samples in split test, found some in train, valid only
evaluate --run W/student --shards W/shards-bad-tar     | test/000000.tar: sample 00000000: | launch/verify.py
evaluate --run W/student --shards W/shards-no-tar      | W/shards-no-tar/test/000000.tar is not there any more
evaluate --run W/student --shards W/shards --split tests | --split: expected one of | did you mean test?
evaluate --run W/student --shards W/shards --predictions W/empty | W/empty: expected a file, found a folder
evaluate --run W/student-torn --shards W/shards        | W/student-torn: expected weights that transformers can load
evaluate --run W/student --shards W/events             | expected shards of the sentiment task, found retrieval
evaluate --run W/vegas --shards W/shards               | expected shards of the retrieval task, found sentiment
evaluate --run W/vegas --shards W/events               | expected vectors with each sample, found no audio.npy

baselines W/nowhere                                    | W/nowhere: expected a finished run, found no result.json
baselines W/run-torn                                   | result.json: expected the test metrics | found none that can be read
baselines W/run-list                                   | result.json: expected the test metrics | found none that can be read
baselines W/run-no-splits                              | result.json: expected the test metrics | found none that can be read
baselines W/run-no-config                              | config.yaml: no such configuration file
baselines W/run --shards W/nowhere                     | expected shards in W/nowhere
baselines W/run --shards W/events                      | expected shards of the sentiment task, found retrieval

predict 'a text'                                       | expected --student, found none
{PREDICT}                                              | expected texts, or --input FILE, or - | found none
{PREDICT} 'a text' --input W/texts.txt                 | one of them, found several
predict --student W/file 'a text'                      | W/file: expected a student folder, found a file
predict --student W/empty 'a text'                     | expected a student folder with config.json | found no config.json
predict --student W/student-no-weights 'a text'        | expected model.safetensors or model.onnx, found neither
predict --student W/student-pickle 'a text'            | found neither; other formats can hold code and are not read
predict --student W/student-torn-json 'a text'         | config.json: expected JSON
predict --student W/student-list 'a text'              | config.json: expected a JSON object, found list
predict --student W/student-torn 'a text'              | W/student-torn: expected weights that
predict --student W/student-picture 'a text'           | W/student-picture: expected weights that
predict --student W/student-torn-tokenizer 'a text'    | expected tokenizer.json, found no readable tokenizer
predict --student W/student-facts 'a text'             | videoadviser.json: max_tokens: expected a number from 3
predict --student W/student-classes 'a text'           | expected a regression student (num_labels 1), found 2 labels
predict --student W/student-kind 'a text'              | W/student-kind: expected weights that transformers can load
predict --student W/student-wide 'a text'              | W/student-wide: expected weights that fit config.json, found
predict --student W/student-wide --engine torch a      | found: weights of other sizes than config.json says
predict --student W/vegas 'a text'                     | expected a text student, found the audio and visual students
{PREDICT} --input W/gone.txt                           | W/gone.txt: expected a file or folder, found none
{PREDICT} --input W/empty.csv                          | W/empty.csv: expected csv with a header
{PREDICT} --input W/texts.csv                          | expected the column text, found review, stars; choose with --column
{PREDICT} --input W/twice.csv                          | expected distinct column names
{PREDICT} --input W/scored.csv                         | expected no column sentiment, found one; name | --field
{PREDICT} --input W/latin.csv                          | W/latin.csv: expected the column text, found
{PREDICT} --input W/texts.pdf                          | found pdf; say what it is with --input-format
{PREDICT} --input W/torn.txt.gz                        | W/torn.txt.gz: expected a whole gzip file
{PREDICT} --input W/texts.txt --encoding klingon       | --encoding: expected a name that Python knows, found klingon
{PREDICT} --input W/texts.txt --output W/texts.txt     | --output: expected another file than the input
{PREDICT} --input W/texts.txt --output W/file/o.csv    | W/file: expected a folder, found a file
{PREDICT} --input W/texts.txt --output W/empty         | --output W/empty: expected a file
{PREDICT} --input W/texts.csv --delimiter ;;           | --delimiter: expected one character
{PREDICT} --input W/texts.txt --resume                 | --resume: expected --input FILE and --output FILE
{PREDICT} --max-tokens 100000 'a text'                 | --max-tokens: expected a number from 3 to the model's 64
{PREDICT} --threads 0 'a text'                         | --threads: expected at least 1, found 0
{PREDICT} --engine tensorflow 'a text'                 | --engine: expected one of auto, torch, onnx, int8, found tensorflow

export --run W/student                                 | expected --out, found none
export --run W/student --out W/full                    | --out W/full: expected a new or empty folder | other content
export --run W/student --out W/student                 | --out: expected a folder outside of the run
export --run W/student --out W/file                    | --out W/file: expected a new or empty folder | found a file
export --run W/student --out W/out --int8              | --int8: expected --format onnx, found hf
export --run W/student-torn --out W/out                | W/student-torn: expected weights that transformers can load
export --run W/vegas --out W/out                       | W/vegas: expected --format onnx, without --int8
export --run W/vegas-torn --out W/out --format onnx    | model.safetensors: expected the weights of config.json

serve --student W/nowhere                              | W/nowhere: expected a student folder, found nothing
serve --student W/student --port 99999                 | --port: expected 0 to 65535, found 99999
serve --student W/student --port http                  | --port: expected a whole number, found 'http'
serve --student W/student --port BUSY                  | expected an address that is free, found | --port 0 takes a free one
serve --student W/student --host 192.0.2.1             | --host 192.0.2.1 | expected an address that is free
serve --student W/student --texts 0                    | --texts: expected more than 0, found 0
serve --student W/student --rate -1                    | --rate: expected 0 or more requests per second, found -1
serve --student W/student --threads 0                  | --threads: expected at least 1, found 0
serve --student W/vegas                                | expected a text student

sweep                                                  | --sweep: expected a sweep file, such as configs/sweeps
sweep --sweep W/gone.yaml                              | W/gone.yaml: no such configuration file
sweep --sweep W/torn.yaml                              | W/torn.yaml: line 3: expected YAML
sweep --sweep W/empty                                  | W/empty: expected the folder of a sweep, found no plan.json
sweep --status W/nowhere                               | W/nowhere: expected the folder of a sweep
sweep --status                                         | expected the folder of a sweep, or --sweep FILE
sweep --cancel W/empty                                 | W/empty: expected the folder of a sweep
{SWEEP}/no-base.yaml                                   | base: expected a configuration file, found none
{SWEEP}/base-gone.yaml                                 | configs/gone.yaml: no such configuration file
{SWEEP}/unknown-axis.yaml                              | axes: unknown setting train.learning_rate
{SWEEP}/unlisted-axis.yaml                             | axes.train.lr: expected a list of values, found 1e-05
{SWEEP}/bad-value.yaml                                 | point lr-fast: | train.lr: expected a number, found fast
{SWEEP}/no-seeds.yaml                                  | seeds: expected at least one, found none
{SWEEP}/excludes-nothing.yaml                          | exclude: | matches no point; mend or remove it
{SWEEP}/excludes-all.yaml                              | exclude: every point is excluded
{SWEEP}/empty-range.yaml                               | random.space.train.lr: expected low below high
{SWEEP}/log-of-zero.yaml                               | random.space.train.lr: expected low above 0 for a log range
{SWEEP}/batch.yaml                                     | point batch_size-3: train.batch_size: expected a multiple
{SWEEP}/signal.yaml                                    | slurm.signal_delay: expected more than 0 and less than slurm.time
{SWEEP}/managed.yaml                                   | slurm.sbatch: found nodes; set slurm.nodes
{SWEEP}/unknown-sbatch.yaml                            | slurm.sbatch: unknown parameter exclud; did you mean exclude?
{SWEEP}/time.yaml                                      | slurm.time: expected minutes, H:M:S or D-H:M:S, found tomorrow
{SWEEP}/unknown-key.yaml                               | unknown setting seed; did you mean seeds?
{SWEEP}/twice.yaml                                     | points: 2 points are named
{SWEEP}/sound.yaml --executor slrum                    | --executor: expected one of | did you mean slurm?
{SWEEP}/sound.yaml --slurm.partitoin gpu               | unknown option --slurm.partitoin; did you mean --slurm.partition?
{SWEEP}/sound.yaml --slurm.nodes many                  | slurm.nodes: expected a whole number, found many
{SWEEP}/sound.yaml --slurm.gpus_per_node -1            | slurm.gpus_per_node: expected 0 or more, found -1
{SWEEP}/sound.yaml --slurm.sbatch '{{nice: ['          | --slurm.sbatch: expected a list [a, b] or a mapping
{SWEEP}/sound.yaml --local.parallel 0                  | local.parallel: expected at least 1, found 0
sweep --executor debug --sweep W/sweeps/sound.yaml --out W/file | W/file: expected a folder, found a file
sweep --executor debug --sweep W/sweeps/sound.yaml --out W/run  | W/run: expected a folder for a sweep, found one of a run

report W/run                                           | expected --out, found none
report W/nowhere --out W/out                           | W/nowhere: expected a run folder or a folder of runs, found nothing
report W/empty --out W/out                             | W/empty: expected run folders (with result.json, config.yaml)
report W/run --out W/file                              | W/file: expected a folder, found a file
report W/run --out W/out --table 3                     | --table: expected one of 2, 4, 5 | found 3
report W/run --out W/out --clips -1                    | --clips: expected 0 or more, found -1
report W/run --out W/out --shards W/nowhere            | expected shards in W/nowhere

retrieve ask --index W/index                           | COMMAND: expected one of index, query, export, found ask
{INDEX} W/vegas                                        | expected one of --shards, --h5
{INDEX} W/vegas --shards W/shards --h5 W/features.h5   | expected --h5 or --shards, found both
{INDEX} W/student --h5 W/features.h5                   | expected students of the retrieval task | found another model
{INDEX} W/vegas-torn --h5 W/features.h5                | model.safetensors: expected the weights of config.json
{INDEX} W/vegas-no-weights --h5 W/features.h5          | W/vegas-no-weights: expected the students' weights, found no
{INDEX} W/vegas --h5 W/features.h5 --split valid       | --split: expected train or test | found valid
{INDEX} W/vegas --shards W/shards                      | expected shards of the retrieval task, found sentiment
{INDEX} W/vegas --shards W/events                      | expected vectors with each sample, found no audio.npy
{QUERY}                                                | expected ids of clips | found nothing that asks
{QUERY} clip-77                                        | expected the id of one of 3 indexed clips, found 'clip-77'
{QUERY} clip-0 --count 0                               | --count: expected at least 1, found 0
{QUERY} --vector W/picture.npy                         | W/picture.npy: expected a .npy array of numbers
{QUERY} --vector W/short.npy                           | visual features: expected (n, 1024)
{QUERY} --video W/picture.mp4                          | --video: expected --ask audio, found visual
retrieve query --index W/index-torn clip-0             | W/index-torn: expected an index of format 1, found a damaged one
retrieve query --index W/index-short clip-0            | clips and vectors do not belong together

comparators --shards W/shards                          | expected shards of the retrieval task, found sentiment
comparators --shards W/events                          | expected vectors with each sample | pack the clips as vegas or
comparators --shards W/shards --methods cca lstm       | --methods: expected one of random, cca | found lstm
comparators --shards W/shards --beside W/run           | W/run: expected a finished retrieval run

bench                                                  | expected BENCHMARK, found none
bench order --samples many                             | --samples: expected a whole number, found 'many'
bench order --window -1                                | expected a window of at least 1 shard, found -1
bench predict --student W/nowhere                      | W/nowhere: expected a student folder
"""
TABLE = [tuple(part.strip() for part in line.split(" | ")) for line in ROWS.splitlines() if line]

AS_PROCESSES = [
    ("pack csv --root W/raw-no-label --out W/out", "add label to the first line", 2),
    (f"{HERE} --data.shards W/shards-torn", "manifest.json: expected JSON", 2),
    (f"{HERE} --student.model W/file", "student.model: cannot load W/file", 2),
    ("evaluate --run W/student-torn --shards W/shards", "W/student-torn: expected weights", 2),
    ("export --run W/student-torn --out W/out --format onnx", "W/student-torn: expected weights", 2),
    (f"{PREDICT} --input W/texts.csv", "choose with --column", 2),
    (f"{SWEEP}/signal.yaml", "slurm.signal_delay", 2),
    ("report W/run-torn --out W/out", "run-torn: not counted: result.json is not readable", 0),
    ("verify --fast W/shards-bad-tar", "", 1),
]
"""Started for real: words of the one line on standard error, or "" where it stays empty, and the exit code."""


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ["DS_ACCELERATOR"] = "cpu"
    folder = tmp_path_factory.mktemp("W")
    # DeepSpeed looks for libraries once, and the linker is heard where a test has put another file for stderr.
    call("train", "--config", "configs/sample.yaml", "--deepspeed", "zero9.json", "--run", str(folder / "out"))
    make_all(folder)
    return folder


@pytest.fixture(scope="module")
def busy() -> Iterator[str]:
    """A port that somebody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield str(taken.getsockname()[1])


def test_the_table_covers_all_commands() -> None:
    assert len(TABLE) >= 60 and {line.split()[0] for line, *_ in TABLE} == set(NAMES)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_one_line_says_what_is_wrong(
    row: tuple[str, ...], wrong: Path, busy: str, capfd: pytest.CaptureFixture[str]
) -> None:
    line, *expected = row
    shutil.rmtree(wrong / "out", ignore_errors=True)
    words = [word.replace("W/", f"{wrong}/").replace("BUSY", busy) for word in shlex.split(line)]
    found = called(capfd, *words)
    said = found.err.replace(f"{wrong}/", "W/")
    assert found.code == 2, (found.code, said, found.out)
    assert len(said.splitlines()) == 1, said
    assert said.startswith(f"{words[0]}.py: ") and len(said) < 420, said
    assert re.search(".*".join(map(re.escape, expected)), said), said


@pytest.mark.parametrize("wrong_one", ["--deepspeed zero9.json", "--data.shards W/nowhere", "--data.shards W/events"])
def test_a_wrong_path_leaves_no_run_folder(wrong_one: str, wrong: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = f"{HERE} {wrong_one} --run W/made"
    assert called(capfd, *(word.replace("W/", f"{wrong}/") for word in shlex.split(line))).code == 2
    assert not (wrong / "made").exists()


@pytest.mark.parametrize(("line", "expected", "code"), AS_PROCESSES, ids=lambda value: str(value))
def test_a_process_says_the_same(line: str, expected: str, code: int, wrong: Path) -> None:
    shutil.rmtree(wrong / "out", ignore_errors=True)
    found = started(*(word.replace("W/", f"{wrong}/") for word in shlex.split(line)))
    said = found.err.replace(f"{wrong}/", "W/")
    assert found.code == code, (found.code, said)
    assert len(said.splitlines()) == bool(expected) and expected in said, said
