"""What the way to the first step does without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from training_runs import changed

RUN = """
import gc, json, os, sys
from vadv import config_file
from vadv.training import train
code = train(config_file.build(json.loads(sys.argv[1])), sys.argv[2])
facts = {"code": code, "collecting": gc.isenabled(), "apart": gc.get_freeze_count(),
         "compiler": "torch._inductor.compile_fx" in sys.modules, "disabled": os.environ.get("TORCHDYNAMO_DISABLE")}
print(json.dumps(facts))
"""


def test_libraries_are_set_apart_and_the_compiler_stays_away(tiny: dict[str, Any], tmp_path: Path) -> None:
    settings = json.dumps(changed(tiny, train={"max_steps": 1}))
    environment = {name: value for name, value in os.environ.items() if name != "TORCHDYNAMO_DISABLE"}
    command = [sys.executable, "-c", RUN, settings, str(tmp_path / "run")]
    done = subprocess.run(command, env={**environment, "DS_ACCELERATOR": "cpu"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts.pop("apart") > 100_000
    assert facts == {"code": 0, "collecting": True, "compiler": False, "disabled": None}
