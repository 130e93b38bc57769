"""The host that guests migrate to: receives pages, proves them, takes the guest over."""
