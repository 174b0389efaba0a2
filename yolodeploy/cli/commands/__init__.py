"""One command, one file, by the name of which it is called: `HELP`, `run(options, console) -> exit code`, and `add_options` if it has any.

All of them are imported for `--help`, so what a command needs is imported when it runs.
"""

COMMANDS = (
    "init",
    "check",
    "plan",
    "build",
    "deploy",
    "measure",
    "tuning.sensitivity",
    "tuning.search",
    "listings.backends",
    "listings.devices",
    "results.report",
    "results.inspect",
    "upkeep.doctor",
    "listings.hosts",
    "results.compare",
    "results.verify",
    "reproduce",
    "upkeep.schema",
    "upkeep.cache",
    "upkeep.completion",
)
