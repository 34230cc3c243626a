"""The way of events, from the outbox to the consumers."""

from typing import Final

from deploy.observability.grafana.panels import Board, Chart, Query, quantile, rate

EVENTS: Final = Board(
    "taskwire-events",
    "Taskwire: the way of events",
    [
        (
            "Outbox and relay",
            [
                Chart("Waiting in the outbox", "short", [Query("max(taskwire_outbox_backlog_events)", "events")]),
                Chart("Age of the oldest", "s", [Query("max(taskwire_outbox_backlog_age_seconds)", "oldest")]),
                Chart("Who leads", "short", [Query("taskwire_outbox_relay_leader", "{{instance}}")], width=8),
                Chart(
                    "Published",
                    "ops",
                    [Query(rate("taskwire_outbox_published_total", "result"), "{{result}}")],
                    width=8,
                ),
                Chart(
                    "One bulk publish",
                    "s",
                    [
                        Query(quantile(0.5, "taskwire_outbox_publish_seconds", ""), "p50"),
                        Query(quantile(0.99, "taskwire_outbox_publish_seconds", ""), "p99"),
                    ],
                    width=8,
                ),
            ],
        ),
        (
            "Consumers",
            [
                Chart(
                    "From the change to its effect",
                    "s",
                    [
                        Query(quantile(0.5, "taskwire_event_delay_seconds", "job"), "{{job}} p50"),
                        Query(quantile(0.95, "taskwire_event_delay_seconds", "job"), "{{job}} p95"),
                    ],
                ),
                Chart(
                    "Since the last one processed",
                    "s",
                    [Query("time() - max by (job) (taskwire_event_last_success_timestamp_seconds)", "{{job}}")],
                    "Long while nothing is published is fine; the alert compares it with the last publish.",
                ),
                Chart(
                    "What events were",
                    "ops",
                    [Query(rate("taskwire_inbox_events_total", "job, verdict"), "{{job}}: {{verdict}}")],
                    width=8,
                ),
                Chart(
                    "What the sidecar was told",
                    "ops",
                    [Query(rate("taskwire_event_deliveries_total", "job, status"), "{{job}}: {{status}}")],
                    width=8,
                ),
                Chart(
                    "Events in a delivery, p95",
                    "short",
                    [Query(quantile(0.95, "taskwire_event_batch_size", "job"), "{{job}}")],
                    width=8,
                ),
            ],
        ),
        (
            "What went wrong",
            [
                Chart("Open gaps", "short", [Query("max by (job) (taskwire_inbox_open_gaps)", "{{job}}")], width=6),
                Chart(
                    "Oldest gap",
                    "s",
                    [Query("max by (job) (taskwire_inbox_oldest_gap_age_seconds)", "{{job}}")],
                    width=6,
                ),
                Chart(
                    "Open dead letters",
                    "short",
                    [Query("max by (job) (taskwire_dead_letters_open)", "{{job}}")],
                    width=6,
                ),
                Chart(
                    "Dead letters",
                    "ops",
                    [Query(rate("taskwire_dead_letters_total", "job, outcome"), "{{job}}: {{outcome}}")],
                    width=6,
                ),
            ],
        ),
        (
            "Sidecars",
            [
                Chart(
                    "Bulk publishes by daprd",
                    "ops",
                    [
                        Query(
                            rate("dapr_component_pubsub_egress_bulk_count", "app_id, topic, success"),
                            "{{app_id}} → {{topic}}: {{success}}",
                        )
                    ],
                ),
                Chart(
                    "Delivered by daprd",
                    "ops",
                    [
                        Query(
                            rate("dapr_component_pubsub_ingress_bulk_event_count", "app_id, topic, process_status"),
                            "{{topic}} → {{app_id}}: {{process_status}}",
                        )
                    ],
                ),
            ],
        ),
        (
            "Erasures and streams",
            [
                Chart("Open erasures", "short", [Query("max(taskwire_erasures_open)", "open")], width=8),
                Chart("Oldest erasure", "s", [Query("max(taskwire_erasures_oldest_age_seconds)", "oldest")], width=8),
                Chart(
                    "Open streams",
                    "short",
                    [Query("sum by (instance) (taskwire_streams_open)", "{{instance}}")],
                    width=8,
                ),
            ],
        ),
    ],
)
