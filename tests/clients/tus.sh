#!/bin/sh
# Uploads a file with curl over tus, and goes on where the server says after every break.
#
#   tus.sh ENDPOINT TOKEN FILE
set -eu
endpoint=$1 token=$2 file=$3
size=$(wc -c <"$file")
name=$(basename "$file" | tr -d '\n' | base64 -w 0)

tus() { curl -fsS -H "Authorization: Bearer $token" -H 'Tus-Resumable: 1.0.0' "$@"; }
field() { tr -d '\r' | sed -n "s/^$1: *//Ip"; }

path=$(tus -X POST -H "Upload-Length: $size" -H "Upload-Metadata: filename $name" -D - "$endpoint" | field location)
url=${endpoint%/tus/}$path
offset=0
while [ "$offset" -lt "$size" ]; do
    tail -c "+$((offset + 1))" "$file" | tus -X PATCH -H "Upload-Offset: $offset" \
        -H 'Content-Type: application/offset+octet-stream' -T - "$url" || true
    offset=$(tus --head --retry 20 --retry-delay 1 --retry-all-errors "$url" | field upload-offset)
done
