"""Install the top-level folders as emojigan.*, never under their bare names.

`datasets` is Hugging Face's import name, and accelerate imports it; see tests/test_layout.py.
"""

from setuptools import setup

FOLDERS = ("datasets", "trainer", "launch")
WITHIN = ("datasets.formats", "datasets.vectors", "datasets.world")

setup(
    packages=[f"emojigan.{folder}" for folder in (*FOLDERS, *WITHIN)],
    package_dir={f"emojigan.{folder}": folder for folder in FOLDERS},
    package_data={
        "emojigan.datasets.vectors": ["keywords/*", "*.html.j2"],
        "emojigan.trainer": ["recipes/*.yaml", "*.html.j2"],
    },
)
