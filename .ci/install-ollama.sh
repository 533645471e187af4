#!/bin/bash
# Builds the real Ollama server from its Go module, for the integration tests,
# and prints the path of the binary. About 4 minutes the first time, nothing
# after that: a binary of this version that is there is used as it is.
# The tests look for it where this puts it, or where OLLAMA_BIN says.
set -euo pipefail
version=v0.17.4
here=$(cd "$(dirname "$0")" && pwd)
dest=${OLLAMA_TEST_DIR:-$HOME/.cache/ollama-test}/$version
if [ ! -x "$dest/ollama" ]; then
  # Module zips leave out every directory named "vendor", where llama.cpp keeps
  # its single-header libraries. Two come from Debian, the third is a stub.
  if [ ! -e /usr/include/nlohmann/json.hpp ] || [ ! -e /usr/include/stb/stb_image.h ]; then
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq >&2
    $sudo apt-get install -y -qq --no-install-recommends g++ nlohmann-json3-dev libstb-dev >&2
  fi
  mkdir -p "$dest/include" # a fixed path: it is part of the build cache's key
  cp -r "$here/ollama/miniaudio" "$dest/include/"
  march=""
  if grep -qw avx2 /proc/cpuinfo && grep -qw f16c /proc/cpuinfo && grep -qw fma /proc/cpuinfo; then march="-march=x86-64-v3"; fi
  export CGO_ENABLED=1 CGO_CPPFLAGS="-I$dest/include" CGO_CFLAGS="-O2 -g0 $march" CGO_CXXFLAGS="-O2 -g0 $march"
  GOFLAGS= GOBIN="$dest/tmp" go install \
    -ldflags="-s -w -X=github.com/ollama/ollama/version.Version=${version#v} -X=github.com/ollama/ollama/server.mode=release" \
    "github.com/ollama/ollama@$version" >&2
  mv "$dest/tmp/ollama" "$dest/ollama"
  rmdir "$dest/tmp"
fi
echo "$dest/ollama"
