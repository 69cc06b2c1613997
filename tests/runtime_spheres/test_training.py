"""The training loop takes signals as it takes volumes: training, averaged weights, and resuming to the same bits."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from runtime.spheres.cobb import Cobb, CobbConfig
from runtime.spheres.cohen import Cohen, CohenConfig
from runtime.spheres.esteves import Esteves, EstevesConfig
from runtime.spheres.kondor import Kondor, KondorConfig
from runtime.spheres.molecules import neighbour_densities
from runtime.spheres.signals import power_spectrum
from runtime.train import TrainConfig, train

COBB = CobbConfig(limits=(4, 3, 1), channels=(4, 4, 8), width=3, classes=2, hidden=16, dropout=0.0)
KONDOR = KondorConfig(limit=4, layers=2, width=3, classes=2, hidden=16, dropout=0.0)
COHEN = CohenConfig((1, 3, 4), (4, 3, 2), 2)
NETWORKS = {
    "cobb": lambda compiled: Cobb(compiled(COBB.spec()), COBB),
    "kondor": lambda compiled: Kondor(compiled(KONDOR.spec()), KONDOR),
    "cohen": lambda compiled: Cohen(compiled(COHEN.spec()), COHEN),
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


def resumes(model, dataset, directory, **options):
    """Whether four epochs, and two and two more, end with the same bits; the losses are those of every epoch."""
    again = copy.deepcopy(model)
    whole = train(model, dataset, config(4), directory / "whole", **options)
    train(again, dataset, config(2), directory / "again", **options)
    resumed = train(again, dataset, config(4), directory / "again", resume=True, **options)
    assert [row["train_loss"] for row in resumed.history] == [row["train_loss"] for row in whole.history]
    states = zip(model.state_dict().items(), again.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for (_, one), other in states)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 4, 6), (1, 3, 2, 2), (2, 3, 1, 2, 2)], ids=str)
def test_samples_of_any_shape_resume(tmp_path, shape):
    """Numbers, points, samples on rings, volumes, samples on the rotation group."""

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.dropout = nn.Linear(torch.Size(shape).numel(), 2), nn.Dropout(0.2)

        def forward(self, inputs):
            return self.linear(self.dropout(inputs.reshape(len(inputs), -1)))

    labels = torch.arange(10) % 2
    noise = torch.randn(10, *shape) + labels.reshape(-1, *[1] * len(shape))
    assert resumes(Flat(), TensorDataset(noise, labels), tmp_path)


def test_samples_on_rings_resume(compiled, tmp_path):
    """A network of samples (2, ring, longitude), with batch norms and area-weighted pooling."""
    sizes = EstevesConfig(size=16, widths=(4, 4, 6, 6), pools=(1, 2), classes=2, auxiliary=False)
    samples = torch.randn(8, 2, 16, 16) + (torch.arange(8) % 2).reshape(-1, 1, 1, 1)
    assert resumes(Esteves(compiled(sizes.spec()), sizes), TensorDataset(samples, torch.arange(8) % 2), tmp_path)


def test_molecules_resume(tmp_path):
    """Inputs of two tensors, of different kinds; labels that are numbers."""

    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2 * 9, 1)

        def forward(self, positions, kinds):
            densities = neighbour_densities(positions, kinds, elements=(1, 8), limit=3, radii=(1.0,))
            return self.linear(densities.mT).sum((1, 2))

    kinds = torch.tensor([[8, 1, 1, -1], [1, 1, -1, -1]])
    data = [((torch.randn(4, 3), kinds[i % 2]), float(i)) for i in range(9)]
    options = {"forward": lambda model, inputs: model(*inputs), "loss": nn.MSELoss()}
    assert resumes(Energy(), data, tmp_path, **options)
