"""Smaller and faster forms of a model, and what each costs in quality.

    weights.py       weight_only_int8: int8 weights, float sums; a file of a quarter, answers all but equal
    calibrated.py    static_int8: int8 sums with ranges learned from calibration batches
    half.py          fp16: half the bytes, for GPUs half the time
    pruning.py       prune_magnitude (zeros, kept zero in fine-tuning), prune_channels (whole channels, really smaller)
    distillation.py  distillation_loss: a small model learns the scores of a large one
    latency.py       measure_latency: what a run of each form costs, measured in turns
    pareto.py        Point, frontier, draw_pareto: quality, latency and bytes of all forms in one picture, one chosen

Never DynamicQuantizeLinear: it takes one scale over a whole batch, so that batch-mates change an answer.
"""
