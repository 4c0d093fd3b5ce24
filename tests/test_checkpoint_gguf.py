"""GGUF files against the `gguf` library: metadata, blocks, dequantised values; hostile headers."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFEndian, GGUFReader, GGUFWriter, quants
from gguf.constants import GGML_QUANT_SIZES

from lucidlm.checkpoint.catalogue import find
from lucidlm.checkpoint.gguf import open_gguf
from lucidlm.checkpoint.gguf_types import TENSOR_TYPES
from lucidlm.errors import CheckpointError

FLOATS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
INTEGERS = (np.int8, np.int16, np.int32, np.int64)
METADATA: dict[str, Any] = {
    "small": 200,
    "negative": -5,
    "real": 0.1,
    "yes": True,
    "no": False,
    "text": "今天是我的生日 \n 😀",
    "words": ["a", "", "好", "x" * 1000],
    "numbers": [1, 2, 3],
    "reals": [0.5, -1.25],
    "flags": [True, False, True],
}


def stored(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Blocks of a random tensor: quantised where the library can, else random bytes."""
    quantisation = GGMLQuantizationType[kind]
    values = rng.standard_normal(shape).astype(np.float32)
    try:
        return quants.quantize(values, quantisation)
    except NotImplementedError:
        block, size = GGML_QUANT_SIZES[quantisation]
        return rng.integers(0, 256, (*shape[:-1], shape[-1] // block * size), dtype=np.uint8)


def write(path: Path, tensors: dict[str, tuple[str, np.ndarray]], **options: Any) -> Path:
    writer = GGUFWriter(path, "llama", **options)
    writer.add_uint8("small", METADATA["small"])
    writer.add_int16("negative", METADATA["negative"])
    writer.add_float64("real", METADATA["real"])
    for name in ("yes", "no"):
        writer.add_bool(name, METADATA[name])
    writer.add_string("text", METADATA["text"])
    for name in ("words", "numbers", "reals", "flags"):
        writer.add_array(name, METADATA[name])
    for name, (kind, data) in tensors.items():
        quantisation = None if data.dtype.kind == "i" else GGMLQuantizationType[kind]
        writer.add_tensor(name, data, raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def everything() -> dict[str, tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    tensors = {f"{kind}.weight": (kind, stored(kind, (3, 5, 512), rng)) for kind in FLOATS}
    for integer in INTEGERS:
        kind = f"I{np.dtype(integer).itemsize * 8}"
        info = np.iinfo(integer)
        tensors[kind] = (kind, rng.integers(info.min, info.max, (2, 7), dtype=integer))
    tensors["long"] = (
        "Q4_1",
        stored("Q4_1", (64, 1024), rng),
    )  # several pieces, the last one short
    tensors["longer"] = ("F16", stored("F16", (5, 7001), rng))
    return tensors


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "model.gguf", everything())


def same_as_the_library(path: Path) -> None:
    oracle = GGUFReader(path)
    file = open_gguf(path)
    fields = {name: field for name, field in oracle.fields.items() if not name.startswith("GGUF.")}
    assert list(file.metadata) == list(fields)
    for name, field in fields.items():
        assert file.metadata[name] == field.contents(), name
    assert file.names == tuple(tensor.name for tensor in oracle.tensors)
    for tensor in oracle.tensors:
        assert file.shape(tensor.name) == tuple(int(size) for size in tensor.shape[::-1])
        assert file.dtype(tensor.name) == tensor.tensor_type.name
        blocks = file.blocks(tensor.name)
        assert blocks.tobytes() == tensor.data.tobytes()
        assert blocks.shape[:-1] == tensor.data.shape[:-1]
        if tensor.data.dtype.kind == "i":
            expected = tensor.data
        else:
            with np.errstate(all="ignore"):
                expected = quants.dequantize(tensor.data, tensor.tensor_type)
        found = file.read(tensor.name)
        np.testing.assert_array_equal(found, expected.reshape(found.shape))


def test_all_types_read_as_the_library_reads_them(file: Path) -> None:
    same_as_the_library(file)


def test_metadata_is_what_was_written(file: Path) -> None:
    metadata = open_gguf(file).metadata
    assert {name: metadata[name] for name in METADATA} == METADATA
    assert all(type(metadata[name]) is type(METADATA[name]) for name in METADATA)
    assert "text" in metadata and "texts" not in metadata
    with pytest.raises(KeyError):
        metadata["texts"]


def test_version_2_reads_as_version_3(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4] = 2
    (tmp_path / "v2.gguf").write_bytes(content)
    assert open_gguf(tmp_path / "v2.gguf").version == 2
    same_as_the_library(tmp_path / "v2.gguf")


def test_the_types_have_the_librarys_sizes() -> None:
    ours = {code: (kind.name, kind.block, kind.size) for code, kind in TENSOR_TYPES.items()}
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    assert {code: theirs.get(code) for code in ours} == ours


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_come_in_the_asked_type(file: Path, dtype: type) -> None:
    source = open_gguf(file)
    for name in ("F32.weight", "Q4_0.weight", "BF16.weight"):
        values = source.read(name, dtype)
        assert values.dtype == dtype
        assert values.flags.c_contiguous and values.flags.writeable and values.flags.owndata
        np.testing.assert_array_equal(values, source.read(name).astype(dtype))
    assert source.read("I32", dtype).dtype == np.int32


def test_closing_keeps_views_and_forgets_names(file: Path) -> None:
    with open_gguf(file) as source:
        blocks = source.blocks("long")
    assert blocks.sum() >= 0
    with pytest.raises(CheckpointError) as error:
        source.read("long")
    assert error.value.key == "checkpoint.no_tensor"


def test_an_unreadable_type_is_named_with_those_that_can_be_read(tmp_path: Path) -> None:
    data = np.zeros((2, 84), np.uint8)
    path = write(tmp_path / "q2.gguf", {"block.weight": ("Q2_K", data)})
    source = open_gguf(path)
    assert source.shape("block.weight") == (2, 256)
    with pytest.raises(CheckpointError) as error:
        source.read("block.weight")
    assert all(word in str(error.value) for word in ("block.weight", "Q2_K", "Q4_1", "BF16"))


def test_a_split_model_opens_by_any_of_its_parts(tmp_path: Path) -> None:
    tensors = everything()
    write(tmp_path / "model.gguf", tensors, split_max_tensors=4)
    parts = sorted(tmp_path.glob("*.gguf"))
    assert len(parts) == 5
    whole = open_gguf(write(tmp_path / "whole.gguf", tensors))
    for part in (parts[0], parts[-1]):
        source = open_gguf(part)
        assert source.names == whole.names
        for name in source.names:
            np.testing.assert_array_equal(source.read(name), whole.read(name))
    assert open_gguf(parts[0]).metadata["text"] == METADATA["text"]
    parts[2].rename(tmp_path / "elsewhere.gguf")
    with pytest.raises(CheckpointError) as error:
        open_gguf(parts[0])
    assert error.value.key == "checkpoint.no_file" and parts[2].name in str(error.value)
    with pytest.raises(CheckpointError) as error:
        open_gguf(tmp_path / "elsewhere.gguf")
    assert error.value.key == "checkpoint.gguf_split_name"
    parts[2].write_bytes(parts[1].read_bytes())
    with pytest.raises(CheckpointError) as error:
        open_gguf(parts[0])
    assert error.value.key == "checkpoint.gguf_split_part"


def test_a_big_endian_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "big.gguf", {}, endianess=GGUFEndian.BIG)
    with pytest.raises(CheckpointError) as error:
        open_gguf(path)
    assert error.value.key == "checkpoint.gguf_big_endian"


def text(value: str | bytes) -> bytes:
    encoded = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def header(tensors: int = 0, entries: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries)


def tensor(name: str, dims: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<{len(dims)}Q", *dims)
    return text(name) + struct.pack("<I", len(dims)) + sizes + struct.pack("<IQ", kind, offset)


def filled(content: bytes, data: int = 0) -> bytes:
    """`content`, padded to the alignment, and `data` bytes behind it."""
    return content + b"\0" * (-len(content) % 32 + data)


HUGE = 2**63
HOSTILE = {
    "empty": (b"", "empty"),
    "not GGUF": (b"PK\3\4" * 10, "not_gguf"),
    "three letters": (b"GGU", "not_gguf"),
    "version 1": (header(version=1), "gguf_version"),
    "version 4": (header(version=4), "gguf_version"),
    "version cut short": (b"GGUF\3", "cut_short"),
    "huge tensor count": (header(tensors=HUGE), "cut_short"),
    "huge entry count": (header(entries=HUGE), "cut_short"),
    "more entries than bytes": (header(entries=5) + b"\0" * 64, "cut_short"),
    "huge key": (header(entries=1) + struct.pack("<Q", HUGE) + b"\0" * 64, "cut_short"),
    "huge value": (header(entries=1) + text("k") + struct.pack("<IQ", 8, HUGE), "cut_short"),
    "huge array": (
        header(entries=1) + text("k") + struct.pack("<IIQ", 9, 10, HUGE) + b"\0" * 64,
        "cut_short",
    ),
    "huge array of strings": (
        header(entries=1) + text("k") + struct.pack("<IIQ", 9, 8, HUGE) + b"\0" * 64,
        "cut_short",
    ),
    "huge string in an array": (
        header(entries=1) + text("k") + struct.pack("<IIQQ", 9, 8, 2, HUGE) + b"\0" * 64,
        "cut_short",
    ),
    "last string too long": (
        header(entries=1) + text("k") + struct.pack("<IIQQ", 9, 8, 1, 9) + b"\0" * 8,
        "cut_short",
    ),
    "array of arrays": (
        header(entries=1) + text("k") + struct.pack("<IIQIQ", 9, 9, 1, 0, 0),
        "gguf_value_type",
    ),
    "unknown value type": (
        header(entries=1) + text("k") + struct.pack("<II", 13, 0),
        "gguf_value_type",
    ),
    "entry twice": (
        header(entries=2) + (text("k") + struct.pack("<IB", 0, 1)) * 2,
        "duplicate_key",
    ),
    "key not UTF-8": (header(entries=1) + text(b"\xff") + struct.pack("<IQ", 0, 1), "not_utf8"),
    "alignment 0": (
        header(entries=1) + text("general.alignment") + struct.pack("<II", 4, 0),
        "gguf_alignment",
    ),
    "alignment 24": (
        header(entries=1) + text("general.alignment") + struct.pack("<II", 4, 24),
        "gguf_alignment",
    ),
    "alignment is a text": (
        header(entries=1) + text("general.alignment") + struct.pack("<I", 8) + text("32"),
        "gguf_alignment",
    ),
    "dims cut short": (header(tensors=1) + text("t" * 30) + struct.pack("<I", 4), "cut_short"),
    "five dims": (filled(header(tensors=1) + tensor("t", (1,) * 5), 64), "gguf_dims"),
    "dims that overflow": (filled(header(tensors=1) + tensor("t", (2**32, 2**32)), 64), "shape"),
    "dims that wrap to nothing": (filled(header(tensors=1) + tensor("t", (2**63, 2)), 64), "shape"),
    "unknown type": (filled(header(tensors=1) + tensor("t", (8,), kind=99), 64), "gguf_type"),
    "row of 33 in blocks of 32": (
        filled(header(tensors=1) + tensor("t", (33, 32), kind=2), 9999),
        "gguf_row",
    ),
    "beyond the end": (filled(header(tensors=1) + tensor("t", (9,)), 32), "outside"),
    "offset beyond the end": (
        filled(header(tensors=1) + tensor("t", (8,), offset=2**64 - 32), 64),
        "outside",
    ),
    "offset unaligned": (filled(header(tensors=1) + tensor("t", (8,), offset=4), 64), "outside"),
    "tensor twice": (
        filled(header(tensors=2) + tensor("t", (8,)) + tensor("t", (8,), offset=32), 64),
        "duplicate_tensor",
    ),
    "overlap": (
        filled(header(tensors=2) + tensor("t", (16,)) + tensor("u", (8,), offset=32), 64),
        "overlap",
    ),
    "not a part of a split": (
        header(entries=1) + text("split.count") + struct.pack("<II", 4, 2**31),
        "gguf_split_name",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_one_clear_error(case: str, tmp_path: Path) -> None:
    content, key = HOSTILE[case]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        open_gguf(path)
    assert error.value.key == f"checkpoint.{key}"
    assert str(path) in str(error.value) and str(path) in error.value.message("zh")


def test_a_word_that_is_not_utf8_is_found_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "words.gguf"
    path.write_bytes(header(entries=1) + text("k") + struct.pack("<IIQ", 9, 8, 1) + text(b"\xe5"))
    source = open_gguf(path)
    with pytest.raises(CheckpointError) as error:
        source.metadata["k"]
    assert error.value.key == "checkpoint.not_utf8"


def test_a_folder_and_a_missing_file_are_clear_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(CheckpointError) as error:
            open_gguf(path)
        assert str(path) in str(error.value)


@pytest.mark.slow
@pytest.mark.checkpoint("smollm2-135m")
def test_smollm2_reads_as_the_library_reads_it() -> None:
    same_as_the_library(find("smollm2-135m").folder / "SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.mark.checkpoint("smollm2-135m")
def test_reading_smollm2_takes_little_more_memory_than_its_weights() -> None:
    path = find("smollm2-135m").folder / "SmolLM2-135M-Instruct.Q4_1.gguf"
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "import gguf.quants\n"
        "from lucidlm.checkpoint.gguf import open_gguf\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak()\n"
        "source = open_gguf(Path(sys.argv[1]))\n"
        "weights = [source.read(name) for name in source.names]\n"
        "print((peak() - before) / sum(values.nbytes for values in weights))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, check=True, text=True
    )
    assert float(result.stdout) < 1.1
