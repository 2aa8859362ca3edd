"""Method: the contract of a federated method."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import nn

from pflbench.message import Inbox, Message, Outbox
from pflbench.settings import Settings

if TYPE_CHECKING:
    from pflbench.sites import Client, Server


# control: no rival, but a bound to compare with; general: one model for everybody; personalized: one for each
Family = Literal["control", "general", "personalized"]


@dataclass(frozen=True)
class TaskCard:
    """What a method may know about a task before it starts: names and numbers, no images."""

    dataset: str
    clients: Mapping[str, int]  # client -> training images; every one trains
    channels: int
    height: int
    width: int
    epochs: int  # local epochs per round
    rounds: int
    guests: tuple[str, ...] = ()  # clients that never train and are only tested
    public: int = 0  # public images without masks, which the server may use

    @property
    def selectable_rounds(self) -> int:
        """How many rounds a client's best validation round may be: the second half (``Recipe.selects_from``)."""
        return self.rounds // 2 + 1


@dataclass(frozen=True)
class Method(Settings):
    """A federated method: a frozen dataclass whose fields are its hyperparameters and nothing else.

    The prefix of a function says where it runs; what must survive lives in ``client.state``,
    ``client.model`` and ``server.state``, which the harness owns, checkpoints and counts::

        once:         client_setup  -> server_setup  -> client.briefing (read-only)
        every round:  client_update -> server_update -> client_receive
                      -> evaluation of personal_model on the client's own cases

    The class docstring says in its first sentence how the method differs from its parent.
    """

    name: ClassVar[str]  # on the command line
    title: ClassVar[str]  # in tables
    citation: ClassVar[str]  # authors, title, year, link
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = None  # of publication
    travels: ClassVar[str]  # what leaves a hospital, in words
    aliases: ClassVar[tuple[str, ...]] = ()  # other spellings of the name
    # it has one model for everybody, which also serves a hospital that never trains; subclasses do not inherit it
    newcomers: ClassVar[bool] = False
    in_paper: ClassVar[bool] = False  # one of the five methods of arXiv:2603.14848; subclasses do not inherit it
    # not federated: one client is given everybody's training data, and the others its model; not inherited
    pools_data: ClassVar[bool] = False

    def client_setup(self, client: Client) -> Message | None:
        """Before round 1, at each client: return what the server needs once."""
        return None

    def server_setup(self, server: Server, inbox: Inbox) -> Outbox:
        """Before round 1, at the server: return each client's briefing."""
        return {}

    @abstractmethod
    def client_update(self, client: Client) -> Message:
        """Every round, at each client: train, and return what is sent ({} sends nothing)."""

    @abstractmethod
    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Every round, at the server: return what each client is sent."""

    @abstractmethod
    def client_receive(self, client: Client, message: Message) -> None:
        """Every round, at each client: take in the server's message ({} where it sent none)."""

    def newcomer(self, outbox: Outbox) -> Message:
        """Return what a hospital that never trains is sent, for its ``client_receive``; asked where ``newcomers``.

        Default: what any other client is sent, since there is one model for everybody.
        """
        return next(iter(outbox.values()), {})

    def personal_model(self, client: Client) -> nn.Module:
        """Return the model that is evaluated for this client."""
        return client.model

    def policies(self) -> Mapping[str, str]:
        """Return what a reader of results must know, in words, for the report's protocol card.

        ``batch_norm``: what becomes of the parameters and of the running statistics of normalization layers.
        ``aggregation``: by what clients are weighted. ``travels``: only where a setting changes what leaves a hospital.
        """
        return {}

    def unsuitable(self, task: TaskCard) -> str | None:
        """Return a sentence where the method cannot run on a task: the combination is skipped with it."""
        return None

    def extra_gradients(self, task: TaskCard) -> Mapping[str, int]:
        """Return the per-image gradients a round takes beyond training, for the estimate of time: client -> count.

        Those taken by the server stand under the name "".
        """
        return {}
