"""What a user installs holds everything: .gitignore or a forgotten folder would drop a package silently."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "pflbench": ROOT / "pflbench",
    "pflbench_methods": ROOT / "methods/pflbench_methods",
    "pflbench_datasets": ROOT / "datasets/pflbench_datasets",
    "pflbench_reports": ROOT / "reports/pflbench_reports",
}


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_every_package_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    [wheel] = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        f"{package}/{path.relative_to(folder)}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == wanted
    assert {name.split("/")[0] for name in packed} == set(PACKAGES)
