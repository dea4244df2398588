"What the tests share: the repository root, a small fitted model, the set's formulas."
from pathlib import Path

import pytest
import torch

torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def embedded():
    from lgdcnn import load_dataset
    return load_dataset("exp_formation_enthalpy")


@pytest.fixture(scope="session")
def small_config():
    from lgdcnn.config import MODELS
    return MODELS["l-g-dcnn"].replace(d_model=32, conv_width=32)


@pytest.fixture(scope="session")
def fitted(embedded, small_config):
    "A narrow L-G-DCNN, trained for two epochs: good enough for identities, not for accuracy."
    from lgdcnn import LGDCNNRegressor
    formulas, y = (a[:300] for a in embedded.part("train"))
    return LGDCNNRegressor(small_config, epochs=2, verbose=False).fit(formulas, y, validation=0.2)


@pytest.fixture(autouse=True)
def registries_stay_as_they_are():
    "Put networks and protocols back after a test, or a notebook, that made them small."
    from lgdcnn.config import MODELS, PROTOCOLS
    kept = dict(MODELS), dict(PROTOCOLS)
    yield
    for registry, before in zip((MODELS, PROTOCOLS), kept, strict=True):
        if registry != before:
            registry.clear()
            registry.update(before)
