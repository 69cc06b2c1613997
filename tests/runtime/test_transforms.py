"""Every layer under the transforms of torch.func and the older ones of torch.autograd, and on an empty batch."""

import copy

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap

import runtime as rt
from tests.runtime.catalog import CASES, randomized

LAYERS = [case for case in CASES if case.name.endswith(", parity")]
pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),  # of the older transforms
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),  # torch's own use in forward mode
]


def made(case):
    """The layer in float64, with the size of the smallest volume it takes, and what it draws at random the same."""
    layer = randomized(case.make()).double()
    size = case.size if "UNet" in case.name else case.size // 2 + case.size % 2
    return layer, size


def volumes(layer, batch, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, layer.in_channels, size, size, size, dtype=torch.float64, generator=generator)


def seeded(layer):
    """x -> a number, some smooth function of the output; dropout drops the same fields in every call."""

    def run(x):
        if any(isinstance(module, rt.FieldDropout) for module in layer.modules()):
            layer.eval()
        y = layer(x)
        return (y * torch.linspace(0.5, 1.5, y[:1].numel(), dtype=y.dtype).reshape(y[:1].shape)).sin().sum()

    return run


def batched_by_vmap(case):
    """torch.func.vmap of gradients for each sample, ensembles of layers, and the older Jacobian and batched
    gradients."""
    layer, size = made(case)
    run, x = seeded(layer), volumes(layer, 2, size)
    alone = torch.stack([grad(run)(sample[None])[0] for sample in x])
    torch.testing.assert_close(vmap(grad(lambda sample: run(sample[None])))(x), alone)

    if any(True for _ in layer.parameters()):
        others = [copy.deepcopy(layer), randomized(copy.deepcopy(layer))]
        parameters, buffers = stack_module_state(others)
        together = vmap(lambda p, b: functional_call(layer, (p, b), (x,)))(parameters, buffers)
        torch.testing.assert_close(together, torch.stack([other(x) for other in others]))

    t = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    directions = torch.stack([volumes(layer, 2, size, seed) for seed in (1, 2, 3)])

    def moved(t):
        return layer(x + torch.tensordot(t, directions, 1)).flatten()[:7]

    jacobian = torch.autograd.functional.jacobian(moved, t)
    torch.testing.assert_close(torch.autograd.functional.jacobian(moved, t, vectorize=True), jacobian)
    (rows,) = torch.autograd.grad(moved(t), t, torch.eye(7, dtype=torch.float64), is_grads_batched=True)
    torch.testing.assert_close(rows, jacobian)


def forward_mode(case):
    """torch.func.jvp, jacfwd and forward-mode duals, against central differences."""
    layer, size = made(case)
    run, x = seeded(layer), volumes(layer, 2, size)
    v = volumes(layer, 2, size, 1)
    _, slope = jvp(run, (x,), (v,))
    step = 1e-5
    numeric = (run(x + step * v) - run(x - step * v)) / (2 * step)
    torch.testing.assert_close(slope, numeric, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(slope, (grad(run)(x) * v).sum())
    with torch.autograd.forward_ad.dual_level():
        y = run(torch.autograd.forward_ad.make_dual(x, v))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(y).tangent, slope)
    assert all(not torch.autograd.forward_ad._is_fwd_grad_enabled() or b.isfinite().all() for b in layer.buffers())


def second_order(case):
    """torch.func.hessian and its variants, against two backward passes."""
    layer, size = made(case)
    run, x = seeded(layer), volumes(layer, 2, size)
    directions = torch.stack([volumes(layer, 2, size, seed) for seed in (1, 2, 3)])

    def moved(t):
        return run(x + torch.tensordot(t, directions, 1))

    t = torch.zeros(3, dtype=torch.float64)
    expected = torch.autograd.functional.hessian(moved, t)
    for transform in (hessian, lambda f: jacrev(jacfwd(f)), lambda f: jacrev(jacrev(f)), lambda f: jacfwd(jacfwd(f))):
        torch.testing.assert_close(transform(moved)(t), expected)


def empty_batch(case):
    """An empty batch gives an empty batch, with zero gradients; running statistics stay as they are."""
    for training in (True, False):
        layer = randomized(case.make()).train(training)
        before = copy.deepcopy(layer.state_dict())
        x = torch.randn(0, layer.in_channels, *[case.size] * 3, requires_grad=True)
        y = layer(x)
        assert y.shape == (0, *layer(torch.randn(1, *x.shape[1:])).shape[1:])
        layer.load_state_dict(before)
        y = layer(x)
        assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
        y.sum().backward()
        assert x.grad.shape == x.shape
        assert not any(parameter.grad.any() for parameter in layer.parameters())


def any_axes(case):
    """Fields with any number of trailing axes, none included, as for signals on a sphere: as on a volume of one row."""
    layer = randomized(case.make()).double().eval()
    x = torch.randn(6, layer.in_channels, dtype=torch.float64)
    if case.name.split(",")[0] in ON_VOLUMES:
        with pytest.raises(ValueError, match=r"takes volumes \(batch, channel, x, y, z\)"):
            layer(x)
        return "volumes"
    row = layer(x.T.reshape(1, -1, 6, 1, 1))  # (1, channel, voxel, 1, 1): each sample at a voxel
    if not isinstance(layer, rt.GroupNorm):  # whose means are over a sample's voxels
        torch.testing.assert_close(layer(x), row.reshape(-1, 6).T)
    for axes in ((6,), (2, 3), (1, 2, 3, 1)):
        y = layer(x.T.reshape(1, -1, *axes))
        torch.testing.assert_close(y, row.reshape(1, -1, *axes))
    layer.train()(x).sum().backward() if any(True for _ in layer.parameters()) else layer.train()(x)
    return None


ON_VOLUMES = {case.name.split(",")[0] for case in LAYERS if "Pool" in case.name or "Block" in case.name}
ON_VOLUMES |= {
    case.name.split(",")[0] for case in LAYERS if case.name.startswith(("LowPass", "Upsample", "UNet", "Glob"))
}
CAPABILITIES = {
    "vmap": batched_by_vmap,
    "jvp": forward_mode,
    "hessian": second_order,
    "batch 0": empty_batch,
    "any axes": any_axes,
}


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_layer(case, capability):
    CAPABILITIES[capability](case)
