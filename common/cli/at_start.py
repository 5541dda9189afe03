"""Imported by the first line of every config: the command line is checked before MONAI evaluates any of its values."""

from common.cli.overrides import check_command_line

try:
    check_command_line()
except (ValueError, OSError) as error:  # MONAI takes an import that fails for an optional one
    raise SystemExit(f"{type(error).__name__}: {error}") from error
