"""What a job costs beside its work: python -m bench.jobs"""
