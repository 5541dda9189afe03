"""Around MONAI's trainer and evaluator.

steps: what iteration functions share.  handlers, state, schedules, averaging, progress: of a training.
loaders: batches, over processes.  distributed: one process or several.  export: ONNX and PT2.
failures: what a run leaves out.  folders: where an engine writes, no other does.
"""
