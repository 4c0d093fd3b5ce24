"""What `count --here` knows of a machine: read from files and tools that the tests lay out."""

import stat

import pytest

from lucidlm import hardware
from lucidlm.config import Attention, Config, Embedding, FeedForward, Head, Norm, Stack
from lucidlm.count import count
from lucidlm.hardware import Gpu, Machine

GIB = 1 << 30

STACK = Stack(
    layers=4,
    attention=Attention(heads=8, kv_heads=2, head_dim=64, scale=0.125),
    feedforward=FeedForward(hidden=2048, activation="silu", gated=True),
    norm=Norm(kind="rms"),
    norm_places=("input",),
    mask="causal",
)
MODEL = Config(
    dim=512, vocab_size=32000, max_positions=1024, embedding=Embedding(), decoder=STACK, head=Head()
)


def test_fit_is_weights_and_cache_against_free_memory():
    costs = count(MODEL)
    needed = 2 * costs.parameters + costs.kv_cache_bytes(1024)  # no more positions than there are
    roomy = Machine(cores=2, memory=needed, available=needed)
    fit = hardware.fits(costs, roomy, bandwidth=1e9, context=5000)
    assert fit.needed == needed and fit.fits and fit.fits_gpu is None
    assert fit.read_per_token == costs.flops_per_token + costs.kv_cache_bytes(1024)
    assert fit.tokens_per_second == pytest.approx(1e9 / fit.read_per_token)

    tight = Machine(cores=2, memory=needed, available=needed - 1, gpus=(Gpu(name="A", memory=GIB),))
    fit = hardware.fits(costs, tight, bandwidth=1e9)
    assert fit.fits is False and fit.fits_gpu is True and fit.tokens_per_second is None
    silent = Machine(cores=2, memory=None, available=None)
    assert hardware.fits(costs, silent, bandwidth=1e9).fits is None


def test_the_verdict_in_words():
    gpu = Gpu(name="Card", memory=80 * GIB)
    machine = Machine(cores=2, memory=GIB, available=GIB, gpus=(gpu,))
    fit = hardware.fits(count(MODEL), machine, bandwidth=16 * GIB)
    english, chinese = fit.sentences("en"), fit.sentences("zh")
    assert len(english) == len(chinese) == 3 and not set(english) & set(chinese)
    assert "1.1 GB" in english[0] and "Card, 85.9 GB" in english[1] and "17.2 GB" in english[2]
    small = Machine(cores=2, memory=GIB, available=1)
    assert len(hardware.fits(count(MODEL), small, bandwidth=1e9).sentences("en")) == 1


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (350 * 10**9, "350 GB"),
        (2 * 10**15, "2000 TB"),
    ],
)
def test_sizes_in_words(size, words):
    assert hardware.readable(size) == words


def test_half_the_bytes_take_half_the_time():
    costs, machine = count(MODEL), Machine(cores=2, memory=GIB, available=GIB)
    full = hardware.fits(costs, machine, 1e9, bytes_per_parameter=2.0, context=1)
    half = hardware.fits(costs, machine, 1e9, bytes_per_parameter=1.0, context=1)
    assert full.tokens_per_second and half.tokens_per_second
    assert half.tokens_per_second / full.tokens_per_second == pytest.approx(2, rel=0.01)


def test_a_container_limit_counts_and_its_cached_files_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    whole, _ = hardware._memory()
    assert whole and whole > 1000
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 200\ninactive_file 500\n")
    assert hardware._memory() == (1000, 800)
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware._memory()[0] == whole
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert hardware._cores() == 1


def test_without_proc_all_installed_memory_is_taken_as_free(monkeypatch):
    monkeypatch.setattr(hardware, "_read", lambda path: "")
    monkeypatch.setattr(hardware, "_installed", lambda: 8 * GIB)
    assert hardware._memory() == (8 * GIB, 8 * GIB)
    monkeypatch.setattr(hardware, "_installed", lambda: None)
    assert hardware._memory() == (None, None)


def test_gpus_as_the_tool_lists_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    tool = tmp_path / "nvidia-smi"
    for script, wanted in [
        (
            "echo 'NVIDIA H100 80GB HBM3, 81559'",
            (Gpu(name="NVIDIA H100 80GB HBM3", memory=81559 << 20),),
        ),
        ("echo 'No devices were found'; exit 6", ()),
        ("echo 'GPU, [N/A]'", ()),
        ("exec sleep 30", ()),
    ]:
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(hardware, "GPU_TIMEOUT", 0.3)
        assert hardware._gpus() == wanted
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hardware._gpus() == ()


def test_this_machine_and_its_measured_bandwidth():
    machine = hardware.here()
    assert machine.cores >= 1
    assert machine.memory is None or 0 < machine.available <= machine.memory
    assert 1e8 < hardware.memory_bandwidth(machine.cores) < 1e13
