"""Goes on with an upload if what the server has is what the file begins with: resume.py HOST:PORT TOKEN UPLOAD FILE"""
import base64, hashlib, http.client, os, sys

host, token, upload, path = sys.argv[1:]
server, file = http.client.HTTPConnection(host), open(path, "rb")
fields = {"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0"}
server.request("HEAD", f"/tus/{upload}", headers=fields | {"Want-Repr-Digest": "md5=10"})
answer = server.getresponse()
answer.read()
offset, ours = int(answer.headers["Upload-Offset"]), hashlib.md5()
for at in range(0, offset, 1 << 20):
    ours.update(file.read(min(1 << 20, offset - at)))
if answer.headers["Repr-Digest"] != f"md5=:{base64.b64encode(ours.digest()).decode()}:":
    sys.exit(f"the first {offset} bytes differ")
file.seek(offset)
fields |= {"Content-Type": "application/offset+octet-stream", "If-Match": answer.headers["ETag"]}
fields |= {"Upload-Offset": str(offset), "Content-Length": str(os.path.getsize(path) - offset)}
server.request("PATCH", f"/tus/{upload}", file, fields)
print(f"went on at {offset}: {server.getresponse().status}")
