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
                Chart("Who leads", "short", [Query("taskwire_outbox_relay_leader", "{{instance}}")], width=6),
                Chart(
                    "Since the last publish",
                    "s",
                    [Query("time() - (max(taskwire_outbox_last_publish_timestamp_seconds) > 0)", "last")],
                    width=6,
                ),
                Chart(
                    "Published",
                    "ops",
                    [Query(rate("taskwire_outbox_published_total", "result"), "{{result}}")],
                    width=6,
                ),
                Chart(
                    "One bulk publish",
                    "s",
                    [
                        Query(quantile(0.5, "taskwire_outbox_publish_seconds", ""), "p50"),
                        Query(quantile(0.99, "taskwire_outbox_publish_seconds", ""), "p99"),
                    ],
                    width=6,
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
                Chart(
                    "Versions that were missing",
                    "ops",
                    [
                        Query(rate("taskwire_inbox_missing_versions_total", "job"), "{{job}}: missing"),
                        Query(rate("taskwire_inbox_recovered_versions_total", "job"), "{{job}}: came after all"),
                    ],
                ),
                Chart(
                    "Version conflicts",
                    "ops",
                    [Query(rate("taskwire_audit_version_conflicts_total", "job"), "{{job}}")],
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
            "Streams and the feed",
            [
                Chart(
                    "Open streams",
                    "short",
                    [Query("sum by (instance) (taskwire_streams_open)", "{{instance}}")],
                    width=8,
                ),
                Chart(
                    "From the change to its event on a stream",
                    "s",
                    [
                        Query(quantile(0.5, "taskwire_stream_lag_seconds", ""), "p50"),
                        Query(quantile(0.95, "taskwire_stream_lag_seconds", ""), "p95"),
                    ],
                    width=8,
                ),
                Chart(
                    "Transactions behind the oldest open one",
                    "short",
                    [Query("max(taskwire_feed_held_back_transactions)", "held back")],
                    "The feed stops at the oldest transaction that has not ended: somebody may have left one open.",
                    width=8,
                ),
            ],
        ),
        (
            "Accounts and retention",
            [
                Chart("Open erasures", "short", [Query("max(taskwire_erasures_open)", "open")], width=6),
                Chart("Oldest erasure", "s", [Query("max(taskwire_erasures_oldest_age_seconds)", "oldest")], width=6),
                Chart(
                    "Events of accounts",
                    "ops",
                    [
                        Query(rate("taskwire_account_events_total", "job, outcome"), "{{job}}: {{outcome}}"),
                        Query(rate("taskwire_erasures_asked_again_total", "job"), "{{job}}: asked again"),
                    ],
                    width=6,
                ),
                Chart(
                    "Deleted for good",
                    "ops",
                    [Query(rate("taskwire_purged_rows_total", "table"), "{{table}}")],
                    width=6,
                ),
            ],
        ),
    ],
)
