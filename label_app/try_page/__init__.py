"""A page to try the models by hand; ``python -m label_app.try_page`` serves it alone, MONAI Label's server at /try/."""
