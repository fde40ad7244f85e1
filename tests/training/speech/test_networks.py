"""Log-mel against numpy's FFT, and networks that export as they were trained."""

import numpy as np
import onnxruntime
import pytest
import torch

from services.speech.training.model.formula import without_spectrum
from services.speech.training.model.logmel import FFT, HOP, WINDOW, LogMel, mel_matrix
from services.speech.training.model.networks import BODIES, SoundClassifier
from shared.training.export import to_onnx
from shared.training.parity import check_parity

LENGTH = 12_000


def audio(rows: int, seed: int = 0):
    return (0.1 * np.random.default_rng(seed).standard_normal((rows, LENGTH))).astype(np.float32)


def test_energies_are_those_of_the_fft():
    samples = audio(1)[0]
    front = LogMel(centre=False)
    got = front(torch.from_numpy(samples[None]))[0].numpy()
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    window = np.hanning(WINDOW + 1)[:-1]
    power = np.square(np.abs(np.fft.rfft(frames * window, FFT)))
    expected = np.log(power @ mel_matrix(40, 60.0, 3_600.0).T + 1e-3).T
    assert got.shape == expected.shape == (40, 1 + (LENGTH - WINDOW) // HOP)
    assert np.abs(got - expected).max() < 1e-4


def test_bands_cover_the_spectrum_without_gaps():
    mel = mel_matrix(40, 60.0, 3_600.0)
    hz = np.arange(mel.shape[1]) * 8_000 / FFT
    inside = (hz > 100) & (hz < 3_500)
    assert (mel[:, inside].sum(axis=0) > 0).all()
    assert (mel.sum(axis=1) > 0).all()
    assert (mel >= 0).all()
    assert (mel <= 1).all()


def test_level_does_not_change_centred_energies():
    samples = torch.from_numpy(audio(2))
    front = LogMel()
    # But for bands so quiet that the floor shows.
    assert float((front(samples) - front(4 * samples)).abs().mean()) < 0.02


@pytest.mark.parametrize("body", BODIES)
def test_every_body_exports_with_any_batch(body):
    torch.manual_seed(0)
    network = SoundClassifier(body, 12, LENGTH, width=4).eval()
    example = {"audio": torch.from_numpy(audio(3))}
    graph = to_onnx(network, example, ["logits"], {"audio": {0: "batch"}})
    parity = check_parity(
        network, graph, [{"audio": audio(rows, seed=rows)} for rows in (1, 2, 5)], at_least=8
    )
    assert parity.largest < 1e-4
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    together = session.run(None, {"audio": audio(4)})[0]
    alone = session.run(None, {"audio": audio(4)[2:3]})[0]
    assert together.shape == (4, 12)
    assert np.abs(together[2] - alone[0]).max() < 1e-4


def test_the_spectrum_as_a_formula_answers_as_the_stored_one():
    torch.manual_seed(0)
    network = SoundClassifier("cnn", 12, LENGTH, width=4).eval()
    stored = to_onnx(network, {"audio": torch.from_numpy(audio(3))}, ["logits"], {"audio": {0: "batch"}})
    formula = without_spectrum(stored)
    assert len(stored) - len(formula) > 200_000
    assert formula == without_spectrum(stored)
    answers = [
        onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(
            None, {"audio": audio(4)}
        )[0]
        for graph in (stored, formula)
    ]
    assert np.abs(answers[0] - answers[1]).max() < 1e-5


def test_unknown_body():
    with pytest.raises(ValueError, match="cnn, dnn, gru"):
        SoundClassifier("lstm", 2, LENGTH)
