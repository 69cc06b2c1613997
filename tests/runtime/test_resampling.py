import math

import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from runtime import AveragePool, GlobalMean, LowPass, NormMaxPool, Upsample
from runtime.volumes.resampling import gaussian_taps

SCIPY = {"zeros": "constant", "replicate": "nearest", "reflect": "mirror", "circular": "grid-wrap"}


@pytest.mark.parametrize("mode", SCIPY)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_low_pass_equals_scipys_gaussian_filter(mode, stride):
    layer = LowPass("2x0", stride, scale=2, padding_mode=mode).double()
    x = torch.randn(2, 2, 7, 8, 9, dtype=torch.float64)
    sigma = 0.5 * math.sqrt(3)
    expected = ndimage.gaussian_filter(x.numpy(), sigma, radius=2, mode=SCIPY[mode], axes=(2, 3, 4))
    expected = torch.from_numpy(expected)[:, :, ::stride, ::stride, ::stride]
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-13)
    rounded = layer(x.float()).double()  # the control: the rounding of float32 would be seen
    assert (rounded - expected).abs().max() > 1e-10


@pytest.mark.parametrize(("scale", "size"), [(1, 1), (1.5, 3), (2, 5), (3, 9), (4, 11)])
def test_low_pass_sizes_and_sum(scale, size):
    layer = LowPass("1x0", scale=scale)
    assert layer.kernel_size == (size,) * 3
    taps = gaussian_taps(size, layer.sigma[0])
    assert taps.sum().item() == pytest.approx(1, rel=0, abs=1e-15)
    assert torch.equal(taps, taps.flip(0))


def test_the_constant_field_stays_what_it_is_in_float64():
    x = torch.full((1, 1, 8, 8, 8), 3.0, dtype=torch.float64)
    torch.testing.assert_close(LowPass("1x0", 2, padding_mode="circular").double()(x), x[..., ::2, ::2, ::2])


@pytest.mark.parametrize(
    ("options", "size", "out"),
    [({}, 9, 5), ({}, 8, 4), ({"kernel_size": 6}, 8, 4), ({"kernel_size": 4}, 64, 32), ({"padding": 0}, 9, 3)],
)
def test_low_pass_output_size(options, size, out):
    assert LowPass("1x1", 2, **options)(torch.randn(1, 3, size, size, size)).shape[2:] == (out, out, out)


def test_low_pass_has_the_gradient_of_a_convolution():
    layer = LowPass("1x0", 2).double()
    x = torch.randn(1, 1, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    taps = torch.einsum("x,y,z->xyz", *[gaussian_taps(5, layer.sigma[0])] * 3)[None, None]
    torch.testing.assert_close(layer(x), F.conv3d(x, taps, stride=2, padding=2))


@pytest.mark.parametrize(
    "make",
    [lambda: LowPass("1x0", 2, padding=0), lambda: AveragePool("1x0", 5), lambda: NormMaxPool("1x0", 5)],
)
def test_a_volume_smaller_than_the_window_is_refused(make):
    with pytest.raises(ValueError, match=r"\(1, 1, 9, 9, 3\) is smaller than the window of 5"):
        make()(torch.randn(1, 1, 9, 9, 3))


def test_low_pass_refuses_to_reflect_more_than_there_is():
    assert LowPass("1x0", scale=2, padding_mode="reflect")(torch.randn(1, 1, 3, 3, 3)).isfinite().all()
    with pytest.raises(ValueError, match=r"\(1, 1, 2, 3, 3\) cannot be reflected by 2 voxels"):
        LowPass("1x0", scale=2, padding_mode="reflect")(torch.randn(1, 1, 2, 3, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"stride": 0}, "at least 1"), ({"scale": 0.5}, "at least 1"), ({"padding_mode": "same"}, "Choose one of zeros")],
)
def test_low_pass_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        LowPass("1x0", **options)


def test_norm_max_pool_takes_the_longest_vector():
    x = torch.randn(2, 1 + 6, 4, 4, 6)
    y = NormMaxPool("1x0 + 2x1", 2)(x)
    torch.testing.assert_close(y[:, :1], F.max_pool3d(x[:, :1], 2))
    for copy, b, i, j, k in ((0, 0, 0, 0, 0), (1, 1, 1, 1, 2), (0, 1, 0, 1, 1)):
        window = x[b, 1 + 3 * copy : 4 + 3 * copy, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2].flatten(1)
        longest = window[:, window.norm(dim=0).argmax()]
        torch.testing.assert_close(y[b, 1 + 3 * copy : 4 + 3 * copy, i, j, k], longest)


