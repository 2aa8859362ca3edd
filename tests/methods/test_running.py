"""Running statistics estimated anew are the plain mean of those of the training batches."""

import numpy as np
import torch
from short_federation import ENTRIES, STATISTICS, cases, setting
from torch import nn

from pflbench.sites import Client, Memory
from pflbench_methods.running import estimate_statistics


def a_client(stage="update"):
    toy = setting()
    return Client("Bern", 1, stage, cases("Bern", 5), Memory(toy.new_model()), toy)


def statistics_by_hand(model, batches):
    """Return the means over images of their batches' mean and unbiased variance of what batch-norm layers are given."""
    seen, hooks = {}, []
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            keep = seen.setdefault(path, [])
            hooks.append(module.register_forward_pre_hook(lambda _, given, keep=keep: keep.append(given[0].detach())))
    dtype = next(model.parameters()).dtype
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for images, _ in batches:
        model(images.to(dtype))
    for hook in hooks:
        hook.remove()
    model.load_state_dict(before)
    found = {}
    for path, given in seen.items():
        each = [x for x in given for _ in range(len(x))]  # its batch, for every image
        found[f"{path}.running_mean"] = torch.stack([x.mean((0, 2, 3)) for x in each]).mean(0)
        found[f"{path}.running_var"] = torch.stack([x.var((0, 2, 3)) for x in each]).mean(0)
    return found


def test_they_are_the_mean_of_those_of_the_batches_and_nothing_else_changes():
    client, twin = a_client(), a_client()
    before = {name: value.clone() for name, value in client.model.state_dict().items()}
    estimate_statistics(client, client.model)
    after = client.model.state_dict()
    expected = statistics_by_hand(setting().new_model().double(), list(twin.batches(1)))
    assert set(expected) == STATISTICS
    for name in ENTRIES:
        if name in STATISTICS:
            np.testing.assert_allclose(after[name].double(), expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            assert torch.equal(after[name], before[name])
    assert client.gradients == 0


def test_what_they_were_before_does_not_matter_and_training_goes_on_as_ever():
    one, other = a_client(), a_client()
    for name in STATISTICS:
        other.model.get_buffer(name).fill_(7)
    for client in (one, other):
        estimate_statistics(client, client.model)
    assert all(torch.equal(one.model.get_buffer(n), other.model.get_buffer(n)) for n in STATISTICS)
    assert {m.momentum for m in one.model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert one.model.training
