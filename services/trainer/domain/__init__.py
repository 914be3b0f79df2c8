"""Pure decisions: arrays, specs and seeds in; configurations, models, bytes and events out."""
