"""Uploads a file with tuspy as its documentation shows it, and stops where it is told to. Prints the upload's URL.

    tus_client.py ENDPOINT TOKEN FILE [--stop-at N] [--url URL] [--chunk N] [--retries N] [--blake3 HEX]
"""

import argparse

from tusclient import client

arguments = argparse.ArgumentParser()
arguments.add_argument("endpoint")
arguments.add_argument("token")
arguments.add_argument("file")
arguments.add_argument("--stop-at", type=int)
arguments.add_argument("--url")
arguments.add_argument("--chunk", type=int, default=3_000_000)
arguments.add_argument("--retries", type=int, default=1)
arguments.add_argument("--blake3")
asked = arguments.parse_args()

tus = client.TusClient(asked.endpoint, headers={"Authorization": f"Bearer {asked.token}"})
uploader = tus.uploader(
    asked.file,
    url=asked.url,
    chunk_size=asked.chunk,
    metadata={"filename": "film.mkv", **({"blake3": asked.blake3} if asked.blake3 else {})},
    retries=asked.retries,
    retry_delay=1,
    upload_checksum=True,
)
uploader.upload(stop_at=asked.stop_at)
print(uploader.url)
