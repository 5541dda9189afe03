"""Data made on disk, seeded, in published layouts, and read back like real data.

thyroid: images with reports (RATN).  studies: two images, one report (SGF).  chest: X-rays with boxes (COCO).
thyroid_phantom, chest_phantom: draw them.  folder: made once, whole.  examples: a tiny folder of each layout.
"""
