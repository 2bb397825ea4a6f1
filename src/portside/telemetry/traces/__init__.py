"""Traces: what each request waited for, as spans of OpenTelemetry.

Nothing outside of this package imports OpenTelemetry, which is an extra of Portside. Names and
attributes follow its semantic conventions; what these have no name for begins with `portside.`.
"""
