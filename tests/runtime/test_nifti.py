"""Scans in NIfTI files: what lies where in space is kept, and what would train a network on nonsense is an error."""

import itertools

import nibabel
import numpy as np
import pytest
import torch

from runtime.volumes.nifti import Scans, read_nifti, resample

RAS = np.diag([1.0, 1, 3, 1])


def write(path, values, affine=RAS, zooms=None):
    image = nibabel.Nifti1Image(np.asarray(values, np.float32), affine)
    if zooms is not None:
        image.header.set_zooms(zooms)
    nibabel.save(image, path)


@pytest.fixture
def nodule():
    """A scan whose bright voxels are the label's class 1."""
    label = np.zeros((12, 10, 6), np.float32)
    label[1:4, 1:3, :2] = 1
    return label * 50 + np.random.default_rng(0).standard_normal(label.shape).astype(np.float32), label


def test_a_pair_is_read(tmp_path, nodule):
    write(tmp_path / "a.nii.gz", nodule[0])
    write(tmp_path / "a_seg.nii.gz", nodule[1])
    data = Scans(tmp_path)
    volume, label = data[0]
    assert len(data) == 1 and data.voxel_spacing == (1, 1, 3)
    assert volume.shape == (1, 12, 10, 6) and volume.dtype == torch.float32 and label.dtype == torch.int64
    assert volume.mean().abs() < 1e-5 and volume.std() == pytest.approx(1, rel=1e-2)
    assert volume[0][label == 1].mean() > 3 and torch.equal(label, torch.from_numpy(nodule[1]).long())


@pytest.mark.parametrize("flips", list(itertools.product((1, -1), repeat=3)))
def test_every_orientation_gives_the_same_volume(tmp_path, nodule, flips):
    """The array flipped and transposed, the affine with it: the same place in space."""
    write(tmp_path / "a.nii", nodule[0])
    affine = RAS @ np.diag([*flips, 1.0])
    affine[:3, 3] = [(n - 1) * s if f < 0 else 0 for n, s, f in zip(nodule[0].shape, (1, 1, 3), flips, strict=True)]
    flipped = nodule[0][tuple(slice(None, None, f) for f in flips)]
    write(tmp_path / "b.nii", flipped.transpose(2, 0, 1), affine[:, [2, 0, 1, 3]])
    a, b = read_nifti(tmp_path / "a.nii"), read_nifti(tmp_path / "b.nii")
    assert torch.equal(a.values, b.values) and torch.equal(a.affine, b.affine) and a.spacing == b.spacing == (1, 1, 3)


def test_the_spacing_comes_from_the_affine_not_from_the_header(tmp_path, nodule):
    for name, values in (("a", nodule[0]), ("a_seg", nodule[1])):
        write(tmp_path / f"{name}.nii.gz", values, np.diag([0.7, 0.7, 2.5, 1]), zooms=(1, 1, 1))
    assert Scans(tmp_path).voxel_spacing == pytest.approx((0.7, 0.7, 2.5))


def test_an_oblique_scan_keeps_its_spacing_and_a_sheared_one_is_refused(tmp_path, nodule):
    turn = np.eye(4)
    turn[:2, :2] = [[0.9, -(0.19**0.5)], [0.19**0.5, 0.9]]
    write(tmp_path / "a.nii", nodule[0], turn @ RAS)
    assert read_nifti(tmp_path / "a.nii").spacing == pytest.approx((1, 1, 3))
    shear = RAS.copy()
    shear[0, 1] = 0.3
    write(tmp_path / "b.nii", nodule[0], shear)
    with pytest.raises(ValueError, match=r"b.nii: the axes of the voxels are not orthogonal"):
        read_nifti(tmp_path / "b.nii")


def bad_label(tmp_path, nodule, values, affine=RAS):
    write(tmp_path / "a.nii.gz", nodule[0])
    write(tmp_path / "a_seg.nii.gz", values, affine)
    return Scans(tmp_path)


def test_labels_of_another_place_shape_or_kind_are_errors(tmp_path, nodule):
    moved = RAS.copy()
    moved[0, 3] = 0.6
    for affine in (moved, np.diag([1.0, 1, 3.1, 1]), np.diag([-1.0, -1, 3, 1])):
        with pytest.raises(ValueError, match=r"a_seg.nii.gz lies elsewhere than its scan.*mm apart"):
            bad_label(tmp_path, nodule, nodule[1], affine)[0]
    with pytest.raises(ValueError, match=r"a_seg.nii.gz has shape \(12, 10, 5\), its scan \(12, 10, 6\)"):
        bad_label(tmp_path, nodule, nodule[1][..., :5])[0]
    for wrong in (0.5, -1.0):
        with pytest.raises(ValueError, match=rf"not classes 0, 1, 2, .., for example {wrong}"):
            bad_label(tmp_path, nodule, np.where(nodule[1] > 0, wrong, 0))[0]
    nearly = RAS + 1e-6  # rounding of headers is no other place
    assert bad_label(tmp_path, nodule, nodule[1], nearly)[0][1].sum() == 12


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_counted(tmp_path, nodule, value):
    values = nodule[0].copy()
    values[0, 0, :2] = value
    write(tmp_path / "a.nii", values)
    with pytest.raises(ValueError, match=r"a.nii has 2 voxels that are not finite"):
        read_nifti(tmp_path / "a.nii")


def test_a_fourth_axis_is_named_and_one_of_size_one_is_none(tmp_path, nodule):
    write(tmp_path / "a.nii", np.stack([nodule[0]] * 2, -1))
    with pytest.raises(ValueError, match=r"a.nii has shape \(12, 10, 6, 2\), not three axes"):
        read_nifti(tmp_path / "a.nii")
    write(tmp_path / "b.nii", nodule[0][..., None])
    assert read_nifti(tmp_path / "b.nii").values.shape == (12, 10, 6)


