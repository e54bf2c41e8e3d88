"""``sample://shapes``: textured objects on cluttered backgrounds, a data set that LayerForge draws itself.

Ten classes, told apart by their outline alone: place, size, angle, stretch, colour, texture and light are drawn anew
for every image and say nothing about the class. Everything about image ``index`` follows from (seed, split, index).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

VERSION = 1  # part of the cache's name: raised whenever the pictures change
SIZE = 256
COUNT = {"train": 4000, "test": 1000}
QUALITY = 92  # of the JPEG

Array = np.ndarray
Random = np.random.Generator


# Outlines: closed contours around the origin, about one unit in radius, (points, 2). The second contour is a hole.


def circle(radius: float = 1.0, points: int = 72) -> Array:
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return radius * np.stack([np.cos(t), np.sin(t)], axis=1)


def polygon(corners: int, inner: float | None = None) -> Array:
    """A regular polygon, or a star whose inner corners lie at ``inner`` times the radius."""
    if inner is None:
        return circle(1.0, corners)
    star = circle(1.0, 2 * corners)
    star[1::2] *= inner
    return star


def flower(petals: int = 6) -> Array:
    t = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    radius = 0.70 + 0.30 * np.cos(petals * t)
    return np.stack([radius * np.cos(t), radius * np.sin(t)], axis=1)


def heart() -> Array:
    t = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], axis=1) / 16


def crescent() -> Array:
    """A disc without a second disc of radius 0.85 whose centre lies 0.5 to its right."""
    meeting = np.arccos((1 + 0.5**2 - 0.85**2) / (2 * 0.5))  # angle at which the circles meet, seen from the first
    outer = np.linspace(meeting, 2 * np.pi - meeting, 64)
    end = np.arctan2(np.sin(meeting), np.cos(meeting) - 0.5)
    inner = np.linspace(2 * np.pi - end, end, 64)
    big = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    bite = np.stack([0.5 + 0.85 * np.cos(inner), 0.85 * np.sin(inner)], axis=1)
    return np.concatenate([big, bite]) + [0.25, 0]


def cross(arm: float = 0.34) -> Array:
    return np.array(
        [
            (-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
            (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm),
        ]
    )  # fmt: skip


def arrow() -> Array:
    return np.array([(1.1, 0), (0.1, -0.85), (0.1, -0.33), (-1.0, -0.33), (-1.0, 0.33), (0.1, 0.33), (0.1, 0.85)])


# name -> (contours, radius), the radius chosen so that no outline stands out by its area
CLASSES: dict[str, tuple[list[Array], float]] = {
    "disc": ([circle()], 0.88),
    "ring": ([circle(), circle(0.52)], 1.0),
    "square": ([circle(1.0, 4)], 1.1),
    "triangle": ([polygon(3)], 1.2),
    "star": ([polygon(5, 0.42)], 1.2),
    "cross": ([cross()], 0.95),
    "heart": ([heart()], 0.98),
    "crescent": ([crescent()], 1.1),
    "arrow": ([arrow()], 1.0),
    "flower": ([flower()], 1.05),
}
NAMES = list(CLASSES)


@functools.lru_cache(maxsize=4)
def grid(size: int) -> tuple[Array, Array]:
    """x and y of every pixel's centre, from -1 to 1: (size, size) each."""
    steps = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1
    x, y = np.meshgrid(steps, steps)
    return x, y


# Textures: numbers from 0 to 1 over coordinates u and v, in which the object's radius is about 1.


def soft(x: Array) -> Array:
    """An edge, softened: from 0 to 1 around x = 0."""
    return np.clip(x * 2.5 + 0.5, 0, 1, dtype=np.float32)


def plain(u: Array, v: Array, rng: Random) -> Array:
    return 0.5 + 0.35 * u.clip(-1, 1)


def stripes(u: Array, v: Array, rng: Random) -> Array:
    return soft(np.sin(u * rng.uniform(8, 18)) + rng.uniform(-0.3, 0.3))


def checks(u: Array, v: Array, rng: Random) -> Array:
    f = rng.uniform(6, 11)
    return soft(3 * np.sin(u * f) * np.sin(v * f))


def dots(u: Array, v: Array, rng: Random) -> Array:
    f = rng.uniform(9, 15)
    return soft(2 * (np.cos(u * f) + np.cos(v * f) - rng.uniform(0.3, 0.9)))


def waves(u: Array, v: Array, rng: Random) -> Array:
    return soft(1.5 * np.sin(u * rng.uniform(9, 16) + rng.uniform(0.8, 1.6) * np.sin(v * rng.uniform(4, 8))))


def weave(u: Array, v: Array, rng: Random) -> Array:
    f = rng.uniform(9, 15)
    return 0.5 + 0.25 * (np.sin(u * f) + np.sin(v * f) * np.sign(np.sin(u * f * 0.5)))


