"""Whether the pretrained weights are on this machine; compute nodes often have no way to the hubs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from vadv import tasks
from vadv.config import Config
from vadv.doctor import Finding, fail, ok

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""Variables that switch the hubs off; read when their libraries are imported."""
REMEDY = "run `python launch/doctor.py --fetch --config ...` where there is internet and the same HF_HOME, or give local paths"


def weights(config: Config, config_text: str, fetch: bool) -> Iterator[Finding]:
    """Load the student and CLIP with the hubs switched off, in a process of their own.

    Args:
        config_text: the configuration as YAML.
        fetch: load them once with the hubs switched on before, which leaves them in the hubs' cache.
    """
    parts, random = {}, {}
    if tasks.kind(config).text:
        parts["student"], random["student"] = config.student.model, config.student.weights == "random"
    if config.teacher is not None:
        parts["teacher"], random["teacher"] = config.teacher.clip, config.teacher.weights == "random"
    if not parts:
        yield ok("weights", "none to be loaded: the students start from random ones")
        return
    if fetch and not all(random.values()):
        for part, said in _load(config_text, {}).items():
            if said:
                yield fail("weights", f"{part}: {said}", "check the name, the network and HF_ENDPOINT")
    found = _load(config_text, OFFLINE)
    for part, what in parts.items():
        said = found.get(part, found.get("error", "it was not tried"))
        if said:
            yield fail("weights", f"{part}: {said}", REMEDY)
        else:
            kind = ", random weights" if random[part] else ""
            yield ok("weights", f"{part}: {what}{kind}, loaded with the hubs switched off")


def _load(config_text: str, environment: dict[str, str]) -> dict[str, str]:
    """Load the parts in a process of its own; by part, what went wrong or nothing."""
    env = {key: value for key, value in os.environ.items() if key not in OFFLINE} | environment
    command = [sys.executable, "-m", "vadv.doctor.weights"]
    done = subprocess.run(command, input=config_text, env=env, capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _main() -> None:
    import yaml

    from vadv.config_file import build
    from vadv.models import clip_weights, student_weights

    config = build(yaml.safe_load(sys.stdin.read()))
    found = {}
    for part in ("student", "teacher"):
        try:
            if part == "student" and tasks.kind(config).text:
                student_weights.load(config.student, config.seed)
            elif part == "teacher" and config.teacher is not None:
                clip_weights.load(config.teacher, config.data.frame_size, config.seed)
            found[part] = ""
        except (ValueError, OSError) as error:
            found[part] = " ".join(str(error).split())
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
