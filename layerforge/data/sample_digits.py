"""``sample://digits``: handwritten-looking digits, white on black, a stand-in for MNIST that LayerForge draws itself.

Each digit is a few pen strokes through points that shake anew for every image; the hand's slant, size, pen and pressure
vary as well. Everything about image ``index`` follows from (seed, split, index).
"""

from __future__ import annotations

import numpy as np

VERSION = 1  # part of the cache's name: raised whenever the pictures change
SIZE = 28
COUNT = {"train": 10000, "test": 1000}
NAMES = list("0123456789")

Array = np.ndarray
Random = np.random.Generator

# How a digit may be written: strokes, with | between them, of points x,y in a box from -100,-100, top left, to 100,100.
# A stroke is a smooth curve through its points; a corner is where one stroke ends and the next begins.
HANDS = [
    ["10,-100 -50,-70 -65,10 -40,80 5,100 50,70 65,0 45,-75 0,-100",
     "-10,-95 -75,-30 -65,60 0,95 70,50 70,-40 10,-95 -20,-90"],
    ["5,-100 0,0 -5,100",
     "-40,-55 -10,-75 10,-100 | 10,-100 8,0 5,100",
     "-40,-60 5,-100 | 5,-100 5,100 | -40,100 50,100"],
    ["-60,-55 -30,-95 30,-95 60,-50 20,20 -65,95 | -65,95 70,90",
     "-60,-60 0,-100 55,-55 20,20 -50,85 -60,50 -20,60 20,90 70,75"],
    ["-60,-75 0,-100 50,-60 30,-15 -15,0 | -15,0 45,10 60,55 10,100 -60,75",
     "-55,-95 50,-95 | 50,-95 -10,-15 | -10,-15 50,10 50,70 0,100 -60,80"],
    ["-35,-100 -50,-30 -60,15 | -60,15 65,10 | 35,-60 30,20 25,100",
     "30,-100 -65,30 | -65,30 70,30 | 30,-100 30,100"],
    ["-40,-95 -50,-15 | -50,-15 10,-30 60,15 40,80 -10,100 -60,80 | -40,-95 60,-100",
     "60,-90 -30,-90 -50,-20 15,-25 60,25 30,90 -60,85"],
    ["40,-100 -25,-50 -60,30 -30,95 35,90 55,40 10,10 -55,50",
     "10,-100 -45,-20 -50,50 0,100 50,60 25,15 -40,35"],
    ["-60,-90 65,-95 | 65,-95 15,0 -20,100",
     "-60,-90 60,-95 | 60,-95 10,10 -10,100 | -30,5 50,-5",
     "-60,-55 -55,-90 | -55,-90 60,-90 | 60,-90 5,10 0,100"],
    ["45,-75 -10,-100 -50,-60 0,-10 55,45 10,100 -50,70 -20,10 40,-40 40,-80",
     "0,-5 -50,-50 0,-100 50,-50 0,-5 -60,50 0,100 60,50 0,-5"],
    ["50,-60 5,-100 -50,-60 -30,-10 20,-10 50,-60 | 50,-60 45,20 20,100",
     "50,-50 0,-95 -50,-50 0,-10 50,-50 50,30 10,90 -45,80"],
]  # fmt: skip


def strokes_of(hand: str) -> list[list[tuple[float, float]]]:
    """The points of each stroke, in a box from -1 to 1."""
    return [
        [(int(x) / 100, int(y) / 100) for x, y in (point.split(",") for point in stroke.split())]
        for stroke in hand.split("|")
    ]


STROKES = [[strokes_of(hand) for hand in hands] for hands in HANDS]

STEPS = np.linspace(0, 1, 7)[:, None]
# The Catmull-Rom spline: four points to the STEPS of the piece between the middle two, (7, 4).
SPLINE = np.concatenate([STEPS**3, STEPS**2, STEPS, STEPS**0], axis=1) @ (
    0.5 * np.array([[-1, 3, -3, 1], [2, -5, 4, -1], [-1, 0, 1, 0], [0, 2, 0, 0]])
)


def smooth(points: Array) -> Array:
    """A curve through the points: (n, 2) -> (7 (n - 1), 2)."""
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    windows = np.stack([ends[i : len(ends) - 3 + i] for i in range(4)], axis=1)  # (n - 1, 4, 2)
    return (SPLINE @ windows).reshape(-1, 2)


def draw(rng: Random, label: int, size: int = SIZE) -> Array:
    """One image of this digit: (size, size) uint8, bright on dark."""
    import cv2

    hands = STROKES[label]
    strokes = hands[rng.integers(len(hands))]
    fine = 4 * size  # drawn four times as fine, then averaged

    # The hand: height and width, slant, turn; and where on the paper.
    height = rng.uniform(0.62, 0.92)
    width = height * rng.uniform(0.7, 1.15)
    slant, turn = rng.normal(0, 0.18), rng.normal(0, 0.12)
    cos, sin = np.cos(turn), np.sin(turn)
    hand = np.array([[cos, -sin], [sin, cos]]) @ np.array([[width, -slant * height], [0, height]])
    shake = rng.uniform(0.04, 0.11)
    # Where two strokes meet, they meet after shaking too.
    shaken = {point: np.array(point) + rng.normal(0, shake, 2) for stroke in strokes for point in stroke}
    curves = [smooth(np.array([shaken[point] for point in stroke])) @ hand.T for stroke in strokes]
    everything = np.concatenate(curves)
    low, high = everything.min(axis=0), everything.max(axis=0)
    shrink = min(1.0, 1.76 / (high - low).max())
    room = np.maximum(0.92 - shrink * (high - low) / 2, 0)
    centre = rng.uniform(-1, 1, 2) * np.minimum(room, 0.14)
    middle = (low + high) / 2

    paper = np.zeros((fine, fine), np.uint8)
    pen = rng.uniform(0.07, 0.15) * fine
    for curve in curves:
        pixels = ((curve - middle) * shrink + centre + 1) * (fine / 2)
        cv2.polylines(paper, [np.rint(pixels * 16).astype(np.int32)], False, 255, round(pen), cv2.LINE_AA, shift=4)
    image: Array = cv2.resize(paper, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.8))
    image *= np.float32(rng.uniform(0.65, 1.0))
    image += rng.standard_normal((size, size), dtype=np.float32) * np.float32(rng.uniform(2, 24))
    image += np.float32(rng.uniform(0, 40))
    return np.clip(image, 0, 255).astype(np.uint8)
