#!/bin/sh
# Frames on a stream by MQTT 3.1.1, and their replies as they come: sh stream.sh FRAME...
set -eu

prefix="${DELEN_TOPIC_PREFIX:-delen/v1}/gate"
stream="shell-$$"

mqtt() {
    program="$1"
    shift
    "$program" -h "${DELEN_MQTT_HOST:-localhost}" -p "${DELEN_MQTT_PORT:-1883}" -V 311 -q 1 "$@"
}

# The broker keeps the replies from the first command on, whenever the last one fetches them.
mqtt mosquitto_sub -i "$stream" -c -t "$prefix/result/$stream" -E
for frame in "$@"; do
    mqtt mosquitto_pub -t "$prefix/request/$stream" -f "$frame"
done
mqtt mosquitto_sub -i "$stream" -c -t "$prefix/result/$stream" -C $# -W 10
# And forgets them.
mqtt mosquitto_sub -i "$stream" -t "$prefix/result/$stream" -E
