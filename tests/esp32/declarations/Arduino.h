// What the sketch uses of Arduino's core for the ESP32, declared and nothing more.
#pragma once
#include <cstddef>
#include <cstdint>

class String {
 public:
  String(const char *text);
  const char *c_str() const;
};
String operator+(const String &one, const String &other);

class HardwareSerial {
 public:
  void begin(unsigned long baud);
  size_t write(const uint8_t *buffer, size_t size);
  size_t println();
  size_t println(const char *text);
  size_t printf(const char *format, ...) __attribute__((format(printf, 2, 3)));
};
extern HardwareSerial Serial;

class EspClass {
 public:
  void restart();
};
extern EspClass ESP;

void delay(uint32_t ms);
uint32_t millis();
