"""Load on an appliance, from outside: MLPerf's LoadGen on one side, MQTT on the other."""