def test_norm_max_pool_sends_the_gradient_to_the_longest_vector():
    x = torch.randn(1, 3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    NormMaxPool("1x1", 2)(x).sum().backward()
    where = x.detach().flatten(2).norm(dim=1).argmax()
    assert torch.equal(x.grad.flatten(2)[0].nonzero()[:, 1].unique(), where[None])


@pytest.mark.parametrize("keep_corners", [False, True])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_upsample_equals_torchs(factor, keep_corners):
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    size = [factor * (n - 1) + 1 if keep_corners else factor * n for n in x.shape[2:]]
    expected = F.interpolate(x, size, mode="trilinear", align_corners=keep_corners)
    torch.testing.assert_close(Upsample("1x1", factor, keep_corners=keep_corners)(x), expected)


def test_upsample_keeps_the_centre():
    ramp = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(1, 1, 5, 5, 5)
    assert torch.equal(Upsample("1x0", keep_corners=True)(ramp)[0, 0, :, 0, 0], torch.arange(9) / 2)
    middle = Upsample("1x0")(ramp)[0, 0, :, 0, 0]
    torch.testing.assert_close(middle[1:-1], torch.arange(8) / 2 + 0.25)


def test_global_mean_is_the_mean_over_voxels():
    x = torch.randn(2, 3, 4, 5, 6)
    torch.testing.assert_close(GlobalMean("1x1")(x), x.mean((2, 3, 4)))


def test_layers_of_volumes_refuse_other_axes():
    with pytest.raises(ValueError, match=r"takes volumes \(batch, channel, x, y, z\).*\(2, 3, 4, 4\)"):
        GlobalMean("1x1")(torch.randn(2, 3, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "make",
    [
        lambda: AveragePool("2x0 + 1x1", 2),
        lambda: NormMaxPool("2x0 + 1x1", 2),
        lambda: GlobalMean("2x0 + 1x1"),
        lambda: Upsample("2x0 + 1x1"),
        lambda: LowPass("2x0 + 1x1", 2),
    ],
)
def test_half_precision_on_the_cpu_is_near_float32(make, dtype):
    x = torch.randn(1, 5, 4, 4, 4).to(dtype)
    y = make()(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), make()(x.float()), rtol=0.02, atol=0.02)


def test_the_longest_vector_is_found_where_half_precision_would_overflow():
    x = torch.zeros(1, 3, 2, 2, 2, dtype=torch.float16)
    x[0, :, 0, 0, 0], x[0, :, 1, 1, 1] = 300.0, 400.0  # squares are above 65504
    assert torch.equal(NormMaxPool("1x1", 2)(x).flatten(), torch.full((3,), 400.0, dtype=torch.float16))


def test_every_setting_per_axis():
    x = torch.randn(1, 1, 9, 8, 7, dtype=torch.float64)
    layer = LowPass("1x0", (2, 1, 3), kernel_size=(5, 1, 7), scale=(2, 1, 3))
    sigma = [0.5 * math.sqrt(s * s - 1) for s in (2, 1, 3)]
    expected = x.numpy()[0, 0]
    for axis, radius in ((0, 2), (2, 3)):
        expected = ndimage.gaussian_filter1d(expected, sigma[axis], axis, mode="constant", radius=radius)
    torch.testing.assert_close(layer(x)[0, 0], torch.from_numpy(expected[::2, ::1, ::3].copy()))
    window = ((2, 1, 3), (2, 1, 2), (1, 0, 1))
    ours = AveragePool("1x0", *window[:2], padding=window[2])(x)
    torch.testing.assert_close(ours, F.avg_pool3d(x, *window))
    torch.testing.assert_close(NormMaxPool("1x0", *window[:2], padding=window[2])(x), F.max_pool3d(x, *window))
    fine = Upsample("1x0", (2, 1, 3))(x)
    torch.testing.assert_close(fine, F.interpolate(x, (18, 8, 21), mode="trilinear"))


def test_voxel_spacing_blurs_to_one_resolution():
    """2 x 2 x 4 mm with stride (2, 2, 1) gives cubes of 4 mm and blurs along x and y alone."""
    spaced, by_hand = LowPass("1x0", (2, 2, 1), voxel_spacing=(2, 2, 4)), LowPass("1x0", (2, 2, 1), scale=(2, 2, 1))
    x = torch.randn(1, 1, 9, 9, 5)
    assert torch.equal(spaced(x), by_hand(x)) and spaced(x).shape[2:] == (5, 5, 5)
    assert LowPass("1x0", 2, voxel_spacing=3).scale == (2, 2, 2)
    with pytest.raises(ValueError, match="not both"):
        LowPass("1x0", 2, scale=2, voxel_spacing=1)
    with pytest.raises(ValueError, match=r"voxel_spacing takes a finite number above 0, or three"):
        LowPass("1x0", 2, voxel_spacing=(1, 1, 0))
