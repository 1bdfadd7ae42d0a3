"""What a process needs to start. Everything an operator tunes live is a row, not a setting."""

import os
from pathlib import Path
from typing import Any

import dj_database_url
from csp.constants import NONE, SELF

from a2a_site import env

BASE_DIR = Path(__file__).resolve().parent.parent
A2A_HOME = env.state_directory(BASE_DIR / ".a2a")

DEBUG = env.flag("A2A_DEBUG")
SECRET_KEY = env.text("A2A_SECRET_KEY") or env.secret(A2A_HOME / "secret_key")
SECRET_KEY_FALLBACKS = env.names("A2A_OLD_SECRET_KEYS")  # open what they sealed and signed
A2A_HOST = env.text("A2A_HOST", "127.0.0.1")
A2A_PORT = env.number("A2A_PORT", 8000, low=1, high=65535)
ALLOWED_HOSTS = env.names("A2A_ALLOWED_HOSTS", f"127.0.0.1,localhost,[::1],{A2A_HOST}")
CSRF_TRUSTED_ORIGINS = env.names("A2A_TRUSTED_ORIGINS")

A2A_REDIS_URL = env.redis_url(A2A_HOME)
A2A_BROKER_URL = env.text("BROKER_URL") or env.kombu_url(A2A_REDIS_URL)
A2A_BROKER_IS_OUR_REDIS = A2A_BROKER_URL in (A2A_REDIS_URL, env.kombu_url(A2A_REDIS_URL))
A2A_RETENTION_DAYS = env.number("A2A_RETENTION_DAYS", 30, low=1)
A2A_MAX_INPUT_BYTES = env.number("A2A_MAX_INPUT_BYTES", 1_048_576, low=1024)
A2A_ARTIFACTS_DIR = Path(env.text("A2A_ARTIFACTS_DIR", str(A2A_HOME / "artifacts")))
A2A_WORK_DIR = A2A_HOME / "work"
A2A_CONFORMANCE = env.flag("A2A_CONFORMANCE")  # no credential, a test agent: refused unless bound to loopback
A2A_AGENT_MODULES = env.names("A2A_AGENT_MODULES") + (["routing.a2a.conformance_agent"] if A2A_CONFORMANCE else [])
A2A_WORKERS = env.number("A2A_WORKERS", os.cpu_count() or 2, low=1, high=256)
A2A_THREADS = env.number("A2A_THREADS", 16, low=1, high=1000)
A2A_MAX_THREADS = env.number("A2A_MAX_THREADS", 128, low=1, high=1000)  # a worker's threads follow its agents' slots
A2A_CELERY_TASKS = env.names("A2A_CELERY_TASKS")  # patterns of the project's own tasks that may be steps of workflows
A2A_AGENTS = env.names("A2A_AGENTS")  # the only agents that this worker serves; empty: all
A2A_FLOWER = env.flag("A2A_FLOWER", default=True)
A2A_NAME = env.text("A2A_NAME", "A2A Mission Control")  # of the fleet, on its agent card
A2A_URL = env.text("A2A_URL").rstrip("/")  # where others reach this site; empty: as a request addressed it
A2A_DEFAULT_SKILL = env.text("A2A_DEFAULT_SKILL")  # of a message by A2A that names none
A2A_OUTBOUND_ALLOW = env.names("A2A_OUTBOUND_ALLOW")  # networks that may be called for others although not public
A2A_CARD_KEY = env.text("A2A_CARD_KEY")  # file with the private key (PEM, P-256) that signs agent cards
A2A_CARD_KEY_ID = env.text("A2A_CARD_KEY_ID")
A2A_GRPC_PORT = env.number("A2A_GRPC_PORT", 0, low=0, high=65535)  # 0: no gRPC
A2A_FLOWER_URL = env.text("A2A_FLOWER_URL")  # with user and password; set by the supervisor

INSTALLED_APPS = [
    "a2a_site",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "csp",
    "django_celery_beat",
    "ninja",
    "routing",
    "coordination",
    "monitoring",
    "analytics",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "a2a_site.urls"
ASGI_APPLICATION = "a2a_site.asgi.application"
APPEND_SLASH = True

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# SQLite: writers queue for the lock at BEGIN (IMMEDIATE) instead of failing when they upgrade a read; WAL lets readers
# go on meanwhile. NORMAL keeps every commit through a crash of any process; FULL also through a loss of power.
# A checkpoint takes 10 ms: the controller makes them aside, and a commit only where the log has grown to 40 MB.
_SQLITE: dict[str, Any] = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": (
        "PRAGMA journal_mode=WAL;"
        f"PRAGMA synchronous={env.text('A2A_SQLITE_SYNCHRONOUS', 'NORMAL')};"
        "PRAGMA temp_store=MEMORY;PRAGMA cache_size=-32000;PRAGMA journal_size_limit=67108864;"
        "PRAGMA wal_autocheckpoint=10000;"
    ),
}
DATABASES: dict[str, Any] = {
    "default": dict(
        dj_database_url.config(
            default=f"sqlite:///{A2A_HOME / 'db.sqlite3'}", conn_max_age=600, conn_health_checks=True
        )
    )
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = _SQLITE
    # Django's test runner would use memory, which worker processes cannot share.
    DATABASES["default"]["TEST"] = {"NAME": str(A2A_HOME / "test.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "SAMEORIGIN"
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024 * 1024  # the doors have their own, smaller limits and better words
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [SELF],
        "base-uri": [NONE],
    }
}

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATIC_ROOT = A2A_HOME / "static"

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.text("A2A_LOG_LEVEL", "INFO")},
    "loggers": {
        "httpx": {"level": "WARNING"},
        # Traces of what clients do wrong; what goes wrong in here is told by our own handler.
        "a2a": {"level": "CRITICAL"},
        # Two lines for every task, which the ledger tells better.
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
    },
}
