"""The training loop takes signals as it takes volumes: training, averaged weights, and resuming to the same bits."""

import copy

import pytest
import torch
from torch.utils.data import TensorDataset

from runtime.spheres.cobb import Cobb, CobbConfig
from runtime.spheres.cohen import Cohen, CohenConfig
from runtime.spheres.kondor import Kondor, KondorConfig
from runtime.spheres.signals import power_spectrum
from runtime.train import TrainConfig, train

COBB = CobbConfig(limits=(4, 3, 1), channels=(4, 4, 8), width=3, classes=2, hidden=16, dropout=0.0)
KONDOR = KondorConfig(limit=4, layers=2, width=3, classes=2, hidden=16, dropout=0.0)
NETWORKS = {
    "cobb": lambda compiled: Cobb(compiled(COBB.spec()), COBB),
    "kondor": lambda compiled: Kondor(compiled(KONDOR.spec()), KONDOR),
    "cohen": lambda compiled: Cohen(CohenConfig((1, 3, 4), (4, 3, 2), 2)),
}


def data():
    """Signals whose power lies in degree 2, or in degree 3."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 2
    signals = 0.3 * torch.randn(24, 16, generator=generator)
    signals[labels == 0, 4:9] *= 6
    signals[labels == 1, 9:] *= 6
    assert (power_spectrum(signals)[:, 2] > power_spectrum(signals)[:, 3]).eq(labels == 0).all()
    return TensorDataset(signals, labels)


def config(epochs):
    return TrainConfig(
        epochs=epochs, batch_size=8, learning_rate=0.01, ema_decay=0.5, device="cpu", tensorboard=False, seed=0
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_training_resumes_to_the_same_bits_and_learns(compiled, tmp_path, name):
    once = NETWORKS[name](compiled)
    again = copy.deepcopy(once)
    result = train(once, data(), config(8), tmp_path / "once")
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    train(again, data(), config(4), tmp_path / "again")
    train(again, data(), config(8), tmp_path / "again", resume=True)
    for key, value in once.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
