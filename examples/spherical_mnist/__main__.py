"""`python -m examples.spherical_mnist --preset quick`: train, test, and write the results."""

from examples.common.command import experiment
from examples.spherical_mnist.experiment import prepare

main = experiment(
    "spherical_mnist",
    "Digits on the sphere: trained and tested as they are (NR) and in random orientations (R).",
    prepare,
    presets=("quick", "full", "tiny"),
)

if __name__ == "__main__":
    main()
