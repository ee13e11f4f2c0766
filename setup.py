"""Install the top-level folders as emojigan.*, never under their bare names.

`datasets` is Hugging Face's import name, and accelerate imports it; see tests/test_layout.py.
"""

from setuptools import find_namespace_packages, setup

FOLDERS = ("asking", "datasets", "trainer", "launch")

setup(
    packages=[
        f"emojigan.{package}"
        for package in find_namespace_packages(
            include=[*FOLDERS, *(f"{folder}.*" for folder in FOLDERS)], exclude=["*.__pycache__"]
        )
    ],
    package_dir={f"emojigan.{folder}": folder for folder in FOLDERS},
    package_data={"": ["*"]},  # pages, recipes and tables lie beside the code that reads them
)
