"""MONAI dictionary transforms: load images, views of a study, reports to ids, augment."""
