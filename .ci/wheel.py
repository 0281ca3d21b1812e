"""Builds the wheel, installs it into an empty virtual environment, and asks it what a user would.

    python .ci/wheel.py

What it depends on is lent by the environment of this interpreter: installing it again takes minutes.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("ticgrpo_theory", "llm")
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", *PACKAGES)
LOAD_CONFIGURATIONS = """
import llm
from pathlib import Path
from llm.config.config import load
files = sorted((Path(llm.__file__).parent / "configs").glob("*.yaml"))
print(*(load(file) and file.name for file in files))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What the command printed; it must succeed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=clean, check=True, stdout=subprocess.PIPE, text=True).stdout


def built(folder: Path) -> Path:
    """The wheel, made from a copy of the tree: a build/ left over from before would be packed too."""
    source = folder / "source"
    source.mkdir()
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def tracked() -> set[str]:
    """Files of the packages in this working tree that users need: code, types and configurations."""
    files = (path for name in PACKAGES for path in (ROOT / name).rglob("*"))
    return {str(f.relative_to(ROOT)) for f in files if f.suffix in (".py", ".yaml") or f.name == "py.typed"}


def installed(wheel: Path, folder: Path) -> Path:
    """The folder of commands of an environment that has the wheel and can see our dependencies behind it."""
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    commands = environment / "bin"
    pip = (sys.executable, "-m", "pip", "--python", commands / "python", "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", wheel, cwd=folder)
    (libraries,) = environment.glob("lib/python*/site-packages")
    (libraries / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return commands


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        wheel = built(folder)
        missing = tracked() - set(zipfile.ZipFile(wheel).namelist())
        assert not missing, f"not in {wheel.name}: {sorted(missing)}"
        commands = installed(wheel, folder)
        where = run(commands / "python", "-c", "import ticgrpo_theory as t; print(t.__file__)", cwd=folder)
        assert where.startswith(str(folder)), f"imported from {where.strip()}, not from the wheel"
        version = run(commands / "ticgrpo", "--version", cwd=folder).split()[1]
        assert wheel.name.startswith(f"ticgrpo_theory-{version}-"), f"{wheel.name} says version {version}"
        answer = json.loads(run(commands / "ticgrpo", "gradient", "--world", "xor", "--json", cwd=folder))
        assert answer, "ticgrpo gradient --world xor gave no answer"
        loaded = set(run(commands / "python", "-c", LOAD_CONFIGURATIONS, cwd=folder).split())
        shipped = {path.name for path in (ROOT / "llm" / "configs").glob("*.yaml")}
        assert loaded == shipped, (
            f"configurations of the wheel: {sorted(loaded)}, of the tree: {sorted(shipped)}"
        )
    print(f"{wheel.name} installs, answers `ticgrpo gradient`, and loads {len(loaded)} configurations")


if __name__ == "__main__":
    main()