def bricks(u: Array, v: Array, rng: Random) -> Array:
    row = v * rng.uniform(2.2, 3.4)
    shifted = u * rng.uniform(1.2, 1.8) + 0.5 * (np.floor(row) % 2)
    joint = np.minimum(np.abs(row - np.floor(row) - 0.5), np.abs(shifted - np.floor(shifted) - 0.5))
    wide = np.maximum(np.abs(row - np.floor(row) - 0.5), np.abs(shifted - np.floor(shifted) - 0.5))
    return soft(8 * (0.42 - wide)) * (0.8 + 0.4 * joint)


def marble(u: Array, v: Array, rng: Random) -> Array:
    return 0.5 + 0.5 * np.sin(5 * u + 5 * clouds(rng, len(u), 7))


def speckle(u: Array, v: Array, rng: Random) -> Array:
    return soft(1.6 * (clouds(rng, len(u), 36) - 0.55))


TEXTURES: list[Callable[[Array, Array, Random], Array]] = [
    plain, stripes, checks, dots, waves, weave, bricks, marble, speckle,
]  # fmt: skip


def clouds(rng: Random, size: int, cells: int) -> Array:
    """Smooth noise with ``cells`` bumps a side, about 0 to 1: (size, size)."""
    import cv2

    return cv2.resize(rng.random((cells, cells), dtype=np.float32), (size, size), interpolation=cv2.INTER_CUBIC)


def bounded(value: float) -> float:
    return min(max(value, 0.05), 0.95)


def colour(rng: Random, value: float, saturation: float) -> Array:
    """A random hue as B, G, R in 0 to 1, at this luminance."""
    hue = rng.uniform(0, 6)
    bgr = np.clip(np.abs((hue + np.array([4, 2, 0])) % 6 - 3) - 1, 0, 1)
    bgr = 1 - saturation * (1 - bgr)
    luminance = bgr @ [0.114, 0.587, 0.299]
    if luminance >= value:
        return (bgr * (value / luminance)).astype(np.float32)
    return (1 - (1 - bgr) * ((1 - value) / (1 - luminance))).astype(np.float32)


def background(rng: Random, size: int, value: float) -> Array:
    """A blurred scene of gradients, clouds, a faint texture and clutter: (size, size, 3) uint8."""
    import cv2

    x, y = grid(size)
    near, far = (colour(rng, bounded(value + d), rng.uniform(0.15, 0.75)) for d in rng.uniform(-0.1, 0.1, 2))
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along = cos * x + sin * y
    shade = 0.5 + 0.4 * along
    shade += np.float32(rng.uniform(0.2, 0.6)) * (clouds(rng, size, int(rng.integers(3, 8))) - 0.5)
    pattern: Array = np.zeros((), np.float32)
    if rng.random() < 0.6:
        across = cos * y - sin * x
        scale = np.float32(rng.uniform(0.8, 2.5))
        pattern = TEXTURES[rng.integers(len(TEXTURES))](along * scale, across * scale, rng)
        pattern = np.float32(rng.uniform(0.05, 0.16)) * (pattern - np.float32(0.5))
    scene = np.empty((size, size, 3), np.uint8)
    for c in range(3):
        scene[:, :, c] = np.clip(((far[c] - near[c]) * shade + (near[c] + pattern)) * 255, 0, 255)
    for _ in range(int(rng.integers(8, 20))):
        scribble(rng, scene, value)
    blur = rng.uniform(0.2, 1.8) * size / 256
    return cv2.GaussianBlur(scene, (0, 0), blur) if blur > 0.3 else scene


def scribble(rng: Random, scene: Array, value: float) -> None:
    """Adds one piece of clutter: a line, an arc, a splinter or a pebble, of a brightness near the background's."""
    import cv2

    size = len(scene)
    shade = tuple(float(c) * 255 for c in colour(rng, np.clip(value + rng.uniform(-0.22, 0.22), 0.05, 0.95), 0.6))
    at = rng.integers(0, size, 2)
    reach = rng.uniform(0.04, 0.22) * size
    thick = max(1, round(rng.uniform(0.004, 0.014) * size))
    kind = rng.integers(4)
    if kind == 0:
        end = at + rng.normal(0, 2.5 * reach, 2)
        cv2.line(scene, at.tolist(), [int(e) for e in end], shade, thick, cv2.LINE_AA)
    elif kind == 1:
        axes = (max(1, int(reach * rng.uniform(0.6, 2))), max(1, int(reach * rng.uniform(0.6, 2))))
        start = rng.uniform(0, 360)
        cv2.ellipse(
            scene,
            at.tolist(),
            axes,
            rng.uniform(0, 180),
            start,
            start + rng.uniform(40, 160),
            shade,
            thick,
            cv2.LINE_AA,
        )
    elif kind == 2:
        splinter = at + rng.normal(0, 0.6 * reach, (int(rng.integers(3, 6)), 2))
        cv2.fillConvexPoly(scene, splinter.astype(np.int32), shade, cv2.LINE_AA)
    else:
        axes = (max(1, int(reach * rng.uniform(0.1, 0.4))), max(1, int(reach * rng.uniform(0.1, 0.4))))
        cv2.ellipse(scene, at.tolist(), axes, rng.uniform(0, 180), 0, 360, shade, -1, cv2.LINE_AA)


