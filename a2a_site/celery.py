"""The Celery application. Its settings say why they are not the stock ones."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "a2a_site.settings")

from django.conf import settings

app = Celery("a2a_site")
app.conf.update(
    broker_url=settings.A2A_BROKER_URL,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_pool_acquire_timeout=2,
    broker_pool_limit=20,
    # With stock time-outs a half-open connection stalls a publisher for 55 s; with these for 4 s.
    broker_transport_options={
        "socket_timeout": 2,
        "socket_connect_timeout": 1,
        "health_check_interval": 5,
        "socket_keepalive": True,
        "retry_on_timeout": False,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 15,
        "priority_steps": [0],  # order is the controller's business; one list a queue
    },
    result_backend="routing.backend.LedgerBackend",
    result_extended=False,
    task_ignore_result=False,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_acks_late=False,  # the ledger, not the broker, keeps the task: a message is only a doorbell
    task_default_queue="intake",
    task_create_missing_queues=True,
    task_track_started=False,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_hijack_root_logger=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_send_task_events=False,
    task_send_sent_event=False,
    worker_pool="routing.pool:ThreadPool",
    worker_concurrency=settings.A2A_THREADS,
    worker_lost_wait=2,
    worker_consumer="routing.worker:Consumer",
    worker_enable_prefetch_count_reduction=False,
    enable_utc=True,
    timezone="UTC",
    # Celery would open a database connection for every task; routing.worker renews those that need it.
    CELERY_DB_REUSE_MAX=1_000_000_000,
)
app.steps["consumer"].add("routing.worker:Serve")
app.autodiscover_tasks()
