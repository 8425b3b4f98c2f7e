// What the sketch uses of Espressif's esp32-camera, declared and nothing more.
#pragma once
#include <cstddef>
#include <cstdint>

typedef int esp_err_t;
const esp_err_t ESP_OK = 0;

enum ledc_channel_t { LEDC_CHANNEL_0 };
enum ledc_timer_t { LEDC_TIMER_0 };
enum pixformat_t { PIXFORMAT_JPEG = 4 };
enum framesize_t { FRAMESIZE_QVGA = 6 };

struct camera_config_t {
  int pin_pwdn, pin_reset, pin_xclk, pin_sccb_sda, pin_sccb_scl;
  int pin_d7, pin_d6, pin_d5, pin_d4, pin_d3, pin_d2, pin_d1, pin_d0;
  int pin_vsync, pin_href, pin_pclk;
  int xclk_freq_hz;
  ledc_timer_t ledc_timer;
  ledc_channel_t ledc_channel;
  pixformat_t pixel_format;
  framesize_t frame_size;
  int jpeg_quality;
  size_t fb_count;
};

struct camera_fb_t {
  uint8_t *buf;
  size_t len;
};

esp_err_t esp_camera_init(const camera_config_t *config);
camera_fb_t *esp_camera_fb_get();
void esp_camera_fb_return(camera_fb_t *frame);
