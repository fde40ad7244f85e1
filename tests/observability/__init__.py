"""Dashboards, alerts and autoscaling by metrics, held to what a live mesh tells."""
