"""Finds where an upload and a file differ, and sends only those parts again: mend.py HOST:PORT TOKEN UPLOAD FILE"""
import hashlib, http.client, json, sys

host, token, upload, path = sys.argv[1:]
server, file, upload = http.client.HTTPConnection(host), open(path, "rb"), f"/api/v1/uploads/{upload}"

def ask(method, url, body=None):
    server.request(method, url, body, {"Authorization": f"Bearer {token}"})
    return json.load(server.getresponse())

def local(start, end):
    file.seek(start)
    return file.read(end - start)

def same(start, end):
    theirs = ask("GET", f"{upload}/digest?start={start}&end={end}&alg=md5")
    return theirs["value"] == hashlib.md5(local(start, end)).hexdigest()

status = ask("GET", upload)
offset, part = status["offset"], status["part_size"]
while not same(0, offset):
    low, high = 0, offset  # the first byte that differs is in here
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if same(low, middle) else (low, middle)
    number = low // part
    print(f"byte {low} differs: sending part {number} again")
    ask("PUT", f"{upload}/parts/{number}", local(number * part, min(offset, (number + 1) * part)))
print(f"the first {offset} bytes are the same")
