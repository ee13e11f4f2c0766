"""`emojigan doctor`."""

import os
import sys
from typing import Any

import click

from ...datasets.printable import printable
from ...trainer.config import Config
from ...trainer.runtime.signals import is_first_rank
from ..training import asked, training_options


@click.command(context_settings={"show_default": True})
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each check.")
@training_options
def doctor(as_json: bool, **words: Any) -> None:
    """Look what stands in the way of a training here, alone or on all ranks of a launcher.

    The words are those of `train`. It says in a line each whether all ranks came and reach each other, have
    the same software, code and dataset, share --out, reach MLflow and have room; then it does some true
    steps, and sees whether the data keep up. It waits for nothing without end, trains nothing, and leaves
    nothing behind but a deleted run in MLflow. Where a check fails, it says what to do, and ends with 1.

    \b
    emojigan doctor shards --vectors vectors.bin --out runs/first
    torchrun --nnodes 2 … --no-python emojigan doctor shards --vectors vectors.bin --out runs/two
    """
    from ...trainer.doctor.tracking import trying

    with trying() as mlflow:  # from the first moment on: what comes imports torch, for seconds
        from ...trainer.doctor.doctor import examine
        from ...trainer.doctor.examined import Examined
        from ...trainer.doctor.finding import verdict
        from ...trainer.doctor.meeting import meet

        training = asked(**words)

        def settle() -> Config:
            return training.settle()[0]

        meeting, given = meet(), (training.shards, training.vectors, training.run)
        examined = Examined(meeting, training.config.run, settle, *given, mlflow)
        findings, says = [], is_first_rank()
        for finding in examine(examined):
            findings.append(finding)
            if says:
                click.echo(finding.json() if as_json else printable(finding.line()))
    if says and not as_json:
        click.echo(verdict(findings))
    code = int(any(finding.state == "failure" for finding in findings))
    if meeting.stuck:  # a thread is inside torch, which would abort the process
        sys.stdout.flush()
        os._exit(code)
    raise SystemExit(code)
