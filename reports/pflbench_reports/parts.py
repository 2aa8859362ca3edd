"""The parts of a section, each made from one comparison group; a part without content is no part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pflbench.metrics import METRICS
from pflbench_reports import protocol
from pflbench_reports.blocks import Block, Cards, Code, Drawing, FactSheet, Fold, Grid, Part, Prose
from pflbench_reports.certainty import differences
from pflbench_reports.client_detail import client_tables
from pflbench_reports.cost import cost, hardware
from pflbench_reports.display import cost_table, dice_table, gain_table, status_table
from pflbench_reports.gallery import Gallery, gallery
from pflbench_reports.groups import Group
from pflbench_reports.paragraph import paragraphs
from pflbench_reports.protocol_card import card
from pflbench_reports.rank_diagram import no_diagram, rank_diagram
from pflbench_reports.tables import comparable, local_of, main_metric, other_metrics, seed_scores, summary
from pflbench_reports.text import listed

_READING = (
    "Client columns: mean ± standard deviation over seeds (population, ddof=0; one seed has none).",
    "“Average”: unweighted mean over clients ± population standard deviation between clients, as in the pFL-ResFIM "
    "paper; it shows how unequal the hospitals are, not how sure the number is.",
    "“± over seeds”: population standard deviation over seeds of the average over clients.",
    "Bold: best mean of the column, underlined: second, decided before rounding and among complete rows only.",
)
_GAIN = "Gain in points against local training; a client is harmed where it is worse than under local training."
_NO_GAIN = "There is no local training among the methods, so no gain over it."
_COST = (
    "Bytes per client; seconds are the sum over all stages and clients of one round, gradients the per-image gradient "
    "evaluations of one round over all clients; means over trials, peak memory the maximum.",
    "“Once” is the exchange before round 1.",
)


@dataclass(frozen=True, eq=False)
class View:
    """A comparison group as the report sees it: its methods, the best first (none: no score yet), and its figures."""

    group: Group
    order: tuple[str, ...]
    gallery: Gallery | None  # None: no score yet
    reference: str | None = None  # whose printed rows stand below one's own

    @property
    def metric(self) -> str:
        """Return the metric of the main table."""
        return main_metric(self.group)


def view(group: Group, looks: Mapping[str, int], reference: str | None) -> View:
    """Rank the methods of a group and draw its figures."""
    frame, higher = seed_scores(group, "best"), METRICS[main_metric(group)].higher_is_better
    order: tuple[str, ...] = ()
    if not frame.empty:
        names, fair = [str(name) for name in summary(frame, None, higher)["variant"]], comparable(group, frame)
        order = tuple(sorted(names, key=lambda name: name not in fair))  # who is not ranked stands below
    return View(group, order, gallery(group, order, looks) if order else None, reference)


def results(view: View) -> Part | None:
    """Return the main table."""
    if not view.order:
        return None
    table = dice_table(view.group, "best", view.order, compared=True, reference=view.reference)
    gain = _GAIN if local_of(view.group) is not None else _NO_GAIN
    blocks: list[Block] = [Grid(table, f"{view.metric}-best"), Prose((*_READING, gain), "note")]
    if (gains := gain_table(view.group, "best", view.order)) is not None:
        blocks.append(Fold(gains.title, (Grid(gains, f"{view.metric}-gain"),)))
    return Part(table.title, (*blocks, Fold("Protocol card of this table", (_card(view, view.metric),))))


def _card(view: View, metric: str) -> FactSheet:
    return FactSheet("Compare only tables that agree in all of this", card(view.group, metric))


def certainty(view: View) -> Part | None:
    """Return what can be told from chance, and the diagram of ranks or why there is none."""
    if not view.order:
        return None
    found = differences(view.group)
    blocks: list[Block] = [Prose(found.sentences)]
    if found.table is not None:
        blocks += [Grid(found.table, "differences"), Prose(found.caveats, "note")]
    diagram = rank_diagram(view.group)
    blocks.append(Drawing(diagram) if diagram is not None else Prose((no_diagram(view.group),), "note"))
    return Part("Is the difference real?", blocks)


def further_metrics(view: View) -> Part | None:
    """Return the tables by the other metrics that were recorded."""
    metrics = other_metrics(view.group) if view.order else []
    tables = {m: dice_table(view.group, "best", view.order, False, m, view.reference) for m in metrics}
    blocks: list[Block] = []
    for metric, table in tables.items():
        blocks += [Prose((table.title,), "title"), Grid(table, f"{metric}-best")]
        blocks.append(Fold("Protocol card of this table", (_card(view, metric),)))
    return Part("By other metrics", blocks) if blocks else None


def last_round(view: View) -> Part | None:
    """Return the scores after the last round."""
    if seed_scores(view.group, "last").empty:
        return None
    table = dice_table(view.group, "last", view.order, compared=False)
    return Part(table.title, (Grid(table, f"{view.metric}-last", "small"),))


def figures(view: View) -> Part | None:
    """Return the figures, those of costs left to ``costs``, and why one is missing."""
    if view.gallery is None:
        return None
    topics = {topic: drawn for topic, drawn in view.gallery.topics.items() if topic != "cost"}
    blocks: list[Block] = [Drawing(picture) for drawn in topics.values() for picture in drawn]
    if view.gallery.remarks:
        blocks.append(Prose(view.gallery.remarks, "note"))
    return Part("Figures", blocks)


def each_client(view: View) -> Part | None:
    """Return every client's own numbers, folded."""
    tables = client_tables(view.group, view.order, view.metric) if view.order else {}
    folds = [
        Fold(client, (Grid(table, f"client-{index}"),)) for index, (client, table) in enumerate(tables.items(), start=1)
    ]
    note = Prose(
        (
            "± over seeds: population standard deviation over seeds of the client's mean. ± over cases: population "
            "standard deviation over the client's test cases, each averaged over seeds.",
        ),
        "note",
    )
    return Part("Each client", (note, *folds)) if folds else None


