"""Reads what the bus says while the demo runs, for the picture and for the holds."""

import threading
from collections.abc import Callable

from cli.demonstration.reading import LIFECYCLE_TOPICS, Raw, Said, open_at_beginning, said, take
from schemas.topics import DEAD_LETTERS, PREDICTIONS
from shared.dead_letters import is_mark
from shared.settings import KafkaSettings


class Follower:
    """A thread that hands over lifecycle events, predictions and dead letters, each kind to its own listener."""

    def __init__(
        self,
        *,
        kafka: KafkaSettings,
        models: tuple[str, ...],
        on_event: Callable[[Said], None],
        on_prediction: Callable[[Raw], None],
        on_dead_letter: Callable[[Raw], None],
    ) -> None:
        self.failure: Exception | None = None
        self._kafka = kafka
        self._topics = [*LIFECYCLE_TOPICS, DEAD_LETTERS, *(PREDICTIONS.of(model) for model in models)]
        self._on_event, self._on_prediction, self._on_dead_letter = on_event, on_prediction, on_dead_letter
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            consumer, unread = open_at_beginning(self._kafka, self._topics)
            while not self._stopped.is_set():
                for raw in take(consumer, unread):
                    self._hand_over(raw)
            consumer.close()
        except Exception as error:  # told by whoever runs the demo
            self.failure = error

    def _hand_over(self, raw: Raw) -> None:
        if raw.topic == DEAD_LETTERS:
            if not is_mark(raw.headers):
                self._on_dead_letter(raw)
        elif raw.topic in LIFECYCLE_TOPICS:
            if (heard := said(raw)) is not None:
                self._on_event(heard)
        else:
            self._on_prediction(raw)
