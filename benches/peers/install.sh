#!/usr/bin/env bash
# Installs the distribution's NATS, RabbitMQ, etcd and PostgreSQL (Debian, Ubuntu), and protoc, which the build of
# the etcd client needs. None of them is started as a service: benches/peers/run.py starts its own.
set -euo pipefail

packages=(nats-server rabbitmq-server etcd-server postgresql protobuf-compiler libprotobuf-dev)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || { echo "all there: ${packages[*]}"; exit 0; }

# A package must not start its service while it is installed.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
