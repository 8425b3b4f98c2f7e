#!/bin/sh
# One frame by MQTT 5, and its reply on standard output: sh ask.sh FRAME
set -eu

request="${DELEN_TOPIC_PREFIX:-delen/v1}/gate/request"
reply="${DELEN_TOPIC_PREFIX:-delen/v1}/gate/result/ask-$$"

mqtt() {
    program="$1"
    shift
    "$program" -h "${DELEN_MQTT_HOST:-localhost}" -p "${DELEN_MQTT_PORT:-1883}" -V 5 -q 1 "$@"
}

case "$(mosquitto_rr --help)" in
*" version 2.0.11 "*)
    # Its mosquitto_rr sends an empty message in a file's place. The broker keeps the reply for the
    # session that the first command begins, and the last one ends.
    mqtt mosquitto_sub -i "ask-$$" -c -x 60 -t "$reply" -E
    mqtt mosquitto_pub -t "$request" -f "$1" -D publish response-topic "$reply"
    mqtt mosquitto_sub -i "ask-$$" -c -t "$reply" -C 1 -W 10
    ;;
*)
    mqtt mosquitto_rr -t "$request" -e "$reply" -f "$1" -W 10
    ;;
esac
