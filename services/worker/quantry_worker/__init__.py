"""The worker: a Celery app whose slots run recipes in child processes."""
