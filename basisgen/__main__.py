"""`python -m basisgen`: the command line, where its script is not on the path."""

from basisgen.cli import main

if __name__ == "__main__":
    main(prog_name="basisgen")
