"""Around MONAI's trainer and evaluator.

steps: what iteration functions share.  handlers, seeds, state, stopping, schedules, averaging, progress: of a training.
caching, case_files, memory: where decoded cases are kept.  loaders: batches, over processes.  distributed: one process
or several.  export: ONNX and PT2.  failures: what a run leaves out.  folders: where an engine writes, no other does.
"""
