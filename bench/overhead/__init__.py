"""What the platform adds to a quantize that takes minutes: python -m bench.overhead"""
