"""D2R-Net's report network: image, lesion regions, alignment with the report.

network; visual, channel_prior, regions: the image; alignment: the loss; data, boxes; steps; metrics; predictions;
lesion_names: lesions that a report names; agreement: with the boxes; published: names of published weights; export.
"""
