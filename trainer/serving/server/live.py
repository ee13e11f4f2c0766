"""The model that is served, also when another takes its place.

address ─► named now ─► is it another? ─► load ─► ask about a grey photo ─► serve
                                             └── it cannot be: the old one answers on, and that is told
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import numpy as np

from ....datasets.emojis.text import display, name
from ..load import finding, identity, open_model
from ..model import Model

GREY = 128


@dataclass(frozen=True)
class Served:
    """A model that answers, and what is known of it."""

    model: Model
    name: str  # as models:/emojigan/3, or the path that it was loaded from
    digest: str  # which weights
    card: str  # Markdown; empty where it has none
    warning: str | None  # where it was trained with what is forgotten by now

    @property
    def called(self) -> dict[str, Any]:
        """What every answer says of who gave it."""
        version = self.name.rpartition("/")[2] if self.name.startswith("models:/") else None
        return {"name": self.name, "version": version, "digest": self.digest}

    @property
    def facts(self) -> dict[str, Any]:
        """All that is told of it, as JSON."""
        asked, facts = self.model.snapshot, self.model.snapshot.facts
        completes = asked.is_tied and not (asked.is_weighted and facts.sizes)
        return {
            **self.called,
            "step": facts.step,
            "image_size": facts.image_size,
            "dataset": facts.dataset,
            "vectors": facts.vectors,
            "scores": facts.scores,
            "completion": completes,
            "readings": completes and self.model.most_readings is not None,
            "warning": self.warning,
            "card": self.card or None,
            "vocabulary": [{"emoji": display(each), "name": name(each)} for each in facts.vocabulary],
        }


def open_served(address: str) -> Served:
    """A model that was asked already.

    Raises:
        InputError: there is none, it is damaged, or it cannot answer.
    """
    with finding(address) as found:
        warning = f"{found.name} {found.mark.warning}." if found.mark else None
        served = Served(open_model(found), found.name, found.digest, found.card, warning)
    size = served.model.image_size
    served.model.ask([np.full((size, size, 3), GREY, np.uint8)])
    return served


class Live:
    """What an address names, kept up to date.

    Args:
        tell: is given a line when another model is served, or cannot be.

    Raises:
        InputError: as open_served does.
    """

    def __init__(self, address: str, tell: Callable[[str], None]) -> None:
        self._address, self._tell = address, tell
        self._named = identity(address)
        self.served = open_served(address)
        self.trouble: str | None = None  # why what the address names now is not what is served
        self.reloads = 0

    def look(self) -> None:
        """Serve what the address names now, if that can be served."""
        try:
            if (named := identity(self._address)) != self._named:
                self.served, self._named = open_served(self._address), named
                self.reloads += 1
                self._tell(f"Now {self.served.name} answers (digest {self.served.digest[:12]}).")
            self.trouble = None
        except Exception as error:  # whatever it is, it must not end what answers
            trouble = f"{' '.join(str(error).split()) or type(error).__name__}"
            if trouble != self.trouble:
                self._tell(f"{self.served.name} answers on: {trouble}")
            self.trouble = trouble

    def follow(self, seconds: float) -> Event:
        """Look every so often, in a thread that ends when the event is set."""
        end = Event()

        def looking() -> None:
            while not end.wait(seconds):
                self.look()

        Thread(target=looking, daemon=True).start()  # a registry that hangs does not delay the end
        return end
