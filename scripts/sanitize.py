"""The native engine under the compiler's sanitizers: addresses, undefined behaviour, threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
KINDS = ("address", "undefined", "thread")


def main() -> int:
    """Build and run `native/tests/drive.cpp` for each; the first that is not clean ends it."""
    nanobind = [sys.executable, "-m", "nanobind", "--cmake_dir"]
    folder = subprocess.run(nanobind, capture_output=True, text=True, check=True).stdout.strip()
    for kind in KINDS:
        build = ROOT / "build" / f"sanitize-{kind}"
        settings = [f"-DLUCID_SANITIZE={kind}", f"-Dnanobind_DIR={folder}"]
        settings.append(f"-DPython_EXECUTABLE={sys.executable}")
        commands = (
            ["cmake", "-S", str(ROOT / "native"), "-B", str(build), *settings],
            ["cmake", "--build", str(build), "--target", "drive", "-j2"],
            [str(build / "drive")],
        )
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.stderr.write(done.stdout[-4000:] + done.stderr[-8000:])
                return 1
        print(f"{kind}: {done.stdout.strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
