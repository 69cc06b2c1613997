"""One HTML page about a package, for people: `basisgen report`. Start at `basisgen.commands.report.page`."""
