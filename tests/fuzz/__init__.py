"""Requests that nobody thought of: schemathesis against the control plane, from the services' own OpenAPI documents."""
