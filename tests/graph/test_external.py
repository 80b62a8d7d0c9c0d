"""External data: mapped, not copied, and never from outside the model's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from certify.graph.load import load
from certify.graph.model import InvalidModel
from tests.graph.build import dense

W = np.arange(12, dtype=np.float32).reshape(4, 3)


def saved(folder: Path, location: str = "w.bin", **entries: str) -> Path:
    """The dense layer y = x @ W in a file of its own in `folder`, its weights said to be at `location`."""
    model = dense(W)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    folder.mkdir(exist_ok=True)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * 8 + W.tobytes())
    constant = load(saved(tmp_path, offset="8", length=str(W.nbytes))).values["W"].constant
    assert isinstance(constant, np.memmap)
    np.testing.assert_array_equal(constant, W)


def test_packed_types_are_unpacked(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes([0x21, 0xF3]))
    tensor = onnx.TensorProto(name="Q", data_type=onnx.TensorProto.INT4, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    nodes = [helper.make_node("DequantizeLinear", ["Q", "s"], ["d"]), helper.make_node("Add", ["x", "d"], ["y"])]
    shape = [helper.make_tensor_value_info(name, 1, [4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", shape[:1], shape[1:], [tensor, helper.make_tensor("s", 1, [], [0.5])])
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString())
    constant = load(path).values["Q"].constant
    assert constant is not None
    assert constant.astype(int).tolist() == [1, 2, 3, -1]


@pytest.mark.parametrize("location", ["../w.bin", "sub/../../w.bin", "..\\w.bin", "C:\\w.bin", "link.bin", "linked/w.bin"])
def test_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    path = saved(folder, location)
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    (folder / "sub").mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "linked").symlink_to(tmp_path)
    with pytest.raises(InvalidModel, match=r"initializer 'W'.*outside the model's folder"):
        load(path)


def test_an_absolute_path_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "w.bin"
    target.write_bytes(W.tobytes())
    with pytest.raises(InvalidModel, match="outside the model's folder"):
        load(saved(tmp_path, str(target)))


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (tmp_path / "blob").write_bytes(W.tobytes())
    (tmp_path / "w.bin").symlink_to(tmp_path / "blob")
    np.testing.assert_array_equal(load(path).values["W"].constant, W)


def test_data_that_is_missing_or_short(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(InvalidModel, match=r"w\.bin is missing"):
        load(path)
    (tmp_path / "w.bin").write_bytes(W.tobytes()[:-1])
    with pytest.raises(InvalidModel, match=r"47 bytes.*do not fill float\[4, 3\]"):
        load(path)
    with pytest.raises(InvalidModel, match="needs bytes 8 to 56"):
        load(saved(tmp_path, offset="8", length="48"))
    with pytest.raises(InvalidModel, match="must be integers"):
        load(saved(tmp_path, offset="x"))


def test_bytes_cannot_have_external_data(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="give the model by its path"):
        load(saved(tmp_path).read_bytes())


def test_a_nan_in_mapped_weights_is_found(tmp_path: Path) -> None:
    broken = W.copy()
    broken[3, 2] = np.nan
    (tmp_path / "w.bin").write_bytes(broken.tobytes())
    with pytest.raises(InvalidModel, match=r"'W' holds NaN at index \[3, 2\]"):
        load(saved(tmp_path))
