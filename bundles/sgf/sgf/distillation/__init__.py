"""The knowledge distiller of SGF: run clusters the reports, page shows the topics."""
