"""Ten thousand damaged files of each format: every one is read, or refused with a CheckpointError.

The loop runs in a process of its own, which may take 1 GB beyond its imports and a minute.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__)
MUTATIONS = 10_000
MEMORY = 1 << 30
FIELDS = (0, 1, 7, 31, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
NUMBERS = (
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"true",
    b"null",
    b"[]",
    b"18446744073709551616",
    b"9" * 20,
)


@pytest.mark.parametrize("format", ["gguf", "safetensors"])
def test_damaged_files_are_read_or_refused(format: str) -> None:
    module = f"{HERE.parent.name}.{HERE.stem}"
    command = [sys.executable, "-W", "error", "-m", module, format]
    root = HERE.parent.parent
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root)
    assert result.returncode == 0, result.stderr
    read, refused = map(int, result.stdout.split())
    assert read + refused == MUTATIONS
    assert read > MUTATIONS // 100 and refused > MUTATIONS // 10  # both ways were walked


def gguf_file(path: Path) -> tuple[bytes, int]:
    """A small file, and how long its header is."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants

    writer = GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_float32("llama.rope.freq_base", 1e4)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "a", "b", "好", "ab"])
    writer.add_array("tokenizer.ggml.scores", [0.0, -1.0, -2.0, -3.0, -4.0])
    values = np.linspace(-1, 1, 512, dtype=np.float32).reshape(2, 256)
    for kind in ("F32", "F16", "BF16", "Q8_0", "Q4_1", "Q5_0"):
        quantisation = GGMLQuantizationType[kind]
        writer.add_tensor(kind, quants.quantize(values, quantisation), raw_dtype=quantisation)
    writer.add_tensor("Q6_K", np.ones((2, 210), np.uint8), raw_dtype=GGMLQuantizationType.Q6_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes(), GGUFReader(path).data_offset


def safetensors_file(path: Path) -> tuple[bytes, int]:
    """A small file, and how long its header is."""
    import numpy as np
    from safetensors.numpy import save_file

    values = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    tensors = {"a.weight": values, "a.bias": values[0].astype(np.float16), "scalar": np.array(0.5)}
    save_file(tensors | {"ids": np.arange(6).reshape(2, 3)}, path, metadata={"format": "pt"})
    content = path.read_bytes()
    return content, 8 + int.from_bytes(content[:8], "little")


def mutate(content: bytes, header: int, draw: random.Random) -> bytes:
    """`content` with one to three kinds of damage, most of it in the first `header` bytes."""
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 3))):
        end = max(1, min(len(damaged), header if draw.random() < 0.8 else len(damaged)))
        at = draw.randrange(end)
        match draw.randrange(6):
            case 0:
                for _ in range(draw.randint(1, 8)):
                    damaged[draw.randrange(end)] = draw.randrange(256)
            case 1:
                del damaged[draw.randrange(len(damaged) + 1) :]
            case 2:
                width = draw.choice((4, 8))
                damaged[at : at + width] = draw.choice(FIELDS).to_bytes(8, "little")[:width]
            case 3:
                damaged[at:at] = damaged[at : at + draw.randint(1, 200)]
            case 4:
                del damaged[at : at + draw.randint(1, 20)]
            case 5:
                damaged[at : at + draw.randint(0, 3)] = draw.choice(NUMBERS)
        if not damaged:
            break
    return bytes(damaged)


def renumber(content: bytes, header: int, draw: random.Random) -> bytes:
    """A safetensors file with a number or two of its header replaced, and its length put right."""
    text = content[8:header]
    for _ in range(draw.randint(1, 2)):
        place = draw.choice([*re.finditer(rb"\d+", text)])
        number = draw.choice((*NUMBERS, *(b"%d" % field for field in FIELDS), b"3", b"8", b"16"))
        text = text[: place.start()] + number + text[place.end() :]
    return len(text).to_bytes(8, "little") + text + content[header:]


def limit_memory() -> None:
    """No more than `MEMORY` beyond what this process has mapped now, where Linux can see to it."""
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(format: str, folder: Path) -> None:
    import gguf.quants  # noqa: F401  before the limit

    from lucidlm.checkpoint.gguf import open_gguf
    from lucidlm.checkpoint.safetensors import open_safetensors
    from lucidlm.checkpoint.tensors import TensorSource
    from lucidlm.errors import CheckpointError

    path = folder / f"model.{format}"
    content, header = gguf_file(path) if format == "gguf" else safetensors_file(path)
    opener: Callable[[Path], TensorSource] = open_gguf if format == "gguf" else open_safetensors
    limit_memory()
    draw = random.Random(20170612)
    read = refused = 0
    for _ in range(MUTATIONS):
        numbers = format == "safetensors" and draw.random() < 0.3
        path.write_bytes((renumber if numbers else mutate)(content, header, draw))
        try:
            with opener(path) as source:
                dict(getattr(source, "metadata", {}))
                for name in source.names:
                    source.read(name)
            read += 1
        except CheckpointError as error:
            error.message("en"), error.message("zh")
            refused += 1
    print(read, refused)


if __name__ == "__main__":
    in_memory = Path("/dev/shm")  # where there is one: a disk is slow with many small files
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as scratch:
        main(sys.argv[1], Path(scratch))
