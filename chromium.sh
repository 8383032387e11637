#!/bin/sh
# Install Chromium, which the tests of the page and of the notebooks drive, where that can be done unasked.
set -eu
for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && grep -qs '^ID=debian' /etc/os-release; then
    echo "Installing the Debian package chromium"
    apt-get update -qq && apt-get install -y -qq chromium
else
    echo "No Chromium or Chrome here, so the tests in a browser are skipped. On Debian: sudo apt-get install chromium" >&2
fi
