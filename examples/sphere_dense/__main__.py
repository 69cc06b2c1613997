"""`python -m examples.sphere_dense --preset quick`: train, test, and write the results and the picture."""

from examples.common.command import experiment
from examples.sphere_dense.experiment import prepare

main = experiment(
    "sphere_dense",
    "Noisy maps on the sphere with land where nothing is observed, restored at every pixel.",
    prepare,
    presets=("quick", "tiny"),
)

if __name__ == "__main__":
    main()
