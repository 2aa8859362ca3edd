import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Never touch the user's cache or data."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PFLBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("no-data")))
    patch.delenv("PFLBENCH_DATA", raising=False)
    yield
    patch.undo()