def draw(rng: Random, label: int, size: int = SIZE) -> Array:
    """One image of class ``label``: (size, size, 3) uint8, B, G, R."""
    import cv2

    x, y = grid(size)
    contours, radius = CLASSES[NAMES[label]]
    radius *= rng.uniform(0.40, 0.66)  # half the image's side is 1

    # From the outline's coordinates to the image's: stretch, turn, move. Nothing leaves the middle 90 %.
    stretch, turn = rng.uniform(0.82, 1.22), rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    to_image = np.array([[cos, -sin], [sin, cos]]) @ np.diag([radius * stretch, radius / stretch])
    outlines = [contour @ to_image.T for contour in contours]
    low, high = outlines[0].min(axis=0), outlines[0].max(axis=0)
    shrink = min(1.0, 1.72 / (high - low).max())
    to_image, low, high = to_image * shrink, low * shrink, high * shrink
    centre = rng.uniform(-0.88 - low, 0.88 - high)
    mask: Array = np.zeros((size, size), np.uint8)
    pixels = [np.rint(((o * shrink + centre + 1) * (size / 2) - 0.5) * 256).astype(np.int32) for o in outlines]
    cv2.fillPoly(mask, pixels, 255, cv2.LINE_AA, shift=8)
    mask = mask.astype(np.float32) * np.float32(1 / 255)

    # Two colours of the object, brighter or darker than what lies behind it.
    behind = rng.uniform(0.15, 0.85)
    gap = rng.uniform(0.25, 0.5)
    value = behind + gap if (behind < 0.3 or (behind < 0.7 and rng.random() < 0.5)) else behind - gap
    value = float(np.clip(value, 0.06, 0.94))
    first = colour(rng, value, rng.uniform(0.4, 1.0))
    second = colour(rng, float(np.clip(value + rng.uniform(-0.16, 0.16), 0.04, 0.96)), rng.uniform(0.3, 1.0))

    from_image = np.linalg.inv(to_image)
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    tilt = rng.uniform(0, 2 * np.pi)
    basis = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]) @ from_image
    basis = basis.astype(np.float32)
    u, v = basis[0, 0] * dx + basis[0, 1] * dy, basis[1, 0] * dx + basis[1, 1] * dy
    pattern = np.clip(TEXTURES[rng.integers(len(TEXTURES))](u, v, rng), 0, 1)

    # One lamp: it rounds the object's edges, shades it from side to side, and throws its shadow.
    lamp = rng.uniform(0, 2 * np.pi)
    light = np.array([np.cos(lamp), np.sin(lamp)], np.float32)
    rounded = cv2.GaussianBlur(mask, (0, 0), max(0.8, rng.uniform(0.008, 0.02) * size))
    slope = cv2.Sobel(rounded, cv2.CV_32F, 1, 0) * light[0] + cv2.Sobel(rounded, cv2.CV_32F, 0, 1) * light[1]
    lit = 1 - slope * np.float32(rng.uniform(0.1, 0.5) * size / 64)
    lit -= (dx * light[0] + dy * light[1]) * np.float32(rng.uniform(0.0, 0.35))
    reach = rng.uniform(0.02, 0.06) * size
    shift = np.array([[1, 0, light[0] * reach], [0, 1, light[1] * reach]], np.float32)
    shaded = 1 - np.float32(rng.uniform(0.2, 0.6)) * cv2.warpAffine(rounded, shift, (size, size))
    scene = background(rng, size, behind)

    # The whole picture: uneven light, contrast, brightness, a tint, the camera's noise.
    lamp = rng.uniform(0, 2 * np.pi)
    glow = x * np.float32(np.cos(lamp)) + y * np.float32(np.sin(lamp))
    glow = 255 * (1 + np.float32(rng.uniform(0, 0.3)) * glow)
    contrast = np.float32(rng.uniform(0.75, 1.15))
    bright = 0.5 * (1 - contrast) + np.float32(rng.uniform(-0.08, 0.08))
    tint = rng.uniform(-0.03, 0.03, 3).astype(np.float32)
    strength = np.float32(rng.uniform(1, 7))
    top, left = rng.integers(0, SPARE, 2)
    image = np.empty((size, size, 3), np.uint8)
    for c in range(3):  # whole planes are several times as fast as pixels of three
        skin = ((second[c] - first[c]) * pattern + first[c]) * lit
        ground = scene[:, :, c] * shaded
        ground *= np.float32(1 / 255)
        plane = (skin - ground) * mask
        plane += ground
        plane *= contrast
        plane += bright + tint[c]
        plane *= glow
        plane += grain(size)[c, top : top + size, left : left + size] * strength
        image[:, :, c] = np.clip(plane, 0, 255, out=plane)
    return image


SPARE = 97  # by how much the noise is larger than an image


@functools.lru_cache(maxsize=2)
def grain(size: int) -> Array:
    """Unit noise, a little larger than an image, of which each image sees a window: (3, size + SPARE, size + SPARE)."""
    return np.random.default_rng(size).standard_normal((3, size + SPARE, size + SPARE), dtype=np.float32)