def test_directories_without_scans_or_labels_are_errors(tmp_path, nodule):
    with pytest.raises(ValueError, match="has no scan"):
        Scans(tmp_path)
    with pytest.raises(ValueError, match=r"nowhere is not there. Scans takes the directory"):
        Scans(tmp_path / "nowhere")
    write(tmp_path / "a.nii.gz", nodule[0])
    with pytest.raises(ValueError, match=r"a.nii.gz is a file. Scans takes the directory"):
        Scans(tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=r"1 of 1 scans have no label, the first is .*a_seg.nii.gz"):
        Scans(tmp_path)


@pytest.mark.parametrize("kind", ["<f8", ">f8", "<f4", "<i2", "u1"])
@pytest.mark.parametrize("flips", [(-1, 1, 1), (-1, -1, 1)])
def test_every_type_of_numbers_is_read_from_flipped_axes(tmp_path, nodule, kind, flips):
    """float64 is what nibabel's `get_fdata` gives; it needs no conversion, and so no copy."""
    values = np.abs(nodule[0]).round().astype(kind)
    nibabel.save(nibabel.Nifti1Image(values, RAS @ np.diag([*flips, 1])), tmp_path / "a.nii")
    unflipped = values[tuple(slice(None, None, f) for f in flips)].astype(np.float64)
    assert torch.equal(read_nifti(tmp_path / "a.nii").values, torch.from_numpy(unflipped.copy()))


def test_what_is_no_scan_of_real_numbers_is_said(tmp_path):
    colours = np.zeros((3, 4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name, values, message in (
        ("complex", np.ones((3, 4, 5), np.complex64), "complex numbers"),
        ("colours", colours, "such as colours"),
        ("none", np.ones((3, 0, 5), np.float32), r"\(3, 0, 5\): no voxels"),
        ("slice", np.ones((3, 4), np.float32), r"\(3, 4\), not three axes. A slice is no volume"),
    ):
        nibabel.save(nibabel.Nifti1Image(values, RAS), tmp_path / f"{name}.nii")
        with pytest.raises(ValueError, match=rf"{name}.nii .*{message}"):
            read_nifti(tmp_path / f"{name}.nii")
    nibabel.save(nibabel.AnalyzeImage(np.ones((3, 4, 5), np.float32), RAS), tmp_path / "old.img")
    with pytest.raises(ValueError, match=r"old.img .*does not say which side is left"):
        read_nifti(tmp_path / "old.img")
    axes = (nibabel.cifti2.SeriesAxis(0, 1, 2), nibabel.cifti2.ScalarAxis(["a", "b"]))
    nibabel.save(nibabel.Cifti2Image(np.ones((2, 2), np.float32), header=axes), tmp_path / "table.dscalar.nii")
    with pytest.raises(ValueError, match=r"table.dscalar.nii .*Cifti2Image, not an image of voxels"):
        read_nifti(tmp_path / "table.dscalar.nii")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x1f\x8b" + b"\0" * 20])
def test_files_that_are_not_scans_are_named(tmp_path, nodule, content):
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.nii.gz cannot be read as NIfTI"):
        read_nifti(tmp_path / "a.nii.gz")
    write(tmp_path / "a_seg.nii.gz", nodule[1])
    with pytest.raises(ValueError, match=r"a.nii.gz cannot be read as NIfTI"):
        Scans(tmp_path)


def test_a_truncated_scan_is_named(tmp_path, nodule):
    write(tmp_path / "a.nii.gz", nodule[0])
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a.nii.gz cannot be read as NIfTI"):
        read_nifti(tmp_path / "a.nii.gz")


def test_scans_of_two_spacings_are_an_error_with_the_cure_which_works(tmp_path, nodule):
    for name, affine in (("a", RAS), ("b", np.diag([1.0, 1, 2, 1]))):
        write(tmp_path / f"{name}.nii", nodule[0], affine)
        write(tmp_path / f"{name}_seg.nii", nodule[1], affine)
    with pytest.raises(
        ValueError, match=r"a.nii has voxels of 1 x 1 x 3 mm, b.nii of 1 x 1 x 2.*voxel_spacing=\(1, 1, 3\)"
    ):
        Scans(tmp_path)
    data = Scans(tmp_path, voxel_spacing=(1, 1, 1.5))
    assert [tuple(data[i][0].shape) for i in range(2)] == [(1, 12, 10, 12), (1, 12, 10, 8)]
    volume, label = data[0]
    assert data.voxel_spacing == (1, 1, 1.5) and set(label.unique().tolist()) == {0, 1}
    assert volume[0][label == 1].mean() > 2


def test_resampling_keeps_places():
    """A ramp in mm is the same ramp on any grid about the same centre."""
    old, new = (1.0, 2.0, 3.0), (0.5, 3.0, 2.0)
    axis = [(torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * s for n, s in zip((8, 9, 6), old, strict=True)]
    ramp = axis[0][:, None, None] + 10 * axis[1][:, None] + 100 * axis[2]
    found = resample(ramp, old, new)
    assert found.shape == (16, 6, 9)
    axis = [(torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * s for n, s in zip(found.shape, new, strict=True)]
    expected = axis[0][:, None, None] + 10 * axis[1][:, None] + 100 * axis[2]
    inside = (slice(1, -1), slice(2, -2), slice(1, -1))
    torch.testing.assert_close(found[inside], expected[inside])
    labels = (ramp > 0).long()
    assert resample(labels, old, new, labels=True).unique().tolist() == [0, 1]
    torch.testing.assert_close(resample(ramp, old, old), ramp)
