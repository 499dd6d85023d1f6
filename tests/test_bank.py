import numpy as np
import pytest
from torch import nn

from prevmatch.bank import PreviousModels


def network(value=0.0):
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    nn.init.constant_(net[0].weight, value)
    return net


def pushed_values(bank):
    return [model["0.weight"][0, 0].item() for model in bank.state_dict()["models"]]


def test_oldest_version_leaves_a_full_bank():
    bank = PreviousModels(3)
    for value in range(5):
        bank.push(network(value))
    assert len(bank) == 3
    assert pushed_values(bank) == [2, 3, 4]


def test_members_hold_parameters_and_buffers_and_do_not_follow_the_network():
    bank, net = PreviousModels(2), network(1.0)
    bank.push(net)
    nn.init.constant_(net[0].weight, 9.0)
    net[1].running_mean.fill_(9.0)
    [(_, member)] = bank.draw(3)
    assert set(member) == set(net.state_dict())
    assert member["0.weight"].unique().item() == 1
    assert member["1.running_mean"].unique().item() == 0
    assert not any(tensor.requires_grad for tensor in member.values())


def test_draws_have_one_to_k_different_members_with_weights_that_sum_to_one():
    bank = PreviousModels(8)
    for value in range(8):
        bank.push(network(value))
    sizes, firsts = [], []
    for _ in range(900):
        drawn = bank.draw(3)
        names = [member["0.weight"][0, 0].item() for _, member in drawn]
        assert len(set(names)) == len(names)
        assert sum(weight for weight, _ in drawn) == pytest.approx(1)
        sizes.append(len(drawn))
        firsts.append(names[0])
        if len(drawn) == 2:
            firsts.append(names[1])
    assert np.bincount(sizes, minlength=4)[1:] / 900 == pytest.approx([1 / 3] * 3, abs=0.06)
    assert np.bincount(np.array(firsts, dtype=int)) / len(firsts) == pytest.approx([1 / 8] * 8, abs=0.04)


def test_weights_are_a_flat_dirichlet():
    bank = PreviousModels(2)
    bank.push(network())
    bank.push(network())
    first = np.array([bank.draw(2, random_size=False)[0][0] for _ in range(2000)])
    np.testing.assert_allclose(np.quantile(first, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.04)


def test_draw_is_capped_by_what_the_bank_holds():
    bank = PreviousModels(8)
    bank.push(network())
    assert len(bank.draw(3, random_size=False)) == 1


def test_equal_seeds_draw_alike_and_a_restored_bank_goes_on_where_it_was():
    banks = [PreviousModels(4, seed=3) for _ in range(2)]
    for bank in banks:
        for value in range(4):
            bank.push(network(value))

    def draws(bank):
        return [[(w, m["0.weight"][0, 0].item()) for w, m in bank.draw(3)] for _ in range(5)]

    assert draws(banks[0]) == draws(banks[1])
    restored = PreviousModels(4, seed=99)
    restored.load_state_dict(banks[0].state_dict())
    assert draws(restored) == draws(banks[1])
