"""The catalogue of metrics that roles report: name, kind, labels and meaning; docs/reference/metrics.md is made from it."""

from typing import Final, Literal, NamedTuple


class Metric(NamedTuple):
    """What a metric is. A counter only grows while its process lives; its name ends in ``_total``."""

    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    meaning: str


METRICS: Final[dict[str, Metric]] = {
    "conosco_build_info": Metric("gauge", ("version",), "1, with the version that runs."),
    "conosco_ready": Metric("gauge", ("check",), "1 while a check of /health/ready is well, 0 while it is not."),
    "conosco_events_accepted_total": Metric("counter", (), "Events accepted, since the installation began."),
    "conosco_events_total": Metric("counter", ("outcome",), "Events by what became of them, since the installation began."),
    "conosco_events_warehoused": Metric("gauge", (), "Applied events in the warehouse."),
    "conosco_lag_seconds": Metric("gauge", (), "How old the newest applied record is while others wait to be applied."),
    "conosco_log_position": Metric("gauge", (), "The newest position that the worker has applied."),
    "conosco_log_bytes": Metric("gauge", (), "Bytes of the log on disk."),
    "conosco_log_files": Metric("gauge", (), "Files of the log."),
    "conosco_log_alarms": Metric("gauge", (), "Findings of damage to the log; `conosco verify` explains them."),
    "conosco_log_records_lost": Metric("gauge", (), "Records of the log that damage has cost."),
    "conosco_disk_free_bytes": Metric("gauge", (), "Bytes that are free where the data folder lies."),
    "conosco_deliveries": Metric(
        "gauge", ("destination", "state"), "Deliveries by state; delivered and denied ones since the beginning."
    ),
    "conosco_delivery_attempts_total": Metric(
        "counter", ("destination", "code"), "Attempts by what came of them, since the destination was made."
    ),
    "conosco_destination_breaker": Metric(
        "gauge", ("destination",), "Whether a destination is left alone: 0 closed (no), 1 half open, 2 open (yes)."
    ),
    "conosco_delivery_latency_p99_ms": Metric(
        "gauge", ("destination",), "Latency of the latest 256 deliveries, 99th percentile, in milliseconds."
    ),
    "conosco_role_resident_bytes": Metric("gauge", ("role",), "Memory that a role's process holds."),
    "conosco_role_cpu_seconds_total": Metric("counter", ("role",), "Processor time of a role's process, since it started."),
    "conosco_stage_seconds_total": Metric(
        "counter",
        ("stage",),
        "Time in each step of an event's life (estimated from one event in sixteen), since the worker started.",
    ),
    "conosco_source_events_total": Metric(
        "counter", ("source", "outcome"), "Events by source and by what became of them, since the worker started."
    ),
    "conosco_commits_total": Metric("counter", (), "Micro-batches committed, since the worker started."),
    "conosco_commit_seconds_total": Metric("counter", (), "Time spent in commits of State, since the worker started."),
}
