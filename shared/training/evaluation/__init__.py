"""What a classifier is worth on items that it never saw, with how sure that is.

    metrics.py      accuracy, per class, confusion, calibration error, of labels and probabilities
    interval.py     Wilson's interval of a share, bootstrap intervals of anything, by clusters too
    paired.py       two models on the same items: McNemar's exact test, paired bootstrap
    calibration.py  the temperature that makes scores honest, reliability by bins
    slices.py       the same figures on parts of the items: domains, speakers, lengths
    baseline.py     what is compared with: majority, TF-IDF with a linear model, nearest neighbour
    plot.py         reliability and confusion as small PNG pictures

Labels are whole numbers 0 … L-1, int64 [items]; probabilities float [items, L], rows adding up to 1. No torch is needed.
"""
