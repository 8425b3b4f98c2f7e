// What the sketch uses of the ESP32's WiFi library, declared and nothing more.
#pragma once
#include "Arduino.h"

enum wl_status_t { WL_CONNECTED = 3, WL_DISCONNECTED = 6 };

class Client {};
class WiFiClient : public Client {};

class WiFiClass {
 public:
  void begin(const char *name, const char *password);
  wl_status_t status();
  String macAddress();
};
extern WiFiClass WiFi;
