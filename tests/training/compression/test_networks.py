"""Networks with fewer weights and those that learn from others."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from shared.training.compression.distillation import distillation_loss
from shared.training.compression.pruning import prune_channels, prune_magnitude
from shared.training.export import to_onnx
from tests.training.export.networks import CASES, make


def test_the_smallest_weights_of_all_layers_go() -> None:
    network = make(CASES["attention"])
    before = {name: value.clone() for name, value in network.named_parameters()}
    masks = prune_magnitude(network, 0.6)
    assert masks.share == pytest.approx(0.6, abs=1e-3)
    gone, stay = [], []
    for name, value in network.named_parameters():
        if value.dim() < 2:
            assert torch.equal(value, before[name])
            continue
        zero = value == 0
        assert torch.equal(value[~zero], before[name][~zero])
        gone.append(before[name][zero].abs())
        stay.append(value[~zero].abs())
    assert torch.cat(gone).max() <= torch.cat(stay).min()


def test_what_is_gone_stays_gone_in_fine_tuning() -> None:
    network = make(CASES["pictures"]).train()
    masks = prune_magnitude(network, 0.5)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        optimizer.zero_grad()
        network(**CASES["pictures"].draw(8, 0, generator)).square().mean().backward()
        optimizer.step()
        masks.apply(network)
    zeros = sum(int((value == 0).sum()) for value in network.parameters() if value.dim() >= 2)
    total = sum(value.numel() for value in network.parameters() if value.dim() >= 2)
    assert zeros / total == pytest.approx(0.5, abs=1e-2)


def test_parameters_that_are_named_are_kept() -> None:
    network = make(CASES["grams"])
    prune_magnitude(network, 0.9, keep=["last.weight"])
    assert (network.last.weight != 0).all()
    with pytest.raises(ValueError, match="expected a layer with weights"):
        prune_magnitude(nn.LayerNorm(4), 0.5)
    with pytest.raises(ValueError, match="expected 0 <= share < 1"):
        prune_magnitude(network, 1.0)


def make_chain() -> nn.Sequential:
    torch.manual_seed(0)
    chain = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5)
    )  # fmt: skip
    chain(torch.rand(32, 1, 8, 8))  # the norm's statistics
    return chain.eval()


def test_channels_that_do_nothing_can_go_without_changing_an_answer() -> None:
    chain = make_chain()
    with torch.no_grad():
        for dead in (1, 5):
            chain[0].weight[dead] = 0
            chain[0].bias[dead] = 0
            chain[1].bias[dead] = -1.0
            chain[1].running_mean[dead] = 0
        chain[3].weight[2] = 0
        chain[3].bias[2] = 0
    pictures = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        before = chain(pictures)
        kept = prune_channels(chain[0], 2 / 8, norms=[chain[1]], consumers=[chain[3]])
        assert kept.tolist() == [0, 2, 3, 4, 6, 7]
        assert prune_channels(chain[3], 1 / 6, consumers=[chain[6]]).tolist() == [0, 1, 3, 4, 5]
        assert torch.allclose(chain(pictures), before, atol=1e-6)
    assert chain[0].weight.shape[0] == chain[0].out_channels == chain[3].in_channels == 6
    assert chain[6].in_features == chain[6].weight.shape[1] == 5 * 16


def test_a_pruned_network_still_trains_and_exports() -> None:
    chain = make_chain()
    prune_channels(chain[0], 0.5, norms=[chain[1]], consumers=[chain[3]])
    chain.train()(torch.rand(4, 1, 8, 8)).sum().backward()
    assert chain[0].weight.grad is not None
    assert len(to_onnx(chain, {"input": torch.rand(3, 1, 8, 8)}, ["logits"])) > 0


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="a layer of one group that reads 8 channels"):
        prune_channels(nn.Conv2d(1, 8, 3), 0.5, consumers=[nn.Conv2d(9, 4, 3)])
    with pytest.raises(TypeError, match="expected batch norms, got LayerNorm"):
        prune_channels(nn.Linear(3, 8), 0.5, norms=[nn.LayerNorm(8)])


def test_at_least_one_channel_stays() -> None:
    assert len(prune_channels(nn.Linear(3, 4), 0.99)) == 1


def test_the_loss_is_least_where_the_student_answers_as_the_teacher() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(6, 4)
    same = distillation_loss(teacher.clone(), teacher, temperature=3.0)
    assert same.item() == pytest.approx(0.0, abs=1e-5)
    assert distillation_loss(torch.randn(6, 4), teacher).item() > 0.1


def test_it_is_the_divergence_that_torch_computes() -> None:
    torch.manual_seed(0)
    student, teacher, truth = torch.randn(6, 4), torch.randn(6, 4), torch.randint(0, 4, (6,))
    hot = 2.0
    divergence = functional.kl_div(
        (student / hot).log_softmax(1), (teacher / hot).softmax(1), reduction="batchmean"
    )
    expected = 0.7 * hot**2 * divergence + 0.3 * functional.cross_entropy(student, truth)
    found = distillation_loss(student, teacher, truth, temperature=hot, reduction="mean")
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    summed = distillation_loss(student, teacher, truth, temperature=hot)
    assert summed.item() == pytest.approx(6 * expected.item(), rel=1e-5)
    assert distillation_loss(student, teacher, truth, reduction="none").shape == (6,)


def test_a_student_learns_a_teacher_without_labels() -> None:
    torch.manual_seed(0)
    teacher, student = nn.Linear(8, 3), nn.Linear(8, 3)
    inputs = torch.randn(512, 8)
    goal = teacher(inputs).detach()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        distillation_loss(student(inputs), goal, reduction="mean").backward()
        optimizer.step()
    assert (student(inputs).argmax(1) == goal.argmax(1)).float().mean() > 0.97
    assert teacher.weight.grad is None
