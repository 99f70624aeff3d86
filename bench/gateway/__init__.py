"""What the gateway adds to a request, beside other proxies of the same run: python -m bench.gateway"""
