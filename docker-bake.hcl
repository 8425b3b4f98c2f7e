# The variants of the image: docker buildx bake cpu-amd64

variable "VERSION" {
  default = "0.1.0"
}

group "default" {
  targets = ["jetpack6", "jetpack7", "cpu-amd64", "cpu-arm64"]
}

target "appliance" {
  context = "."
  labels = {
    "org.opencontainers.image.version" = VERSION
  }
}

target "jetpack6" {
  inherits  = ["appliance"]
  platforms = ["linux/arm64"]
  tags      = ["delen:${VERSION}-jetpack6", "delen:jetpack6"]
  args = {
    BASE_IMAGE = "nvcr.io/nvidia/l4t-jetpack:r36.4.0"
    EXTRAS     = "jetson,dashboard,top"
  }
}

// From JetPack 7 on a Jetson runs the images of other Arm machines with NVIDIA GPUs.
target "jetpack7" {
  inherits  = ["appliance"]
  platforms = ["linux/arm64"]
  tags      = ["delen:${VERSION}-jetpack7", "delen:jetpack7"]
  args = {
    BASE_IMAGE = "nvcr.io/nvidia/tensorrt:25.08-py3"
    EXTRAS     = "jetson,dashboard,top"
  }
}

target "cpu" {
  inherits = ["appliance"]
  args = {
    BASE_IMAGE = "debian:bookworm-slim"
    EXTRAS     = "dashboard,top"
  }
}

target "cpu-amd64" {
  inherits  = ["cpu"]
  platforms = ["linux/amd64"]
  tags      = ["delen:${VERSION}-cpu-amd64", "delen:cpu"]
}

target "cpu-arm64" {
  inherits  = ["cpu"]
  platforms = ["linux/arm64"]
  tags      = ["delen:${VERSION}-cpu-arm64"]
}
