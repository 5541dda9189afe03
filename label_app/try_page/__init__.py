"""A page to try the models by hand; ``python -m label_app.try_page`` serves it alone, MONAI Label's server at /try/.

__main__: that command.  router: the page's routes.  uploads: what is asked; answers, layers: what is shown.  examples.
"""
