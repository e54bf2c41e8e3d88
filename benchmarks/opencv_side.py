"""Inference by OpenCV's dnn, which reads the caffemodel. OpenCV 4, that is: the last that reads Caffe's nets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np


class Inferer:
    """`step` is a forward pass: an array in, an array out."""

    def __init__(self, job: dict[str, Any]):
        cv2.setNumThreads(job["threads"])
        folder = Path(job["folder"])
        self.data = np.load(folder / "data.npy")
        self.net = cv2.dnn.readNetFromCaffe(str(folder / "opencv.prototxt"), str(folder / "opencv.caffemodel"))

    def step(self) -> float:
        self.outputs()
        return 0.0

    def outputs(self) -> np.ndarray:
        self.net.setInput(self.data)
        return self.net.forward()

    def describe(self) -> dict[str, Any]:
        return {"version": f"OpenCV {cv2.__version__}", "threads": cv2.getNumThreads()}
