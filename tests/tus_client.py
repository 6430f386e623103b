"""Uploads a file with tuspy as its documentation shows it, and stops where it is told to. Prints the upload's URL.

    tus_client.py ENDPOINT TOKEN FILE [--stop-at N] [--url URL]
"""

import argparse

from tusclient import client

arguments = argparse.ArgumentParser()
arguments.add_argument("endpoint")
arguments.add_argument("token")
arguments.add_argument("file")
arguments.add_argument("--stop-at", type=int)
arguments.add_argument("--url")
asked = arguments.parse_args()

tus = client.TusClient(asked.endpoint, headers={"Authorization": f"Bearer {asked.token}"})
uploader = tus.uploader(
    asked.file,
    url=asked.url,
    chunk_size=3_000_000,
    metadata={"filename": "film.mkv"},
    retries=1,
    upload_checksum=True,
)
uploader.upload(stop_at=asked.stop_at)
print(uploader.url)
