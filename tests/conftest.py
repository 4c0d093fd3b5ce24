"""What every test runs under: no network, a home of its own, few threads, the same draws in CI."""

from __future__ import annotations

import os
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings

from lucidlm.checkpoint.catalogue import find, is_pulled
from lucidlm.home import home

# Read when a numeric library is first imported, so they are set before any test module is.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_THREADS = str(max(1, (os.cpu_count() or 1) // _WORKERS))
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = _THREADS  # a worker inherits the controller's, which is alone
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # else it warns when a test starts a process
os.environ["HF_HUB_OFFLINE"] = "1"  # transformers asks its hub about local files too
os.environ["LUCIDLM_LANG"] = "en"

with warnings.catch_warnings(), suppress(ImportError):
    # PyTorch's compiler imports it, and it asserts that nobody has imported distutils before
    warnings.simplefilter("ignore")
    import setuptools  # noqa: F401

settings.register_profile("lucidlm", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("lucidlm")

CHECKPOINTS = ("smollm2-135m", "minilm-l6", "gemma3-270m", "glove-6b-50d")
_REAL_HOME = home()
_SCRATCH_HOME = tempfile.TemporaryDirectory(prefix="lucidlm-tests-")


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """A test that reaches for another machine fails at once, by name and by address."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _only_local(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", _only_local_names(socket.getaddrinfo))
        yield


def _only_local(method: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX:
            _refuse_remote(address[0])
        return method(self, address)

    return guarded


def _only_local_names(resolve: Any) -> Any:
    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_remote(host)
        return resolve(host, *args, **kwargs)

    return guarded


def _refuse_remote(host: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name not in (None, "", "localhost", "::1", "0.0.0.0") and not name.startswith("127."):
        pytest.fail(f"the test reached for the network: {name}", pytrace=True)


def pytest_unconfigure() -> None:
    """The scratch home goes with the run."""
    _SCRATCH_HOME.cleanup()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of any scope: choose the home, and skip a test whose models are not there.

    The real home is only for tests of pulled models. With `LUCIDLM_REQUIRE_CHECKPOINTS`, which
    `make test-rest` sets, a missing model is a failure instead.
    """
    names = _needed(item)
    os.environ["LUCIDLM_HOME"] = str(_REAL_HOME) if names else _SCRATCH_HOME.name
    if missing := [name for name in names if not is_pulled(find(name))]:
        reason = f"not pulled: {', '.join(missing)}; `make pull-test` fetches what tests use"
        if "LUCIDLM_REQUIRE_CHECKPOINTS" in os.environ:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def _needed(item: pytest.Item) -> tuple[str, ...]:
    marker = item.get_closest_marker("checkpoint")
    return () if marker is None else marker.args or CHECKPOINTS
