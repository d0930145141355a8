"""Submission of points as job arrays, through submitit.

submitit writes and submits the batch script. The job itself is ours (slurm/job.py) and is described by a file, not by a
pickle that the launching process moves into place after sbatch has returned: a launch may die at any moment, and every
job that Slurm has accepted still knows its points. It also leaves requeueing to the batch script, which outlives its
ranks, where submitit's own handler runs inside rank 0 and dies with it.
"""

from __future__ import annotations

import secrets
import shlex
from pathlib import Path
from typing import Any

from slurm.folder import Folder, write_json
from slurm.job import AGAIN, JOB, LEAVE, QUEUE, UNKNOWN
from slurm.queue import LimitReached, SlurmError
from slurm.settings import Slurm
from slurm.snapshot import START

PREFIX = "vadv"
"""First part of the name of every job."""


def batch_parameters(folder: Folder, settings: Slurm, cwd: Path) -> dict[str, Any]:
    """The parameters of submitit for one array, without what depends on its points."""
    sbatch = {"requeue": True, "chdir": str(cwd), **settings.sbatch}
    if settings.cpus_per_task > 1:
        # srun stopped taking the number from the job with Slurm 22.05.
        srun = [f"--cpus-per-task={settings.cpus_per_task}"]
    else:
        srun = []
    # One dead rank ends the others at once: they would wait for it in a collective.
    srun += ["--kill-on-bad-exit=1", "--open-mode=append", *settings.srun]
    chosen = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "mem": f"{round(settings.mem_gb * 1024)}M" if settings.mem_gb is not None else None,
        "gpus_per_node": settings.gpus_per_node or None,
    }
    return {
        "time": settings.minutes(),
        "nodes": settings.nodes,
        "ntasks_per_node": settings.per_node(),
        "cpus_per_task": settings.cpus_per_task,
        "signal_delay_s": settings.signal_delay,
        "array_parallelism": settings.array_parallelism,
        "stderr_to_stdout": True,
        "wckey": None,
        "srun_args": srun,
        "additional_parameters": sbatch,
        **{name: value for name, value in chosen.items() if value is not None},
    }


def batch_script(folder: Folder, settings: Slurm, cwd: Path, tag: str, elements: int, code: Path) -> Any:
    """A submitit executor that holds the array's batch script, and the command of its ranks."""
    import submitit

    class Executor(submitit.SlurmExecutor):
        @classmethod
        def affinity(cls) -> int:
            return 2  # a dry run may write the script where there is no Slurm

    executor = Executor(folder=folder.logs, python=settings.python)
    part = f"{executor.python} -u {shlex.quote(str(code / START))}"
    where = shlex.quote(str(folder.path))
    executor.update_parameters(
        **batch_parameters(folder, settings, cwd),
        job_name=job_name(tag),
        setup=[
            # The script outlives the signals that tell its ranks to save. A trap, unlike ignoring them, is not inherited
            # by the ranks. SIGTERM comes when the whole job is being ended: it has seconds left then, and srun would
            # wait for longer than that, so the script does not wait for srun.
            "ending=",
            "trap ending=1 TERM",
            "trap : USR1 USR2 CONT",
            f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
            *settings.setup,
            # Slurm's commands are called here and not in Python, which may run in a container that lacks them.
            f'export {QUEUE}="$(squeue -h -r -u "$(id -un)" -o %i || echo {UNKNOWN})"',
            f"{part} begin {where} {tag}",
            "begun=$?",
            f"if [ $begun -eq {LEAVE} ]; then exit 0; elif [ $begun -ne 0 ]; then exit $begun; fi",
        ],
        teardown=[
            "ranks=$!",
            "while wait $ranks; code=$?; [ -z $ending ] && kill -0 $ranks 2>/dev/null; do :; done",
            # By the element's own id: the job id of an array's last element is the array's, and shows all of them.
            "element=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
            f'export {JOB}="$(scontrol show job -o $element)"',
            f"{part} end {where} {tag} $code",
            "ended=$?",
            f"if [ $ended -eq {AGAIN} ]; then",
            # Slurm ends this script when it has put the job back; to leave before that would end the job.
            "    if scontrol requeue $element; then sleep 600; exit 0; fi",
            f"    {part} refused {where} {tag}",
            "fi",
            "exit $ended",
        ],
    )
    executor.parameters["map_count"] = elements
    return executor, f"{part} rank {where} {tag} &"


def job_name(tag: str) -> str:
    """Name of the jobs of a submission, by which they are found if the launch died before it knew their number."""
    return f"{PREFIX}-{tag}"


def submit_array(folder: Folder, settings: Slurm, cwd: Path, points: list[str], code: Path) -> str:
    """Submit one job array, an element a point.

    What is submitted is written down before, and its job id after: a launch that dies in between leaves a submission
    without an id, and `recover` finds its jobs by name.

    Returns:
        The array's job id.

    Raises:
        LimitReached: the site allows no more jobs for now.
        SlurmError: Slurm refused, with its reason.
    """
    tag = f"{folder.path.name[:40]}-{secrets.token_hex(4)}"
    entry = {"tag": tag, "points": points, "code": code.name, "job": None}
    executor, command = batch_script(folder, settings, cwd, tag, len(points), code)
    folder.logs.mkdir(parents=True, exist_ok=True)
    write_json(folder.submission(tag), entry)
    try:
        job = executor._submit_command(command).job_id
    except Exception as error:
        folder.submission(tag).unlink()
        message = " ".join(str(error).split()) or type(error).__name__
        raise (LimitReached if "Submit" in message or "QOS" in message else SlurmError)(f"sbatch: {message}") from None
    write_json(folder.submission(tag), {**entry, "job": job})
    return str(job)


def script_text(folder: Folder, settings: Slurm, cwd: Path, elements: int, code: Path) -> str:
    """The batch script of an array, for a person to read."""
    executor, command = batch_script(folder, settings, cwd, "TAG", elements, code)
    return str(executor._make_submission_file_text(command, ""))
