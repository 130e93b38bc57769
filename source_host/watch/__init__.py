"""Those who look on: metrics, where a migration is heading, spans, the flow."""
