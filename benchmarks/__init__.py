"""Scripts that print tables, each ``python -m benchmarks.NAME``.

demo, train_demo: what ``make`` shows.  release: the weights that come along.
reproduce: their figures, of figures.json.
real: real images; chest_reports: X-rays; plain: MONAI's networks beside ours; familiarity: images of other kinds.
akessfa, clip_tnseg, hfcn, sgf, d2rnet, detector: ablations; ablations: what they share.
distiller, observations, reports: texts alone.
speed, steps, latency, generation, regions, memory, scale: times and bytes; timing: what they share.
serving, screenshots: the server's answers and pictures for the documents.
"""
