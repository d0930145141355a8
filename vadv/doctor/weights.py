"""Whether the pretrained weights are on this machine; compute nodes often have no way to the hubs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from vadv.config import Config
from vadv.doctor import Finding, fail, ok

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""Variables that switch the hubs off; read when their libraries are imported."""
REMEDY = "run `python launch/doctor.py --fetch --config ...` where there is internet and the same HF_HOME, or give local paths"


def weights(config: Config, config_text: str, fetch: bool) -> Iterator[Finding]:
    """Load the student and CLIP with the hubs switched off, each in a process of its own.

    Args:
        config_text: the configuration as YAML.
        fetch: load them once with the hubs switched on before, which leaves them in the hubs' cache.
    """
    for part, what in (("student", config.student.model), ("teacher", config.teacher and config.teacher.clip)):
        if what is None:
            continue
        random = (config.student if part == "student" else config.teacher).weights == "random"  # type: ignore[union-attr]
        if fetch and not random and (said := _load(part, config_text, {})):
            yield fail("weights", f"{part}: {said}", "check the name, the network and HF_ENDPOINT")
            continue
        said = _load(part, config_text, OFFLINE)
        if said:
            yield fail("weights", f"{part}: {said}", REMEDY)
        else:
            yield ok(
                "weights", f"{part}: {what}{', random weights' if random else ''}, loaded with the hubs switched off"
            )


def _load(part: str, config_text: str, environment: dict[str, str]) -> str:
    """Load one part in a process of its own; what went wrong, or nothing."""
    env = {key: value for key, value in os.environ.items() if key not in OFFLINE} | environment
    command = [sys.executable, "-m", "vadv.doctor.weights", part]
    done = subprocess.run(command, input=config_text, env=env, capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _main(part: str) -> int:
    import yaml

    from vadv.config_file import build
    from vadv.models import clip_weights, student_weights

    config = build(yaml.safe_load(sys.stdin.read()))
    try:
        if part == "student":
            student_weights.load(config.student, config.seed)
        elif config.teacher is not None:
            clip_weights.load(config.teacher, config.data.frame_size, config.seed)
    except (ValueError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
