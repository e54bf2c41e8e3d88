"""Inference by onnxruntime, on a net written as ONNX with the operators that fit best: LRN is one, not six."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class Inferer:
    """`step` is a forward pass: an array in, an array out."""

    def __init__(self, job: dict[str, Any]):
        import onnxruntime

        folder = Path(job["folder"])
        self.data = np.load(folder / "data.npy")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        self.threads = job["threads"]
        self.session = onnxruntime.InferenceSession(
            str(folder / "net.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def step(self) -> float:
        self.outputs()
        return 0.0

    def outputs(self) -> np.ndarray:
        return self.session.run(None, {"data": self.data})[0]

    def describe(self) -> dict[str, Any]:
        import onnxruntime

        return {"version": f"onnxruntime {onnxruntime.__version__}", "threads": self.threads}


def write(layers: list[dict[str, Any]], folder: Path, shape: tuple[int, ...]) -> None:
    """Writes net.onnx from `benchmarks.nets.plain` layers and weights.npz, for inputs of this shape."""
    import onnx
    from onnx import helper, numpy_helper

    nodes, constants = [], []
    names = {"data": "data"}  # a blob -> the value that stands for it now: layers in place make new ones
    with np.load(folder / "weights.npz") as weights:

        def constant(name: str, values: np.ndarray) -> str:
            constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
            return name

        def parameters(layer: dict[str, Any], count: int) -> list[str]:
            keys = [f"{layer['name']}/{i}" for i in range(count)]
            return [constant(key, weights[key]) for key in keys]

        for layer in layers:
            inputs = [names[bottom] for bottom in layer["bottom"]]
            output = f"{layer['name']}:out"
            match layer["type"]:
                case "Convolution":
                    inputs += parameters(layer, 1 + layer["bias"])
                    made = helper.make_node("Conv", inputs, [output], group=layer["group"], **_window(layer))
                case "InnerProduct":
                    nodes.append(helper.make_node("Flatten", inputs, [f"{output}/flat"]))
                    inputs = [f"{output}/flat", *parameters(layer, 2)]
                    made = helper.make_node("Gemm", inputs, [output], transB=1)
                case "Pooling":
                    kind = {"MAX": "MaxPool", "AVE": "AveragePool"}[layer["pool"]]
                    made = helper.make_node(kind, inputs, [output], ceil_mode=1, **_window(layer))
                case "LRN":
                    options = {"alpha": layer["alpha"], "beta": layer["beta"], "bias": layer["k"]}
                    made = helper.make_node("LRN", inputs, [output], size=layer["size"], **options)
                case "BatchNorm":
                    factor = weights[f"{layer['name']}/2"][0]
                    more = {"scale": f"{layer['scale']}/0", "bias": f"{layer['scale']}/1"}
                    inputs += [constant(f"{output}/{kind}", weights[key]) for kind, key in more.items()]
                    for i, kind in enumerate(("mean", "var")):
                        inputs.append(constant(f"{output}/{kind}", weights[f"{layer['name']}/{i}"] / factor))
                    made = helper.make_node("BatchNormalization", inputs, [output], epsilon=layer["eps"])
                case "Concat":
                    made = helper.make_node("Concat", inputs, [output], axis=1)
                case "Softmax":
                    made = helper.make_node("Softmax", inputs, [output], axis=1)
                case "ReLU" | "Eltwise" as kind:
                    made = helper.make_node({"ReLU": "Relu", "Eltwise": "Add"}[kind], inputs, [output])
                case "Dropout":
                    names[layer["top"][0]] = inputs[0]
                    continue
                case kind:
                    raise SystemExit(f"onnxruntime's side knows no {kind}")
            nodes.append(made)
            names[layer["top"][0]] = output
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "net.onnx"))


def _window(layer: dict[str, Any]) -> dict[str, Any]:
    return {
        "kernel_shape": [layer["kernel"]] * 2,
        "strides": [layer["stride"]] * 2,
        "pads": [layer["pad"]] * 4,
    }
