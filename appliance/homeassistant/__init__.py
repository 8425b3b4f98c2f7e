"""What Home Assistant is told, so that an appliance and its tenants show up there by themselves."""
