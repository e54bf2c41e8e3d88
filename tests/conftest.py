"""No test touches the user's files: what LayerForge draws is kept in a folder of the test run."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERFORGE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield
