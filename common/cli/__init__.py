"""The command line, and what is given on it.

check: unknown overrides refused, bad input in one line.  typed_text: texts as typed.  at_start: the first import of
every config.  given: files and texts by their config id.  atomic: files and folders written whole or not at all.
"""
