"""`python -m examples.modelnet10_sphere --preset quick`: sample, train, test, and write the results."""

from examples.common.command import experiment
from examples.modelnet10_sphere.experiment import prepare

main = experiment(
    "modelnet10_sphere",
    "Shapes in any orientation as signals on the sphere, recognised and retrieved.",
    prepare,
    presets=("quick", "tiny"),
)

if __name__ == "__main__":
    main()
