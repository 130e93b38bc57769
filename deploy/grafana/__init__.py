"""Dashboards as code; `python -m deploy.grafana` writes them as Grafana reads them."""
