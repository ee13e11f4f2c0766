"""MLflow is tried by a process: what it does not do in time, or at all, is told."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from emojigan.datasets.errors import InputError
from emojigan.trainer.doctor import tracking

IMPORTS = """
import sys
import emojigan.launch.commands.doctor, emojigan.trainer.doctor.tracking
sys.exit("torch" in sys.modules or "mlflow" in sys.modules)
"""


def test_it_is_started_before_torch_and_mlflow_are_imported():
    assert not subprocess.run([sys.executable, "-c", IMPORTS]).returncode


@pytest.mark.parametrize(
    ("program", "patience", "told"),
    [
        ("import time; time.sleep(600)", 0.5, "does not answer. See MLFLOW_TRACKING_URI"),
        ("import sys; sys.exit(3)", 60, r"for it ended \(3\)"),
        ('print(\'{"error": "says: no"}\')', 60, "says: no. See"),
    ],
)
def test_a_process_that_brings_no_answer_is_told(
    program: str, patience: float, told: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tracking, "LATEST", patience)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        examined: Any = SimpleNamespace(meeting=SimpleNamespace(main=True), mlflow=process)
        try:
            with pytest.raises(InputError, match=told):
                tracking.look_at_tracking(examined)
        finally:
            process.kill()
