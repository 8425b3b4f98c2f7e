"""What monitoring systems read: counts since the start, and how the appliance stands now."""