def costs(view: View) -> Part | None:
    """Return what the methods cost: table and figure."""
    frame = cost(view.group)
    if frame.empty:
        return None
    blocks: list[Block] = [Grid(cost_table(frame, view.order), "cost"), Prose(_COST, "note")]
    if len(machines := hardware(view.group)) > 1:
        unlike = f"The trials ran on different machines, so their seconds cannot be compared: {listed(machines)}."
        blocks.append(Prose((unlike,), "warning"))
    blocks += [Drawing(drawn) for drawn in (view.gallery.topics["cost"] if view.gallery is not None else [])]
    return Part("Cost", blocks)


def status(view: View) -> Part | None:
    """Return the trials without a result."""
    table = status_table(view.group)
    return Part(table.title, (Grid(table, "status", "words status"),)) if table is not None else None


def methods(view: View) -> Part | None:
    """Return a card for every method: what leaves the hospital, settings, source, citation."""
    cards = protocol.method_cards(view.group, view.order)
    note = Prose(("What leaves the hospital is stated by the method's author; the bytes are counted.",), "note")
    return Part("Methods, and what leaves the hospital", (note, Cards(cards))) if cards else None


def data(view: View) -> Part | None:
    """Return the cases per client, licences and citations."""
    clients, sources = protocol.client_table(view.group), protocol.sources(view.group)
    blocks: list[Block] = []
    if clients is not None:
        blocks += [Grid(clients, "clients"), Prose((protocol.client_total(view.group),), "note")]
    if sources is not None:
        blocks.append(Grid(sources, "sources", "words"))
    elif view.group.trials:
        blocks.append(Prose(("The trials name neither licence nor citation.",)))
    return Part("Data", blocks) if blocks else None


def text(view: View) -> Part | None:
    """Return the methods-and-protocol text for a paper."""
    found = paragraphs(view.group)
    words = Code("Methods and protocol", "\n\n".join(found), "readable")
    return Part("Text for the paper", (words,)) if found else None


def rules(view: View) -> Part | None:
    """Return the recipe and all else that the trials of the section share."""
    facts = protocol.protocol_facts(view.group)
    title = "Fixed for all trials of this section"
    return Part("Protocol", (Fold(title, (FactSheet(title, facts),)),)) if facts else None


def machines(view: View) -> Part | None:
    """Return versions and hardware."""
    if not view.group.trials:
        return None
    facts = protocol.environment_facts(view.group)
    if not facts:
        return Part("Machines and versions", (Prose(("The trials recorded no environment.",)),))
    title = "As recorded by the trials"
    return Part("Machines and versions", (Fold(title, (FactSheet(title, facts),)),))


def repeat(view: View) -> Part | None:
    """Return the commands that made the trials."""
    if not view.group.trials:
        return None
    found = protocol.commands(view.group)
    block = Code("Commands", "\n".join(found)) if found else Prose(("The trials recorded no command.",))
    return Part("To repeat it", (block,))
