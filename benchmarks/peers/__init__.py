"""What serving over MQTT adds to a direct call, beside what other servers add to it."""
