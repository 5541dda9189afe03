"""SGF: ultrasound reports guided by the clusters of the training reports.

network: the network. published: weights under the published names.
"""
