"""`python -m examples.amino_acids --preset quick`: train, test, and write the results."""

from examples.amino_acids.experiment import prepare
from examples.common.command import experiment

main = experiment("amino_acids", "Which of the 20 amino acids belongs here, from the atoms around.", prepare)

if __name__ == "__main__":
    main()
