"""safetensors against the `safetensors` library both ways; hostile headers; failed writes."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lucidlm.checkpoint import safetensors_write
from lucidlm.checkpoint.safetensors import open_safetensors
from lucidlm.checkpoint.safetensors_write import write_safetensors
from lucidlm.checkpoint.tensors import to_bf16
from lucidlm.errors import CheckpointError

TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def random_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    values = 50 * torch.randn(6, 7001)
    tensors = {f"x.{name}": values.to(dtype) for name, dtype in TORCH.items() if name != "U8"}
    tensors |= {"x.U8": values.abs().to(torch.uint8), "scalar": torch.tensor(2.5)}
    return tensors | {"nothing": torch.zeros(0, 3), "线性.权重": torch.ones(2, 3, 4, 5)}


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    tensors = random_tensors()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with open_safetensors(path) as source:
            assert set(source.names) == set(tensors)
            for name, tensor in tensors.items():
                values = source.read(name, np.float64)
                assert source.shape(name) == tuple(tensor.shape)
                assert TORCH[source.dtype(name)] == tensor.dtype
                assert values.flags.owndata and values.flags.writeable and values.flags.c_contiguous
                expected = tensor.double() if tensor.is_floating_point() else tensor
                np.testing.assert_array_equal(values, expected.numpy(), strict=True)


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_the_library_reads_what_is_written(dtype: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays = {"a": rng.standard_normal((7, 9)), "b": rng.standard_normal(()), "c": np.zeros((0, 4))}
    write_safetensors(tmp_path, arrays.items(), dtype=dtype)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    found = load_file(tmp_path / "model.safetensors")
    for name, values in arrays.items():
        assert torch.equal(
            found[name], torch.tensor(values, dtype=torch.float32).to(TORCH[dtype])
        ) or (dtype == "F64" and torch.equal(found[name], torch.tensor(values)))
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_shards_follow_the_limit_and_replace_an_earlier_save(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    arrays = {
        f"layers.{i}.weight": rng.standard_normal((10, 10)).astype(np.float32) for i in range(7)
    }
    write_safetensors(tmp_path, arrays.items())
    write_safetensors(tmp_path, arrays.items(), shard_bytes=1000)
    names = [f"model-{i:05d}-of-00004.safetensors" for i in range(1, 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *names,
        "model.safetensors.index.json",
    ]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 2800}
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file)[name], torch.from_numpy(arrays[name]))
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        source = open_safetensors(path)
        assert source.names == tuple(arrays)
        assert all(np.array_equal(source.read(name), arrays[name]) for name in arrays)
    write_safetensors(tmp_path, arrays.items())
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_bf16_rounds_as_torch_does(values: list[float]) -> None:
    array = np.array(values, np.float32)
    expected = torch.from_numpy(array).to(torch.bfloat16)
    found = torch.from_numpy(to_bf16(array).view(np.int16)).view(torch.bfloat16)
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found[~found.isnan()], expected[~expected.isnan()])


@pytest.mark.parametrize(("dtype", "value"), [("F16", 1e5), ("BF16", 3.4e38), ("F32", 1e300)])
def test_a_value_beyond_the_range_is_refused(dtype: Any, value: float, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        write_safetensors(tmp_path, [("weight", np.array([1.0, value]))], dtype=dtype)
    assert "weight" in str(error.value) and dtype in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fail_at", ["open", "copyfileobj"])
def test_a_full_disk_leaves_what_was_there(
    fail_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_safetensors(tmp_path, [("a", np.ones(3, np.float32))])
    before = (tmp_path / "model.safetensors").read_bytes()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if fail_at == "open":
        monkeypatch.setattr(safetensors_write._Shard, "add", full)
    else:
        monkeypatch.setattr(safetensors_write.shutil, "copyfileobj", full)
    with pytest.raises(CheckpointError) as error:
        write_safetensors(tmp_path, [("a", np.zeros(3, np.float32))])
    assert error.value.key == "checkpoint.disk_full"
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        yield "a", np.ones(3, np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_safetensors(tmp_path, tensors())
    assert not list(tmp_path.iterdir())


def packed(header: object, data: int = 0, length: int | None = None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (length or len(encoded)).to_bytes(8, "little") + encoded + b"\0" * data


def entry(shape: list[Any], start: Any, stop: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


HOSTILE = {
    "empty": (b"", "empty"),
    "seven bytes": (b"\0" * 7, "safetensors_header"),
    "header longer than the file": (packed({}, length=2**62), "safetensors_header"),
    "not JSON": (packed(b"{nonsense"), "safetensors_json"),
    "not UTF-8": (packed(b'{"\xff": 1}'), "safetensors_json"),
    "a list": (packed([]), "safetensors_json"),
    "deep JSON": (packed(b"[" * 200_000), "safetensors_json"),
    "a number of 5000 digits": (packed(b'{"a":' + b"9" * 5000 + b"}"), "safetensors_json"),
    "a name twice": (packed(b'{"a":1,"a":2}'), "safetensors_json"),
    "no dtype": (packed({"a": {"shape": [1], "data_offsets": [0, 4]}}, 4), "safetensors_entry"),
    "negative size": (packed({"a": entry([-1], 0, 4)}, 4), "safetensors_entry"),
    "negative offset": (packed({"a": entry([1], -4, 0)}, 4), "safetensors_entry"),
    "size is true": (packed({"a": entry([True], 0, 4)}, 4), "safetensors_entry"),
    "size is a text": (packed({"a": entry(["1"], 0, 4)}, 4), "safetensors_entry"),
    "three offsets": (
        packed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2, 4]}}, 4),
        "safetensors_entry",
    ),
    "8-bit floats": (packed({"a": entry([4], 0, 4, "F8_E4M3")}, 4), "unsupported_type"),
    "overflowing shape": (packed({"a": entry([2**40, 2**40], 0, 4)}, 4), "shape"),
    "overflow behind a zero": (packed({"a": entry([0, 2**62, 2**62], 0, 0)}), "shape"),
    "65 dimensions": (packed({"a": entry([1] * 65, 0, 4)}, 4), "shape"),
    "wrong size": (packed({"a": entry([2], 0, 4)}, 4), "safetensors_bytes"),
    "beyond the end": (packed({"a": entry([2], 0, 8)}, 4), "outside"),
    "gap": (packed({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, 12), "safetensors_gap"),
    "gap at the start": (packed({"a": entry([1], 4, 8)}, 8), "safetensors_gap"),
    "overlap": (packed({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, 8), "safetensors_gap"),
    "bytes left over": (packed({"a": entry([1], 0, 4)}, 5), "safetensors_size"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_one_clear_error(case: str, tmp_path: Path) -> None:
    content, key = HOSTILE[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        open_safetensors(path)
    assert error.value.key == f"checkpoint.{key}"
    assert str(path) in str(error.value) and str(path) in error.value.message("zh")


def test_a_header_over_the_formats_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((200_000_000).to_bytes(8, "little"))
        file.truncate(200_000_100)  # sparse: takes no room
    with pytest.raises(CheckpointError) as error:
        open_safetensors(path)
    assert error.value.key == "checkpoint.header_too_long"


@pytest.mark.parametrize(
    ("weight_map", "key"),
    [
        ({"a": "../model.safetensors"}, "shard_place"),
        ({"a": "/etc/model.safetensors"}, "shard_place"),
        ({"a": "..\\model.safetensors"}, "shard_place"),
        ({"a": "model.bin"}, "shard_place"),
        ({"a": "missing.safetensors"}, "no_file"),
        ({"b": "part.safetensors"}, "shard_lacks"),
        ({"a": 7}, "index"),
        ([], "index"),
    ],
)
def test_a_bad_index_is_one_clear_error(weight_map: object, key: str, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "part.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError) as error:
        open_safetensors(index)
    assert error.value.key == f"checkpoint.{key}"


def test_pickled_weights_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(2)}, path)
    for opened in (path, tmp_path):
        with pytest.raises(CheckpointError) as error:
            open_safetensors(opened)
        assert error.value.key == "checkpoint.pickle"
        assert "safetensors" in str(error.value) and str(path) in str(error.value)


def test_a_folder_without_weights_and_a_missing_tensor_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        open_safetensors(tmp_path)
    assert error.value.key == "checkpoint.no_weights"
    save_file({"a": torch.ones(2)}, tmp_path / "only.safetensors")
    with pytest.raises(CheckpointError) as error:
        open_safetensors(tmp_path).read("b")
    assert error.value.key == "checkpoint.no_tensor"
