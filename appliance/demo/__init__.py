"""The demo: a broker, an appliance, three sensors and a fleet manager on one machine."""
