// What the sketch uses of PubSubClient 2.8, declared and nothing more.
#pragma once
#include <functional>

#include "WiFi.h"

#define MQTT_CALLBACK_SIGNATURE std::function<void(char *, uint8_t *, unsigned int)> callback

class PubSubClient {
 public:
  PubSubClient(Client &client);
  PubSubClient &setServer(const char *domain, uint16_t port);
  PubSubClient &setCallback(MQTT_CALLBACK_SIGNATURE);
  bool setBufferSize(uint16_t size);
  bool connect(const char *id, const char *user, const char *pass);
  bool connected();
  void disconnect();
  int state();
  bool subscribe(const char *topic, uint8_t qos);
  bool beginPublish(const char *topic, unsigned int plength, bool retained);
  size_t write(const uint8_t *buffer, size_t size);
  int endPublish();
  bool loop();
};
