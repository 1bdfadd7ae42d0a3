"""Every metric of the product: what it is called, how it is read, and what it says.  Pure."""

from __future__ import annotations

from monitoring.metrics import Kind, Metric

_GAUGES = {
    "a2a_host_cpu_ratio": ("ratio", "How busy the machine's processors are, by core."),
    "a2a_host_load": ("1", "Load average over a minute, for each core."),
    "a2a_host_memory_ratio": ("ratio", "Memory in use."),
    "a2a_host_memory_available_bytes": ("bytes", "Memory that can still be had."),
    "a2a_host_swap_ratio": ("ratio", "Swap space in use."),
    "a2a_host_disk_ratio": ("ratio", "Disk space in use where our state lives."),
    "a2a_host_disk_free_bytes": ("bytes", "Disk space that is left where our state lives."),
    "a2a_process_memory_bytes": ("bytes", "Resident memory of one of our processes."),
    "a2a_process_open_files": ("1", "Open file descriptors of one of our processes."),
    "a2a_process_threads": ("1", "Threads of one of our processes."),
    "a2a_process_uptime_seconds": ("s", "How long one of our processes has run."),
    "a2a_redis_up": ("1", "1 while Redis answers, else 0."),
    "a2a_redis_ping_seconds": ("s", "How long Redis took to answer."),
    "a2a_redis_memory_bytes": ("bytes", "Memory that Redis holds."),
    "a2a_redis_clients": ("1", "Clients connected to Redis."),
    "a2a_redis_slow_commands": ("1", "Entries of Redis' slow log."),
    "a2a_redis_append_only_ok": ("1", "1 while Redis' last write of its append-only file succeeded, or it has none."),
    "a2a_redis_stream_entries": ("1", "Entries of one of our streams."),
    "a2a_queue_messages": ("1", "Messages in one of the broker's queues."),
    "a2a_queue_unacknowledged": ("1", "Messages that workers hold and have not acknowledged."),
    "a2a_database_bytes": ("bytes", "Size of the database."),
    "a2a_database_log_bytes": ("bytes", "Size of SQLite's write-ahead log."),
    "a2a_database_connections": ("1", "Connections to the database (PostgreSQL)."),
    "a2a_database_blocked": ("1", "Connections that wait for a lock (PostgreSQL)."),
    "a2a_database_longest_query_seconds": ("s", "Age of the oldest statement under way (PostgreSQL)."),
    "a2a_database_ping_seconds": ("s", "How long the database took for the smallest query."),
    "a2a_tasks": ("1", "Tasks that wait, are delayed or are being worked at, by state."),
    "a2a_lane_waiting": ("1", "Tasks that wait, by skill."),
    "a2a_lane_oldest_seconds": ("s", "Age of the task that has waited longest, by skill."),
    "a2a_tasks_stuck": ("1", "Tasks that have waited for a minute and nobody can do."),
    "a2a_agent_running": ("1", "Attempts that the agent works at."),
    "a2a_agent_capacity": ("1", "Attempts that the agent may hold at once."),
    "a2a_agent_utilisation_ratio": ("ratio", "Share of the agent's slots that is taken."),
    "a2a_agent_served": ("1", "1 while a worker serves the agent, else 0."),
    "a2a_agent_breaker_open": ("1", "1 while the agent is left alone after failures, else 0."),
    "a2a_workers": ("1", "Workers that report to the controller."),
    "a2a_worker_threads": ("1", "Threads of the worker."),
    "a2a_worker_busy": ("1", "Attempts in flight on the worker."),
    "a2a_worker_silence_seconds": ("s", "How long ago the worker was heard of."),
    "a2a_fleet_utilisation_ratio": ("ratio", "Share of all slots that is taken."),
    "a2a_controller_silence_seconds": ("s", "Age of the leading controller's last snapshot."),
    "a2a_controller_epoch": ("1", "Number of the reign; it rises when another controller takes the lead."),
    "a2a_sampler_seconds": ("s", "How long a sampler took."),
    "a2a_sampler_up": ("1", "1 if the sampler brought something in time, else 0."),
    "a2a_series": ("1", "Series that the metric store took at the last tick."),
}
_COUNTERS = {
    "a2a_process_cpu_seconds_total": ("s", "Processor time that one of our processes has used."),
    "a2a_host_disk_read_bytes_total": ("bytes", "Read from the machine's disks."),
    "a2a_host_disk_written_bytes_total": ("bytes", "Written to the machine's disks."),
    "a2a_host_network_received_bytes_total": ("bytes", "Received by the machine's network interfaces."),
    "a2a_host_network_sent_bytes_total": ("bytes", "Sent by the machine's network interfaces."),
    "a2a_redis_evicted_keys_total": ("1", "Keys that Redis dropped for want of memory: it never should."),
    "a2a_redis_commands_total": ("1", "Commands that Redis has done."),
    "a2a_tasks_submitted_total": ("1", "Tasks accepted since this controller leads, by skill."),
    "a2a_tasks_ended_total": ("1", "Tasks that ended since this controller leads, by skill and state."),
    "a2a_tasks_retried_total": ("1", "Attempts that were followed by another one, by skill."),
    "a2a_agent_ended_total": ("1", "Tasks that ended on the agent since this controller leads, by state."),
    "a2a_samples_left_out_total": ("1", "Samples with one combination of labels too many, by metric."),
    "a2a_sampler_failures_total": ("1", "Times a sampler failed or was late."),
}
_DISTRIBUTIONS = {
    "a2a_task_wait_seconds": ("s", "From a task's turn to wait until an agent was chosen, by skill."),
    "a2a_attempt_seconds": ("s", "From the choice of the agent to the end, by agent."),
}

METRICS: dict[str, Metric] = {
    name: Metric(name=name, kind=kind, unit=unit, help=text)
    for kind, table in ((Kind.GAUGE, _GAUGES), (Kind.COUNTER, _COUNTERS), (Kind.DISTRIBUTION, _DISTRIBUTIONS))
    for name, (unit, text) in table.items()
}


def kind(name: str) -> Kind:
    """Return how the metric is read; one that is not ours is a counter if it is called so, else a gauge."""
    known = METRICS.get(name)
    return known.kind if known is not None else Kind.COUNTER if name.endswith("_total") else Kind.GAUGE
