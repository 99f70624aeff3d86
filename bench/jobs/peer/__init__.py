"""The peer: a bare Celery task, one commit, one local HTTP round trip. What any platform of this form must pay."""
