"""Who is to blame: one exception class per kind of failure.

    SpecError       the caller's: a spec, field type or option that cannot be compiled        exit 2
    SamplingError   the caller's: a grid on which the wanted filters do not exist             exit 2
    OutputError     the caller's or the machine's: the package cannot be written              exit 2
    EffortError     the caller's: a check that takes long was not asked for                   exit 2
    MachineError    the machine's: memory ran out, a process was killed                       exit 2
    StaleError      a package on disk is not what the compiler writes (`compile --check`)     exit 1
    ProofError      ours: the solver's answer did not pass the exact proof                    exit 1

Messages quote the offending value, name the rule and show the cure.
"""


def printable(text: str, keep: str = "") -> str:
    """Text for a terminal: line feeds and other characters that are not printable are escaped, except for `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


class BasisgenError(Exception):
    """Any failure basisgen explains, on one line; `exit_code` is what the command line returns for it."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class SpecError(BasisgenError):
    """The caller asked for something that cannot be compiled."""

    exit_code = 2


class SamplingError(BasisgenError):
    """The grid cannot hold the filters the caller asked for."""

    exit_code = 2


class OutputError(BasisgenError):
    """The package could not be written; what was there before is unchanged."""

    exit_code = 2


class EffortError(BasisgenError):
    """A check would take longer than it may unasked. Nothing has been found, neither good nor bad."""

    exit_code = 2


class MachineError(BasisgenError):
    """The machine could not do what was asked: memory ran out, or a process was killed."""

    exit_code = 2


class StaleError(BasisgenError):
    """The package on disk differs from what the compiler writes."""


class ProofError(BasisgenError):
    """The solver's answer is wrong: a bug of ours, never the caller's."""
