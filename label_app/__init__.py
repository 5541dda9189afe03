"""A MONAI Label app that serves every bundle: ``python -m label_app.serve`` starts it, ``main.py`` is the app."""
