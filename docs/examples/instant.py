"""Stores a file that the server has already, by its MD5, without sending it: instant.py HOST:PORT TOKEN FILE PATH"""
import hashlib, http.client, json, os, sys
import blake3

host, token, file, path = sys.argv[1:]
server = http.client.HTTPConnection(host)

def claim(alg, value):
    item = {"path": path, "size": os.path.getsize(file), "digest": {"alg": alg, "value": value}}
    fields = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    server.request("POST", "/api/v1/claims", json.dumps({"items": [item]}), fields)
    return json.load(server.getresponse())["results"][0]

answer = claim("md5", hashlib.file_digest(open(file, "rb"), "md5").hexdigest())
ours = blake3.blake3().update_mmap(file).hexdigest() if answer["outcome"] == "candidates" else None
if ours in answer.get("blake3", []):
    answer = claim("blake3", ours)
print(answer["outcome"])
