"""The benchmark tables for the tests that need them: brought once, through the command that users type."""

import os
import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner


@pytest.fixture(scope="session")
def benchmarks(tmp_path_factory):
    """All 31 sets in a cache, and how they came; `$LGDCNN_CACHE` is used (and filled) where it is set."""
    from lgdcnn.cli_datasets import datasets
    from lgdcnn.fetching import FetchError
    own = os.environ.get("LGDCNN_CACHE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LGDCNN_CACHE", own or str(tmp_path_factory.mktemp("cache")))
        start = time.perf_counter()
        result = CliRunner().invoke(datasets, ["fetch", "--all"])
        if isinstance(result.exception, FetchError) and not os.environ.get("CI"):
            pytest.skip(f"the benchmark data cannot be brought here: {result.exception}")
        assert result.exit_code == 0, result.output
        yield SimpleNamespace(seconds=time.perf_counter() - start, stdout=result.stdout, stderr=result.stderr,
                              cache=os.environ["LGDCNN_CACHE"])


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The published wheel, as pip brings it."""
    from lgdcnn.fetching import FetchError, pip_download
    try:
        return pip_download(tmp_path_factory.mktemp("wheel"))
    except FetchError as e:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the wheel cannot be brought here: {e}")
