"""client.py URL MEBIBYTES COUNT [chunked]: uploads so much, so often, with http.client, which sends all of a body before it
reads. It tells what came of each upload, a JSON object a line."""

import http.client
import json
import sys
from urllib.parse import urlsplit

url, mebibytes, count, *how = sys.argv[1:]
where = urlsplit(url)
body = bytes(1 << 20)


def upload():
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    headers = {} if how else {"Content-Length": str(int(mebibytes) << 20)}
    parts = (body for _ in range(int(mebibytes)))
    try:
        connection.request("POST", where.path, parts, headers, encode_chunked=bool(how))
        response = connection.getresponse()
        text = response.read()
        return {"status": response.status, "bytes": len(text), "close": response.getheader("Connection")}
    except (OSError, http.client.HTTPException) as error:
        return {"error": repr(error)}
    finally:
        connection.close()


for _ in range(int(count)):
    print(json.dumps(upload()), flush=True)
