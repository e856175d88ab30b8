"""A Tornado application whose WebSocket takes handshakes of its own pages alone: Origin is compared with Host, as Tornado has
it. Tells its port and each handshake's credentials, a JSON object a line."""
import asyncio
import json

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket


def tell(**event):
    print(json.dumps(event), flush=True)


class Page(tornado.web.RequestHandler):
    def get(self):
        self.write("<!doctype html><link rel='icon' href='data:,'>")


class Echo(tornado.websocket.WebSocketHandler):
    def open(self):
        tell(event="open", authorization=self.request.headers.get("Authorization"))

    def on_message(self, message):
        self.write_message(message)


async def main():
    [socket] = tornado.netutil.bind_sockets(0, "127.0.0.1")
    server = tornado.httpserver.HTTPServer(tornado.web.Application([("/", Page), ("/ws", Echo)]))
    server.add_sockets([socket])
    tell(event="ready", port=socket.getsockname()[1])
    await asyncio.Event().wait()


asyncio.run(main())
