"""The first dashboard: what users feel, and what must be zero."""

from typing import Final

from deploy.observability.grafana.panels import OF_USERS, REQUESTS, Board, Chart, Figure, Query, quantile, rate

OVERVIEW: Final = Board(
    "taskwire-overview",
    "Taskwire: does it work?",
    [
        (
            "What users feel",
            [
                Figure(
                    "Services down", "short", 'count(up{job=~"task-api|audit-worker|notifier"} == 0) or vector(0)', 1
                ),
                Figure("Failing requests", "percentunit", "max(job:taskwire_http_errors:ratio_rate5m)", 0.001),
                Figure("Slower than 0.2 s", "percentunit", "max(job:taskwire_http_slow:ratio_rate5m)", 0.05),
                Figure("Oldest unsent change", "s", "max(taskwire_outbox_backlog_age_seconds)", 60),
                Figure("Change to effect, p95", "s", quantile(0.95, "taskwire_event_delay_seconds", ""), 30),
                Figure("Erasures overdue", "short", "max(taskwire_erasures_overdue)", 1),
            ],
        ),
        (
            "What must be zero",
            [
                Figure("Open gaps", "short", "max(taskwire_inbox_open_gaps)", 1),
                Figure("Open dead letters", "short", "sum(max by (job) (taskwire_dead_letters_open))", 1),
                Figure("Breakers open", "short", "count(taskwire_breaker_state == 2) or vector(0)", 1),
                Figure("No connection, 5 min", "short", "sum(increase(taskwire_database_pool_exhausted_total[5m]))", 1),
                Figure(
                    "Version conflicts, 1 h", "short", "sum(increase(taskwire_audit_version_conflicts_total[1h]))", 1
                ),
                Figure(
                    "Alerts firing",
                    "short",
                    'count(ALERTS{alertname=~"Taskwire.*",alertstate="firing"}) or vector(0)',
                    1,
                ),
            ],
        ),
        (
            "Alerts, and what was changed",
            [
                Chart(
                    "Firing",
                    "short",
                    [
                        Query(
                            'max by (alertname, job) (ALERTS{alertname=~"Taskwire.*",alertstate="firing"})',
                            "{{alertname}} {{job}}",
                        )
                    ],
                    "Each has a page in docs/runbook.",
                ),
                Chart(
                    "Replicas, by version",
                    "short",
                    [Query("count by (job, version) (taskwire_build_info)", "{{job}} {{version}}")],
                    "What began together with a new version began with it.",
                    width=6,
                ),
                Chart(
                    "Starts in a quarter of an hour",
                    "short",
                    [
                        Query(
                            'changes(process_start_time_seconds{job=~"task-api|audit-worker|notifier|daprd"}[15m])',
                            "{{job}} at {{instance}}",
                        )
                    ],
                    width=6,
                ),
            ],
        ),
        (
            "Traffic",
            [
                Chart("Requests", "reqps", [Query(rate(f"{REQUESTS}_count", "job", OF_USERS), "{{job}}")]),
                Chart(
                    "Events",
                    "ops",
                    [
                        Query(rate("taskwire_outbox_published_total", "result"), "published: {{result}}"),
                        Query(rate("taskwire_inbox_events_total", "job, verdict"), "{{job}}: {{verdict}}"),
                    ],
                ),
            ],
        ),
    ],
)
