"""FedDF (Lin et al., 2020): the mean model, trained at the server to agree with all clients' on public images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pflbench.api import Family, Inbox, Outbox, Server, TaskCard, load, pick, weighted_mean
from pflbench_methods.fedavg import FedAvg

_AT_ONCE = 8  # images of one forward pass of a teacher


@dataclass(frozen=True)
class FedDF(FedAvg):
    """FedAvg, except that the server trains the mean further on public images, to agree with all clients' models.

    No masks are needed: the mean is a student, the clients' models its teachers. On every public image it minimizes
    KL(teacher || student), where the teacher's logits are the mean of all clients'. They count equally, as in the
    original, because that is the method; the mean that the student starts from is weighted by training images. A pixel
    is a Bernoulli variable, at temperature 1, and the loss is a mean over pixels; the original sums over classes.
    Adam starts anew every round, with cosine decay to 0 as in the original, and has the recipe's weight decay. Its
    ``learning_rate`` is 1e-4: at the original's 1e-3, on two dozen public images, distillation undid what the clients
    had learnt (a seed of the simulated vessels: 63 % Dice instead of 69).

    ``steps`` is 50 of ``batch`` 4: the original takes up to 10,000 steps of 128 images and keeps the best student on a
    validation set at the server, which no hospital would give here; a fixed number that costs about half a round of
    training stands for it. The original's clipping of gradients at norm 5 is left out: Adam divides by their size.
    Public images are not augmented, so that the teachers look at each once a round.

    Batch-norm statistics: averaged first; the student is in training mode, so its running statistics move to those of
    the public images, and are sent like that. The teachers use their own and keep them.

    Lin, Kong, Stich, Jaggi: Ensemble Distillation for Robust Model Fusion in Federated Learning. NeurIPS 2020.
    https://arxiv.org/abs/2006.07242
    """

    name: ClassVar[str] = "feddf"
    title: ClassVar[str] = "FedDF"
    citation: ClassVar[str] = (
        "Lin et al.: Ensemble Distillation for Robust Model Fusion in Federated Learning. NeurIPS 2020. "
        "https://arxiv.org/abs/2006.07242"
    )
    family: ClassVar[Family] = "general"
    year: ClassVar[int | None] = 2020
    newcomers: ClassVar[bool] = True

    steps: Annotated[int, Field(ge=0)] = 50  # of the student, every round; 0 is FedAvg
    batch: Annotated[int, Field(ge=1)] = 4  # public images of a step
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4  # of the student

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Send everybody the student."""
        mean = weighted_mean(inbox, server.shares)
        student = server.new_model(mean)
        self._distil(server, student, teacher(server, inbox))
        return dict.fromkeys(inbox, pick(student.state_dict(), mean))

    def _distil(self, server: Server, student: nn.Module, logits: Tensor) -> None:
        """Train the student on random batches of the public images."""
        images, losses = server.public_images, []
        optimizer = server.optimizer(student, self.learning_rate)
        for step in range(self.steps):
            optimizer.param_groups[0]["lr"] = self.learning_rate * (1 + math.cos(math.pi * step / self.steps)) / 2
            chosen = torch.randperm(len(images), generator=server.rng)[: self.batch].to(server.device)
            with server.autocast():
                found = student(images[chosen])
            loss = bernoulli_kl(logits[chosen], found)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            server.gradients += len(chosen)
            losses.append(loss.detach())
        if losses:
            server.log["distillation_loss"] = float(torch.stack(losses).mean())

    def policies(self) -> dict[str, str]:
        """Say that the mean is trained further."""
        return {
            "batch_norm": "parameters and statistics averaged, then trained further on public images",
            "aggregation": "training images; the teachers count equally",
        }

    def unsuitable(self, task: TaskCard) -> str | None:
        """Say so where there is nothing to distil on."""
        if task.public:
            return None
        return "it needs public images at the server to distil on, and there are none; give --public SITE."

    def extra_gradients(self, task: TaskCard) -> dict[str, int]:
        """Return the student's gradients."""
        return {"": self.steps * min(self.batch, task.public)}


@torch.no_grad()
def teacher(server: Server, inbox: Inbox) -> Tensor:
    """Return the mean of all clients' logits on the public images, N x 1 x H x W, in float32."""
    images, model = server.public_images, server.new_model().eval()
    total = torch.zeros_like(images[:, :1])
    for weights in inbox.values():
        load(model, weights)
        for start in range(0, len(images), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            with server.autocast():
                logits = model(images[part])
            total[part] += logits
    return total / len(inbox)


def bernoulli_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the mean over pixels of KL(p || q), p and q being Bernoulli with these logits, in float32."""
    teacher, student = teacher.float(), student.float()
    certain = teacher.sigmoid()
    cross, entropy = (F.binary_cross_entropy_with_logits(logits, certain) for logits in (student, teacher))
    return cross - entropy
