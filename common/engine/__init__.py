"""Around MONAI's trainer and evaluator.

steps: what iteration functions share.  handlers, seeds, state, stopping, schedules, averaging, progress: of a training.
caching, case_files, memory: where decoded cases are kept.  loaders: batches, over processes.  distributed: one process
or several.  export: ONNX and PT2, archive: with what belongs to them.  failures: what a run leaves out.  folders: where
an engine writes, no other does.  best_models: the best few of a training, tensor_files: how they are
written.  learner: compiled, recomputed, over
processes.  precision: bfloat16 and float16.
beside_weights: numbers fitted to a network: familiarity (is an image like the training's?), sentence_calibration (how
often is a sentence right?).  stated_findings: what a report states, learned beside its words.
"""
