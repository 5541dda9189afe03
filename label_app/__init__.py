"""A MONAI Label app that serves every bundle: ``python -m label_app.serve`` starts it, ``main.py`` is the app.

application: the server around MONAI Label's.  guard, limits, names, request_settings: what a request may ask for.
served_bundle: a bundle in memory; infer_task, train_task, least_certain: what is done with it; pictures: of answers.
examples: a folder of studies and bundles to try.  try_page: a page in the browser.
"""
