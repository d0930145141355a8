"""Ask trained audio and visual students which clips belong to a sound or to a picture.

    python launch/retrieve.py index --student runs/vegas --shards data/vegas-shards --out data/vegas-index
    python launch/retrieve.py index --student runs/vegas --h5 vegas_feature.h5 --out data/vegas-index
    python launch/retrieve.py index --student runs/vegas --audio-features A --visual-features V --out data/vegas-index
    python launch/retrieve.py query --index data/vegas-index test-000017                   clips that sound like it
    python launch/retrieve.py query --index data/vegas-index test-000017 --ask audio       clips that look like it
    python launch/retrieve.py query --index data/vegas-index --video clip.mp4 --ask audio  the same for a file's sound
    python launch/retrieve.py export --student runs/vegas --out onnx                       audio.onnx and visual.onnx

`query` prints one JSON line per question: query, asked, ranked, and results with id, class and similarity.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from _command import FINE, Parser, run

SPLITS = ("train", "valid", "test")
STUDENTS = "with --video or --vector: who makes a vector of it (default: the students that made the index)"
OTHER = {"audio": "visual", "visual": "audio"}


def main() -> int:
    """Parse, do one of the three, print."""
    options = parse()
    if options.command == "index":
        return index(options)
    if options.command == "export":
        return export(options)
    return query(options)


def index(options: argparse.Namespace) -> int:
    """Vectors of all clips into a folder."""
    from vadv.retrieval.folder import open_students
    from vadv.retrieval.index import index_features, index_shards, index_vectors, save_index

    students = open_students(options.student)
    if options.h5:
        made = index_features(students, options.h5, options.split)
    elif options.audio_features:
        made = index_vectors(students, {"audio": options.audio_features, "visual": options.visual_features})
    else:
        made = index_shards(students, options.shards, options.split)
    save_index(made, options.out)
    print(json.dumps({"index": str(options.out), "clips": len(made)}))
    return FINE


def query(options: argparse.Namespace) -> int:
    """Answers to questions."""
    from vadv.retrieval.index import answers, open_index

    found = open_index(options.index)
    ranked = options.rank or OTHER[options.ask]
    if options.video or options.vector:
        from vadv.retrieval.outside import vector_of

        vector = vector_of(
            found,
            options.student,
            options.ask,
            video=options.video,
            file=options.vector,
            audio_onnx=options.audio_onnx,
        )
        name = str(options.video or options.vector)
        results = found.nearest(vector, ranked, options.count)
        print(
            json.dumps({"query": name, "asked": options.ask, "ranked": ranked, "results": results}, ensure_ascii=False)
        )
    identities = options.ids
    if identities == ["-"]:
        identities = [line.strip() for line in sys.stdin if line.strip()]
    for answer in answers(found, identities, options.ask, ranked, options.count):
        print(json.dumps(answer, ensure_ascii=False))
    return FINE


def export(options: argparse.Namespace) -> int:
    """ONNX files of both students."""
    from vadv.retrieval.folder import open_students
    from vadv.retrieval.onnx import export_onnx

    for path in export_onnx(open_students(options.student), options.out):
        print(path)
    return FINE


def parse() -> argparse.Namespace:
    """Three commands."""
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, what: str) -> Parser:
        return commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")

    make = add("index", "index a folder of shards or a feature file")
    make.add_argument(
        "--student", required=True, type=Path, metavar="FOLDER", help="students' folder, or its run folder"
    )
    source = make.add_mutually_exclusive_group(required=True)
    source.add_argument("--shards", nargs="+", metavar="SHARDS", help="shard folders")
    source.add_argument("--h5", type=Path, metavar="FILE", help="feature file in vegas_feature.h5's form")
    source.add_argument(
        "--audio-features", type=Path, metavar="FOLDER", help="ID.npy audio vectors; with --visual-features"
    )
    make.add_argument("--visual-features", type=Path, metavar="FOLDER", help="ID.npy visual vectors of the same clips")
    make.add_argument(
        "--split", nargs="+", default=["test"], choices=SPLITS, metavar="SPLIT", help="of train, valid, test"
    )
    make.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="folder for the index")

    ask = add("query", "ask an index for clips")
    ask.add_argument("--index", required=True, type=Path, metavar="FOLDER", help="folder of the index")
    ask.add_argument("ids", nargs="*", metavar="ID", help="indexed clips that ask; - reads ids from standard input")
    ask.add_argument("--ask", default="visual", choices=tuple(OTHER), help="side of the clip that asks")
    ask.add_argument("--rank", choices=tuple(OTHER), help="side of the clips that is ranked (default: the other one)")
    ask.add_argument("--count", type=int, default=10, help="results per question")
    ask.add_argument("--video", type=Path, metavar="FILE", help="video or sound file outside of the index that asks")
    ask.add_argument("--vector", type=Path, metavar="FILE", help="feature vector (.npy) outside of the index that asks")
    ask.add_argument(
        "--audio-onnx", type=Path, metavar="FILE", help="with --video: the model that made the students' audio vectors"
    )
    ask.add_argument("--student", type=Path, metavar="FOLDER", help=STUDENTS)

    write = add("export", "write both students as ONNX")
    write.add_argument(
        "--student", required=True, type=Path, metavar="FOLDER", help="students' folder, or its run folder"
    )
    write.add_argument(
        "--out", required=True, type=Path, metavar="FOLDER", help="folder for audio.onnx and visual.onnx"
    )

    options = parser.parse_args()
    if options.command == "index" and bool(options.audio_features) != bool(options.visual_features):
        make.error("expected --audio-features and --visual-features together, found one of them")
    if options.command == "query":
        if not options.ids and not options.video and not options.vector:
            ask.error("expected ids of clips, --video or --vector, found nothing that asks")
        if options.count < 1:
            ask.error(f"--count: expected at least 1, found {options.count}")
    return options


if __name__ == "__main__":
    run(main)
