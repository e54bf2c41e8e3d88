"""Tests that need an NVIDIA GPU. Without one they are skipped, and say why."""

import pytest

from layerforge import device
from layerforge.errors import DeviceError


def pytest_collection_modifyitems(items):
    try:
        device.get("gpu")
    except DeviceError as error:
        for item in items:
            if item.path.parent.name == "gpu":
                item.add_marker(pytest.mark.skip(reason=str(error)))


@pytest.fixture
def gpu():
    return device.get("gpu")
