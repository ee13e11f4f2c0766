"""A model, asked from Python.

    from emojigan.asking import load

    (answer,) = load("runs/first").ask(["photo.jpg"])

No other folder has an `__init__.py`. In `emojigan` itself, one would hide the code that travels with a
registered model, and break editable installs.
"""

from ..trainer.serving.load import load
from ..trainer.serving.model import Answer, Model, Reading

__all__ = ["Answer", "Model", "Reading", "load"]
