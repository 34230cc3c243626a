"""One service from inside: requests, database, calls to others, process."""

from typing import Final

from deploy.observability.grafana.panels import OF_USERS, REQUESTS, Board, Chart, Query, quantile, rate

SERVICES: Final = Board(
    "taskwire-services",
    "Taskwire: each service",
    [
        (
            "Requests",
            [
                Chart(
                    "Rate",
                    "reqps",
                    [
                        Query(
                            rate(f"{REQUESTS}_count", "method, route", f'job="$job",{OF_USERS}'),
                            "{{method}} {{route}}",
                        )
                    ],
                ),
                Chart(
                    "Errors",
                    "reqps",
                    [
                        Query(
                            rate(f"{REQUESTS}_count", "route, status", f'job="$job",{OF_USERS},status=~"[45].."'),
                            "{{status}} {{route}}",
                        )
                    ],
                ),
                Chart(
                    "p95 of each route",
                    "s",
                    [Query(quantile(0.95, REQUESTS, "route", f'job="$job",{OF_USERS}'), "{{route}}")],
                ),
                Chart("Being served", "short", [Query('taskwire_http_requests_in_flight{job="$job"}', "{{instance}}")]),
            ],
        ),
        (
            "Database",
            [
                Chart(
                    "Connections",
                    "short",
                    [
                        Query('sum by (state) (taskwire_database_pool_connections{job="$job"})', "{{state}}"),
                        Query('sum(taskwire_database_pool_max_connections{job="$job"})', "at most"),
                        Query('sum(taskwire_database_pool_waiting{job="$job"})', "waiting for one"),
                    ],
                ),
                Chart(
                    "Getting a connection",
                    "s",
                    [
                        Query(quantile(0.5, "taskwire_database_pool_wait_seconds", "", 'job="$job"'), "p50"),
                        Query(quantile(0.99, "taskwire_database_pool_wait_seconds", "", 'job="$job"'), "p99"),
                    ],
                    width=6,
                ),
                Chart(
                    "Got none",
                    "ops",
                    [Query(rate("taskwire_database_pool_exhausted_total", "instance", 'job="$job"'), "{{instance}}")],
                    "Each is a 503, or an event that is delivered again.",
                    width=6,
                ),
            ],
        ),
        (
            "Calls to others",
            [
                Chart(
                    "Calls",
                    "ops",
                    [
                        Query(
                            rate("taskwire_outbound_calls_total", "call, outcome", 'job="$job"'),
                            "{{call}}: {{outcome}}",
                        )
                    ],
                    width=8,
                ),
                Chart(
                    "Breakers",
                    "short",
                    [Query('taskwire_breaker_state{job="$job"}', "{{call}} at {{instance}}")],
                    "0 closed, 1 half open, 2 open",
                    width=8,
                ),
                Chart(
                    "Age of the keys", "s", [Query('taskwire_jwks_age_seconds{job="$job"}', "{{instance}}")], width=4
                ),
                Chart("Keys in use", "short", [Query('taskwire_jwks_keys{job="$job"}', "{{instance}}")], width=4),
            ],
        ),
        (
            "Limits and process",
            [
                Chart(
                    "Refused with 429",
                    "reqps",
                    [Query(rate("taskwire_rate_limited_total", "budget", 'job="$job"'), "{{budget}}")],
                    width=6,
                ),
                Chart(
                    "Not counted as they should be",
                    "reqps",
                    [
                        Query(
                            rate("taskwire_rate_limit_unshared_total", "budget", 'job="$job"'), "{{budget}} by itself"
                        ),
                        Query(rate("taskwire_rate_limit_uncounted_total", "instance", 'job="$job"'), "not at all"),
                    ],
                    width=6,
                ),
                Chart(
                    "CPU",
                    "percentunit",
                    [Query('rate(process_cpu_seconds_total{job="$job"}[$__rate_interval])', "{{instance}}")],
                    width=6,
                ),
                Chart("Memory", "bytes", [Query('process_resident_memory_bytes{job="$job"}', "{{instance}}")], width=6),
            ],
        ),
    ],
    of_one_service=True,
)
