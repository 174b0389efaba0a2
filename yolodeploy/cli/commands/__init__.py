"""One command, one file, by the name of which it is called: `HELP`, `run(options, console) -> exit code`, and `add_options` if it has any.

All of them are imported for `--help`, so what a command needs is imported when it runs.
"""

COMMANDS = (  # in the order in which people come to need them
    "init",
    "check",
    "plan",
    "build",
    "deploy",
    "results.report",
    "results.compare",
    "results.inspect",
    "results.verify",
    "measure",
    "tuning.sensitivity",
    "tuning.search",
    "reproduce",
    "listings.backends",
    "listings.devices",
    "listings.hosts",
    "upkeep.doctor",
    "upkeep.cache",
    "upkeep.schema",
    "upkeep.completion",
)
