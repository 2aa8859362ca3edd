"""FedAvg as a bare PyTorch loop: what a careful researcher writes without any harness."""

from __future__ import annotations

import torch
from torch import Tensor

from pflbench.recipe import Recipe
from pflbench.task import Task
from pflbench.training import BCEDice
from pflbench.unet import UNet


class BareFedAvg:
    """Six models, six Adams, a loop; same model, loss, data, batches per epoch and evaluation as a trial."""

    def __init__(self, task: Task, recipe: Recipe, precision: str, channels_last: bool) -> None:
        self.task, self.recipe, self.precision = task, recipe, precision
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.loss = BCEDice(recipe.bce_share)

    def run(self, rounds: int) -> float:
        """Train and return the mean validation Dice of the last round."""
        torch.manual_seed(0)
        models = {client: UNet(3, self.recipe.base_width) for client in self.task.clients}
        first = next(iter(models.values())).state_dict()
        for model in models.values():
            model.load_state_dict(first)
        adams = {
            client: torch.optim.Adam(model.parameters(), self.recipe.lr, weight_decay=self.recipe.weight_decay)
            for client, model in models.items()
        }
        best = dict.fromkeys(models, -1.0)
        dice: dict[str, float] = {}
        for round in range(1, rounds + 1):
            for client, model in models.items():
                self.train(model, adams[client], client)
            self.average(models)
            dice = {client: self.evaluate(model, client, "val") for client, model in models.items()}
            for client, model in models.items():  # test cases at the best validation round and at the last
                improved = self.recipe.selects_from(round) and dice[client] > best[client]
                if improved or round == rounds:
                    self.evaluate(model, client, "test")
                best[client] = max(best[client], dice[client]) if improved else best[client]
        return sum(dice.values()) / len(dice)

    def train(self, model: UNet, adam: torch.optim.Adam, client: str) -> None:
        """One client's local epochs."""
        data = self.task.clients[client].training
        model.train()
        for _ in range(self.recipe.epochs):
            order = torch.randperm(len(data.images))
            for start in range(0, len(order), self.recipe.batch):
                chosen = order[start : start + self.recipe.batch]
                images, masks = self.augmented(data.images[chosen], data.masks[chosen])
                adam.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
                    logits = model(images)
                loss = self.loss(logits, masks)
                loss.backward()
                adam.step()

    def augmented(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Flip and turn a batch as a whole."""
        both = torch.cat([images, masks], dim=1)
        for axis in (2, 3):
            if torch.rand(()) < 0.5:
                both = both.flip(axis)
        if torch.rand(()) < 0.5:
            both = both.rot90(1, (2, 3))
        pixels = both[:, :-1].to(torch.float32, memory_format=self.format).div(255)
        return pixels.contiguous(memory_format=self.format), both[:, -1:].float()

    @torch.no_grad()
    def average(self, models: dict[str, UNet]) -> None:
        """Average the state with the shares of the training images."""
        total = sum(self.task.card.clients.values())
        states = {client: model.state_dict() for client, model in models.items()}
        for name, first in next(iter(states.values())).items():
            if first.is_floating_point():
                mean = sum(states[c][name] * (n / total) for c, n in self.task.card.clients.items())
                for state in states.values():
                    state[name].copy_(mean)

    @torch.no_grad()
    def evaluate(self, model: UNet, client: str, split: str) -> float:
        """Return the mean Dice of the cases of a split."""
        data = self.task.clients[client].held_out[split]
        model.eval()
        images = data.images.to(torch.float32, memory_format=self.format).div(255)
        found, masks = model(images).sigmoid() > 0.5, data.masks.bool()
        overlap = (found & masks).flatten(1).sum(1)
        return float((2 * overlap / (found.flatten(1).sum(1) + masks.flatten(1).sum(1)).clamp(min=1)).mean())
