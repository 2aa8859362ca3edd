"""How everybody trains, as a value; the defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pflbench.settings import Settings

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=8, multiple_of=8)]


@dataclass(frozen=True)
class Recipe(Settings):
    """Model, optimisation and protocol, the same for every method.

    Rounds, epochs, batch and learning rates are the paper's (arXiv:2603.14848, section 4.1). What it leaves
    open (loss, weight decay, optimiser state, augmentation, selection) follows its authors' public harness.
    """

    name: ClassVar[str] = "recipe"

    rounds: Count = 100
    epochs: Count = 4  # local epochs per round
    batch: Count = 4
    lr: Positive = 1e-3  # Adam's learning rate in round 1
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.99  # factor per round
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5e-4  # coupled (L2), as in torch.optim.Adam
    optimizer_state: Literal["kept", "reset"] = "kept"  # across rounds
    bce_share: Share = 0.5  # loss = bce_share x BCE + (1 - bce_share) x soft Dice per image
    augment: Literal["flips+turns", "flips", "none"] = "flips+turns"
    base_width: Count = 64  # channels of enc1
    image_height: Side = 256
    image_width: Side = 256
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2  # share of training subjects held out
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2  # share of subjects, for data without an official test set
    fixed_split: bool = False  # the same train/validation split for every seed
    threshold: Share = 0.5  # a pixel is foreground above this probability
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of training; all else is float32

    def __post_init__(self) -> None:
        """Check the fields, and that right-angle turns are asked for on square images only."""
        super().__post_init__()
        if self.augment == "flips+turns" and self.image_height != self.image_width:
            object.__setattr__(self, "augment", "flips")

    def learning_rate(self, round: int) -> float:
        """Return the learning rate of a round (1-based)."""
        return float(self.lr * self.lr_decay ** (round - 1))

    def selects_from(self, round: int) -> bool:
        """Say whether a client's best validation round may be this one: only the second half counts."""
        return round >= self.rounds / 2
