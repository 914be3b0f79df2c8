"""Where decisions hide labels: which of the events that are answered with false are acted on nevertheless, by lot."""

from services.deployer.domain.arms import position_of


def is_explored(event_id: str, model: str, share: float) -> bool:
    """Whether the lot falls on this event: a share of all events, whatever they are, the same at every reading.

    >>> is_explored("e1", "loans", 0.0), is_explored("e1", "loans", 1.0)
    (False, True)
    """
    return position_of(event_id, f"{model}/") < share  # no rollout's salt has a slash
