// A frame of an ESP32-CAM (AI Thinker) every second, by MQTT 3.1.1, and the reply on the serial port.
// Libraries: the board package esp32 by Espressif, and PubSubClient 2.8 by Nick O'Leary.

#include <Arduino.h>
#include <PubSubClient.h>
#include <WiFi.h>
#include <esp_camera.h>

const char *WIFI_NAME = "your network";
const char *WIFI_PASSWORD = "its password";
const char *BROKER = "box.local";
const uint16_t PORT = 1883;
const char *TENANT = "gate";  // the broker's user name, too
const char *TENANT_PASSWORD = "";

const char *REQUEST = "delen/v1/gate/request/esp32-cam";
const char *RESULT = "delen/v1/gate/result/esp32-cam";

const uint32_t EVERY_MS = 1000;
const size_t CHUNK_BYTES = 1024;
const uint16_t REPLY_BYTES = 2048;  // a result with its five candidates has about 800

WiFiClient network;
PubSubClient mqtt(network);

bool startCamera() {
  camera_config_t config = {};
  config.ledc_channel = LEDC_CHANNEL_0;
  config.ledc_timer = LEDC_TIMER_0;
  config.pin_d0 = 5;
  config.pin_d1 = 18;
  config.pin_d2 = 19;
  config.pin_d3 = 21;
  config.pin_d4 = 36;
  config.pin_d5 = 39;
  config.pin_d6 = 34;
  config.pin_d7 = 35;
  config.pin_xclk = 0;
  config.pin_pclk = 22;
  config.pin_vsync = 25;
  config.pin_href = 23;
  config.pin_sccb_sda = 26;
  config.pin_sccb_scl = 27;
  config.pin_pwdn = 32;
  config.pin_reset = -1;
  config.xclk_freq_hz = 20000000;
  config.pixel_format = PIXFORMAT_JPEG;
  config.frame_size = FRAMESIZE_QVGA;  // the appliance scales it to the engine's input anyway
  config.jpeg_quality = 12;
  config.fb_count = 1;
  return esp_camera_init(&config) == ESP_OK;
}

void showReply(char *topic, uint8_t *payload, unsigned int length) {
  (void)topic;
  Serial.write(payload, length);
  Serial.println();
}

// Connects again where it has to; false where that will take another try.
bool connected() {
  if (WiFi.status() != WL_CONNECTED) return false;
  if (mqtt.connected()) return true;
  const String name = String("esp32-cam-") + WiFi.macAddress();
  if (!mqtt.connect(name.c_str(), TENANT, TENANT_PASSWORD)) {
    Serial.printf("the broker refuses the connection or is away: %d\n", mqtt.state());
    return false;
  }
  return mqtt.subscribe(RESULT, 1);
}

// A JPEG is larger than any buffer that there is room for beside it, so it goes out in pieces.
bool publishFrame(const camera_fb_t *frame) {
  if (!mqtt.beginPublish(REQUEST, frame->len, false)) return false;
  for (size_t sent = 0; sent < frame->len;) {
    const size_t left = frame->len - sent;
    const size_t wanted = left < CHUNK_BYTES ? left : CHUNK_BYTES;
    const size_t written = mqtt.write(frame->buf + sent, wanted);
    if (written == 0) {
      mqtt.disconnect();  // half a message: whatever followed would be taken for its rest
      return false;
    }
    sent += written;
  }
  return mqtt.endPublish() == 1;
}

void setup() {
  Serial.begin(115200);
  if (!startCamera()) {
    Serial.println("no camera: check the ribbon cable and the board's pins; restarting");
    delay(5000);
    ESP.restart();
  }
  WiFi.begin(WIFI_NAME, WIFI_PASSWORD);
  mqtt.setServer(BROKER, PORT);
  mqtt.setBufferSize(REPLY_BYTES);
  mqtt.setCallback(showReply);
}

void loop() {
  static uint32_t lastMs = 0;
  if (!connected()) {
    delay(1000);
    return;
  }
  mqtt.loop();
  if (millis() - lastMs < EVERY_MS) return;
  lastMs = millis();
  camera_fb_t *frame = esp_camera_fb_get();
  if (frame == nullptr) {
    Serial.println("the camera gave no picture");
    return;
  }
  if (!publishFrame(frame)) Serial.println("the frame did not reach the broker");
  esp_camera_fb_return(frame);
}
