// ws, for Node.js, the way its README shows it.
"use strict";

const { WebSocketServer, WebSocket } = require("ws");
const { createServer } = require("node:http");

const [host, port, , compression = "off"] = process.argv.slice(2);

// The same parameters as the other servers': see arguments.py.
const deflate = {
  threshold: 1024,
  serverNoContextTakeover: compression === "shared",
  clientNoContextTakeover: compression === "shared",
  zlibDeflateOptions: compression === "full" ? { level: 6, memLevel: 8 } : { level: 1, memLevel: 5 },
};

const server = createServer();
const wss = new WebSocketServer({
  server,
  backlog: 4096,
  perMessageDeflate: compression === "off" ? false : deflate,
});
const receivers = new Set();

wss.on("connection", (ws, request) => {
  ws.on("error", console.error);
  switch (request.url) {
    case "/json":
      ws.on("message", (data) => ws.send(JSON.stringify(JSON.parse(data))));
      break;
    case "/receive":
      receivers.add(ws);
      ws.on("close", () => receivers.delete(ws));
      break;
    case "/publish":
      ws.on("message", (data) => {
        for (const receiver of receivers)
          if (receiver.readyState === WebSocket.OPEN) receiver.send(data, { binary: false });
      });
      break;
    default:
      ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary }));
  }
});

server.listen({ port: Number(port), host, backlog: 4096 }, () => {
  console.log(`ready ${process.pid}`);
});
