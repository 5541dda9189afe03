"""Imported by the first line of every config: the command line is checked before MONAI evaluates any of its values."""

from common.cli.check import check_command_line

check_command_line()
