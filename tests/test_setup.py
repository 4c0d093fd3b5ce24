"""Setting up: which PyTorch is installed, and that tests cannot reach the network."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import urllib.request
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("script", ROOT / "scripts" / "install_torch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("platform", "driver", "cpu_build_found", "installed"),
    [
        ("linux", None, True, ["cpu"]),
        ("linux", None, False, ["cpu", "plain"]),
        ("linux", "NVIDIA-SMI has failed", True, ["cpu"]),
        ("linux", "GPU 0: NVIDIA H100", True, ["plain"]),
        ("darwin", None, True, ["plain"]),
    ],
)
def test_pytorch_is_the_cpu_build_unless_a_gpu_answers(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    driver: str | None,
    cpu_build_found: bool,
    installed: list[str],
) -> None:
    asked: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if command[0] == "/bin/nvidia-smi":
            return subprocess.CompletedProcess(command, 0, stdout=driver)
        asked.append(command[-1])
        missing = command[-1] == script.CPU_BUILD and not cpu_build_found
        return subprocess.CompletedProcess(command, int(missing))

    monkeypatch.setattr(script.sys, "platform", platform)
    monkeypatch.setattr(script.shutil, "which", lambda _: driver and "/bin/nvidia-smi")
    monkeypatch.setattr(script.subprocess, "run", run)
    assert script.main() == 0
    kinds = {"cpu": script.CPU_BUILD, "plain": script.requirement()}
    assert asked == [kinds[kind] for kind in installed]


def test_the_cpu_build_satisfies_the_extra(script: ModuleType) -> None:
    """Else pip would replace it when the package itself is installed."""
    version = Requirement(script.CPU_BUILD).specifier
    (exact,) = version
    assert exact.version in Requirement(script.requirement()).specifier


def test_a_test_cannot_reach_the_network() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"reached for the network: example\.org"):
        urllib.request.urlopen("http://example.org")
    with socket.socket() as probe, pytest.raises(pytest.fail.Exception, match=r"192\.0\.2\.1"):
        probe.connect(("192.0.2.1", 80))


def test_a_test_can_reach_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
