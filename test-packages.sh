#!/bin/sh
# Install what some tests drive, Chromium for the pages and notebooks and FFmpeg for m4a, where that can be done unasked.
set -eu
has() { for name in "$@"; do if command -v "$name" >/dev/null; then return 0; fi; done; return 1; }

missing=""
has chromium chromium-browser google-chrome google-chrome-stable || missing="chromium"
has ffmpeg || missing="$missing ffmpeg"
if [ -z "$missing" ]; then exit 0; fi
if [ "$(id -u)" = 0 ] && grep -qs '^ID=debian' /etc/os-release; then
    echo "Installing the Debian packages" $missing
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing
else
    echo "The tests that need" $missing "are skipped. On Debian: sudo apt-get install" $missing >&2
fi
