"""The presets of `basisgen new`: name -> what the project is about, in words."""

PRESETS = {
    "tetris": "eight shapes, two of them mirror images, learnt in one orientation and recognised in all",
    "segmentation": "a U-Net that finds vessels in any direction after training on vessels in one",
    "classification": "point clouds as densities, learnt upright and told apart in any orientation",
    "volumes": "scans of two classes, one of them rare, from NIfTI or npz files, learnt upright and told apart in any "
    "orientation",
    "sphere": "constellations on the sphere, learnt upright and told apart in any orientation, mirror images too",
    "molecule": "energies and forces of small molecules from positions and elements, the same however they turn",
}
HELP = (
    "Start a project in a new directory NAME: spec, data, network, training and property tests. It runs as it is.\n\n"
    + "\n\n".join(f"{name}: {about}." for name, about in PRESETS.items())
    + "\n\n\b\nExample:\n  basisgen new shapes --preset tetris"
)
NETWORK = {"segmentation", "classification", "volumes"}  # those with a ready network, [network]
