"""One command, one file: `HELP`, `run(options, console) -> exit code`, and `add_options` if it has any.

All of them are imported for `--help`, so what a command needs is imported when it runs.
"""

COMMANDS = (
    "check",
    "plan",
    "build",
    "deploy",
    "measure",
    "sensitivity",
    "backends",
    "devices",
    "inspect",
    "doctor",
    "hosts",
    "verify",
    "reproduce",
    "schema",
    "cache",
)
