"""What `manage.py bench` measures: the product beside bare Celery, in turns, in one run. Nothing here is asserted."""
