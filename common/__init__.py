"""Parts that the bundles share; a config names a part by its dotted path.

Rooms, lowest floor first; an import never climbs (tests/test_imports.py):

cli.atomic, cli.given, engine.distributed, engine.failures: what every room may use
images      files, dicom, nifti, ranges, reader, masks: from a file to pixels
text        tokenizer, encoders, distiller, sentences, thyroid: reports in and out
nn          attention, fusion, backbones, efficientnet, report_decoder, relational_memory, beam_search, published
datasets    readers of published layouts and of one table: ``read_x(root, split) -> list[dict]``; inspection
synthetic   data made on disk, to run everything without any
transforms  load, views, reports, augment: MONAI dictionary transforms
metrics     segmentation, detection, classification, text, entities, observations, reports
engine      steps, handlers, state, progress, loaders, export: around MONAI's trainer and evaluator
results     predictions, evaluation, page, drawing, findings, dicom: what a run leaves; inference, typed: in memory
cli         check, typed_text, at_start: the command line

``common.predict``: a trained bundle in a few lines of Python. Commands: ``python -m common.cli.predict BUNDLE IMAGE``,
``python -m common.cli.check DATASET_DIR``, ``python -m common.cli.compare RUN_A RUN_B``,
``python -m common.pack BUNDLE``, ``python -m common.visualize FOLDER``, ``python -m common.datasets.convert_boxes``.
"""

__version__ = "0.1.0"
