"""The command line, and what is given on it.

predict, check, compare: commands that need no config: a prediction, a data set, two evaluations.
at_start: the first import of every config.  overrides: unknown ones refused.  typed_text, typed_values: texts as they
were typed, numbers and switches of their kind.  errors: what cannot go on says so in one line.  given: files and texts
by their id.  reading: texts, tables, JSON of any origin.  atomic: written whole or not at all.  lock: one run a folder.
model_file: what belongs to a trained network.  code: whether a bundle brings this process's.  start: what each config
does first.  running: MONAI's parser.  location: the bundle's folder.  predicting: what predict does once MONAI is
imported.  completion: words that the shell offers.  verbose: what libraries say, and whether it is shown.
"""
